"""How the lab speaks with its proxy: one JSON line there, one back."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

from deployments.lab.proxy.weather import PathWeather
from recovery.errors import Failed

PATIENCE_SECONDS = 10.0


def weather(control: Path) -> dict[str, PathWeather]:
    """The weather of every door, by link name. Raises Failed when no proxy answers."""
    answer = _ask(control, {"show": True})
    return {name: PathWeather.model_validate(each) for name, each in answer["weather"].items()}


def change(control: Path, weathers: Mapping[str, PathWeather]) -> None:
    """Change the weather of the named doors; returns when it holds. Raises Failed."""
    _ask(control, {"set": {name: each.model_dump(mode="json") for name, each in weathers.items()}})


def answers(control: Path) -> bool:
    """Whether a proxy listens there."""
    try:
        _ask(control, {"show": True})
    except Failed:
        return False
    return True


def _ask(control: Path, request: Mapping[str, object]) -> dict[str, dict[str, object]]:
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE_SECONDS)
            line.connect(str(control))
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as answer:
                said = json.loads(answer.readline() or b'{"error": "it hung up"}')
    except (OSError, ValueError) as trouble:
        raise Failed(f"the lab's proxy does not answer: {trouble}", hint="dr lab up repairs it") from trouble
    if "error" in said:
        raise Failed(f"the lab's proxy refused: {said['error']}", hint="see HOME/lab/log/proxy.log")
    answered: dict[str, dict[str, object]] = said
    return answered
