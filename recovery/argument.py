"""What the free arguments of a verb have to be: spans, shares, moments, counts, words. Pure.

Separate from verb.py, which lists the words that may be said: these are judged when a runbook is read, too, so that
nobody finds one wrong at the step, in the worst hour.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import JsonValue

from recovery.objective import duration, duration_text
from recovery.value import in_utc

WHOLE = 100


def trouble(verb: str, name: str, value: JsonValue) -> tuple[str, str] | None:
    """What is wrong with a value, and what to write; None where nothing is, or where any value will do."""
    kind = _KINDS.get((verb, name))
    if kind is None or kind.holds(value):
        return None
    return f"`{name}` of `{verb}` is {value!r}, which is no {kind.what}", kind.hint


def too_long(verb: str, name: str, value: JsonValue, patience: timedelta) -> tuple[str, str] | None:
    """A span that the step's own patience does not reach."""
    if (verb, name) not in _SPANS or not _span(value) or duration(value) < patience:
        return None
    fact = f"`{name}` of `{verb}` is {value}, and the step's patience is {duration_text(patience)}"
    return fact, "give the step more patience, or ask for less"


def _span(value: JsonValue) -> bool:
    try:
        duration(value)
    except ValueError:
        return False
    return True


def _moment(value: JsonValue) -> bool:
    if not isinstance(value, str):
        return False
    if value == "latest" or (value.endswith(" ago") and _span(value.removesuffix(" ago"))):
        return True
    try:
        in_utc(datetime.fromisoformat(value))
    except ValueError:
        return False
    return True


def _shares(value: JsonValue) -> bool:
    listed = value if isinstance(value, list) else [value]
    last = 0
    for each in listed:
        if not isinstance(each, int) or isinstance(each, bool) or not last < each <= WHOLE:
            return False
        last = each
    return True


def _count(value: JsonValue) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _text(value: JsonValue) -> bool:
    return isinstance(value, str) and bool(value)


def _words(value: JsonValue) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(each) for each in value)


def _names(value: JsonValue) -> bool:
    return _text(value) or _words(value)


class _Kind:
    """A sort of value: for people, whether one is of it, and what to write."""

    def __init__(self, what: str, holds: Callable[[JsonValue], bool], hint: str) -> None:
        self.what, self.holds, self.hint = what, holds, hint


_A_SPAN = _Kind("duration", _span, "write it like 5 min")
_SPANS = {("bake", "for"), ("drain", "patience")}
_KINDS: dict[tuple[str, str], _Kind] = {
    **dict.fromkeys(_SPANS, _A_SPAN),
    ("declare", "quorum"): _Kind("number of points", _count, "write how many points must agree, or leave it away"),
    ("redirect", "shift"): _Kind("gradual shift", _shares, "write rising percentages, like [10, 50, 100]"),
    ("restore", "target"): _Kind("moment", _moment, "write '15 min ago', latest, or an instant with its zone"),
    ("restore", "into"): _Kind("place", _text, "write fresh, scratch or a folder"),
    ("run", "command"): _Kind("list of words", _words, "write command: [PROGRAM, ARGUMENT, …]; no shell is used"),
    ("notify", "whom"): _Kind("list of channels", _names, "name channels of the service's `notify`"),
    ("person", "ask"): _Kind("text", _text, "write what the person has to do"),
    ("promote", "unfenced"): _Kind("reason", _text, "write why it is promoted without a fence"),
    ("runbook", "runbook"): _Kind("name", _text, "name a runbook; see `dr runbook list`"),
}
