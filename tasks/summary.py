"""The facts of a move in one line, as a screen shows them: a task run's state, a timeline's row, a line of a log. Pure.

Separate so that a run reads the same whether Prefect drove it or it was brought there afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from recovery.point import lsn_text

NOTHING = "done"
"""Of a step that has nothing to say."""
MOST_WORDS = 4
"""So many words of a list are shown; of a longer one its length."""
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def summary(facts: Mapping[str, JsonValue]) -> str:
    """Figures with their units, a few words of a list as they are, else its length; false and empty ones left out."""
    return ", ".join(_said(facts)) or NOTHING


def _said(facts: Mapping[str, JsonValue]) -> Iterator[str]:
    for key, each in facts.items():
        name = key.replace("_", " ")
        match each:
            case bool() | None | "" | [] | dict():
                continue
            case list():
                yield f"{name} {', '.join(map(str, each))}" if _words(each) else f"{len(each)} {name}"
            case int() if name.split()[-1] == "lsn":
                yield f"{name.removesuffix('lsn')}LSN {lsn_text(each)}"
            case int() if name.split()[-1] == "bytes":
                yield f"{name.removesuffix('bytes')}{each / 1e6:.1f} MB"
            case int() | float() if name.split()[-1] == "seconds":
                yield f"{name.removesuffix('seconds')}{each:.2f} s"
            case float():
                yield f"{name} {each:.2f}"
            case _:
                yield f"{name} {_DIGEST.sub(_shortened, _INSTANT.sub(_to_the_second, str(each)))}"


def _words(found: list[JsonValue]) -> bool:
    return len(found) <= MOST_WORDS and all(isinstance(each, str) for each in found)


def _to_the_second(found: re.Match[str]) -> str:
    return f"{found[1]} {found[2]}Z"


def _shortened(found: re.Match[str]) -> str:
    return found[0][:12]
