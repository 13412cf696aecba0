"""How fast restores of a resource were at a site, by what their runs say: rates to compare points by. Pure.

Separate from choose.py, which compares points by whatever rates it is given, and from forecast.py, which knows steps of
runbooks and not bytes. The usual rates stand where nothing was measured, and it is said which of the two it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from pydantic import JsonValue, ValidationError

from recovery.choose import Rates
from recovery.evidence import Record
from recovery.journal import results
from recovery.value import Instant, Value

if TYPE_CHECKING:
    from recovery.past import Past

COUNTED = 12
"""The newest restores count, so many of them."""
LEAST_WAL_FILES = 8
"""With fewer, the replay's seconds are those of a server that starts, not of WAL."""
USUAL = Rates()


class Speed(Value):
    """What one restore brought, and how long that took. Bytes are those of the backups' data, not what is stored."""

    site: str
    full_bytes: int
    incremental_bytes: int
    data_seconds: float
    wal_files: int
    replay_seconds: float | None = None


class Measured(Value):
    """A speed and when it was measured."""

    at: Instant
    speed: Speed


def speed(site: str, records: Sequence[Record]) -> dict[str, JsonValue] | None:
    """What a run's steps tell of its speed, as a fact of its last record; None when they do not tell."""
    told = results(records)
    fetched, recovered = told.get("fetch"), told.get("recover")
    facts = fetched if isinstance(fetched, dict) else {}
    names = ("full_bytes", "incremental_bytes", "data_seconds", "wal_files")
    if any(each not in facts for each in names):
        return None
    replay = recovered.get("replay_seconds") if isinstance(recovered, dict) else None
    return {"site": site, **{each: facts[each] for each in names}, "replay_seconds": replay}


def measured_of(run: Past) -> Measured | None:
    """What a run on record says of its speed. A planted fault may slow what it breaks: that is no measure."""
    facts = run.said.facts if run.said is not None else {}
    if facts.get("planted") or facts.get("speed") is None:
        return None
    try:
        return Measured.model_validate({"at": run.begun_at, "speed": facts["speed"]})
    except ValidationError:
        return None


def rates(found: Sequence[Measured], site: str) -> Rates:
    """The rates at a site by the newest restores there, in any order, with the reason in words.

    Data: by what factor they were faster or slower than the usual rates say, their median: a full and its incremental
    cannot be told apart in the seconds of one fetch. WAL: files over seconds, of those that replayed enough of it."""
    here = sorted((each for each in found if each.speed.site == site), key=lambda each: each.at)[-COUNTED:]
    speeds = [each.speed for each in here]
    factors = [_usual_seconds(each) / each.data_seconds for each in speeds if each.data_seconds > 0]
    factors = [each for each in factors if each > 0]
    if not factors:
        return USUAL.but(why=f"from usual rates, no restore at {site} measured yet")
    replayed = [(each.wal_files, each.replay_seconds) for each in speeds if each.wal_files >= LEAST_WAL_FILES]
    files = sum(count for count, seconds in replayed if seconds)
    seconds = sum(seconds for _, seconds in replayed if seconds)
    plural = "s" if len(factors) != 1 else ""
    return Rates(
        restore_bytes_per_second=USUAL.restore_bytes_per_second * median(factors),
        combine_bytes_per_second=USUAL.combine_bytes_per_second * median(factors),
        wal_segments_per_second=files / seconds if seconds else USUAL.wal_segments_per_second,
        why=f"from {len(factors)} restore{plural} at {site}{'' if seconds else ', WAL at the usual rate'}",
    )


def _usual_seconds(each: Speed) -> float:
    combined = each.incremental_bytes / USUAL.combine_bytes_per_second
    return each.full_bytes / USUAL.restore_bytes_per_second + combined
