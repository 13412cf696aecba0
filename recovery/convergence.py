"""When every name server and resolver answers the new site: each one's answers in time, and the figures of all. Pure.

Separate from asking them. An address may hide several caches, so one new answer proves little: a series of them without
an old one between does, and its first instant is the one that counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

Said = Literal["new", "other", "silent"]
SERIES = 2
"""So many new answers in a row; for weighted names `WEIGHTED_SERIES`, since a weight that is left shows by chance."""
WEIGHTED_SERIES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What one server has said so far. `new_seconds`: when its present series of new answers began."""

    last: Said = "silent"
    series: int = 0
    new_seconds: float | None = None
    asks: int = 0
    answered: bool = False
    words: str = "it was not asked yet"


def heard(watched: Watched, said: Said, *, at_seconds: float, words: str = "") -> Watched:
    """After one more answer. Silence neither proves nor disproves: the series waits for the next answer."""
    after = replace(watched, last=said, asks=watched.asks + 1, words=words)
    if said == "silent":
        return after
    if said == "other":
        return replace(after, series=0, new_seconds=None, answered=True)
    since = at_seconds if watched.new_seconds is None else watched.new_seconds
    return replace(after, series=watched.series + 1, new_seconds=since, answered=True)


def turned(watched: Watched, series: int = SERIES) -> bool:
    """Whether it answers the new site, now and long enough."""
    return watched.last == "new" and watched.series >= series


def converged(all_watched: Mapping[str, Watched], series: int = SERIES) -> bool:
    """Every one of them; nobody asked proves nothing."""
    return bool(all_watched) and all(turned(each, series) for each in all_watched.values())


def percentile(values: Iterable[float], share: float) -> float:
    """By nearest rank: the smallest value that `share` of them do not exceed. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def same(values: Sequence[str], wanted: str) -> bool:
    """Whether an answer gives exactly that address or name, whatever its spelling."""
    return bool(values) and all(plain(each) == plain(wanted) for each in values)


def plain(value: str) -> str:
    """One spelling: names in lower case without the last dot, IPv6 addresses shortened."""
    try:
        return str(ip_address(value))
    except ValueError:
        return value.lower().rstrip(".")
