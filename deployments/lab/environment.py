"""The environment in which the lab's own Python processes find the code, whatever the current folder is."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def for_python() -> dict[str, str]:
    """PYTHONPATH with this checkout (or installation) first; no user site; output unbuffered."""
    return {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def module(name: str, *arguments: object) -> list[str]:
    """The arguments that run a module of this code in this interpreter."""
    return [sys.executable, "-m", name, *map(str, arguments)]
