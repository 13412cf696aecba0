"""Safety rules of routing controls: what a change may not leave behind. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def broken(rules: Iterable[Mapping[str, Any]], state: Mapping[str, bool], overridden: Iterable[str]) -> str | None:
    """The ARN of the first assertion rule that `state` would break: {"arn", "controls", "at_least"}. None: all hold."""
    let_go = set(overridden)
    for rule in rules:
        on = sum(state.get(control, False) for control in rule["controls"])
        if rule["arn"] not in let_go and on < rule["at_least"]:
            return str(rule["arn"])
    return None
