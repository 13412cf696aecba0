"""Sweeping: scratch whose time is over, whoever made it; retention and leftovers in the buckets.

Separate because it runs when nobody watches: it discards only what carries an owner and an expiry, and says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from recovery import planners
from recovery.choose import Point
from recovery.drive import Halt, Move, Seen, Truth
from recovery.errors import DrError, Failed
from recovery.evidence import Record
from recovery.journal import results
from recovery.step import Step
from recovery.value import Value, in_utc
from tasks import backing
from tasks.engine import Act, Said, read_plan
from tasks.home import Home
from tasks.kind import Facts, Scene, Verb
from tasks.ledger_mirrored import MirroredLedger, Synced
from tasks.postgres.ending import keep_log
from tasks.postgres.scratch import Scratch, discard
from tasks.remembered import pasts_of
from tasks.retaining import Swept

READERS = frozenset({"prove", "restore"})
"""Purposes of runs that read backups."""


class Scratches(Value):
    """What became of the scratch folders: discarded, kept with the reason, and what could not be judged or removed."""

    discarded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def sweep_scratch(home: Home) -> Scratches:
    """Discard every scratch past its expiry. A folder without an owner's note is never touched, only told."""
    discarded: list[str] = []
    kept: list[str] = []
    troubles: list[str] = []
    for folder in sorted(home.scratch.glob("*")) if home.scratch.is_dir() else []:
        expires_at = _expiry(folder)
        if expires_at is None:
            troubles.append(f"{folder.name}: no owner's note, so it is not ours to discard")
        elif home.now() <= expires_at:
            kept.append(f"{folder.name}: until {expires_at:%Y-%m-%d %H:%M:%S}Z")
        else:
            keep_log(folder, home.folder / "log")
            try:
                discard(Scratch(folder=folder, bin_dir=Path(), user="postgres"))
            except DrError as trouble:
                troubles.append(f"{folder.name}: {trouble.fact}")
            else:
                discarded.append(folder.name)
    return Scratches(discarded=tuple(discarded), kept=tuple(kept), troubles=tuple(troubles))


def _expiry(folder: Path) -> datetime | None:
    try:
        return in_utc(datetime.fromisoformat(json.loads((folder / "owner.json").read_text())["expires_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Sweep(Value):
    """All that one sweep did. `troubles` are resources that could not be swept, `carried` the documents that copies of
    the ledger lacked, by place, `silent` the copies that did not answer."""

    scratch: Scratches
    sites: dict[str, tuple[Swept, ...]]
    troubles: tuple[str, ...] = ()
    carried: dict[str, int] = {}
    silent: dict[str, str] = {}


def look(home: Home, *, proven: frozenset[str]) -> Sweep:
    """What a sweep would do; nothing is touched, recorded or leased."""

    def judged(name: str) -> tuple[Swept, ...]:
        return backing.sweep(home, name, proven=proven, really=False, underway=lambda: underway(home, name))

    return Sweep(scratch=Scratches(), sites={name: judged(name) for name in sorted(home.catalog.resources)})


def sweep(act: Act, *, proven: frozenset[str]) -> Sweep:
    """Scratch, and every resource's buckets at all sites in one go: no site copies back what another removed. Each
    resource's sweep is a run of its own, under a lease, so that two never delete side by side; what the copies of the
    ledger lack is carried to them first. One resource's trouble does not keep the others from being swept."""
    ledger = act.home.ledger()
    synced = ledger.sync() if isinstance(ledger, MirroredLedger) else None
    made: dict[str, tuple[Scratches, tuple[Swept, ...]]] = {}
    troubles = [f"{key}: one thing in one copy of the ledger and another in another" for key in _conflicts(synced)]
    for name in sorted(act.home.catalog.resources):
        try:
            made[name] = _run(act, name, proven)
        except DrError as trouble:
            troubles.append(f"{name}: {trouble.fact}")
    scratches = [scratch for scratch, _ in made.values()]
    return Sweep(
        scratch=Scratches(
            discarded=tuple(each for one in scratches for each in one.discarded),
            kept=scratches[-1].kept if scratches else (),
            troubles=scratches[-1].troubles if scratches else (),
        ),
        sites={name: sites for name, (_, sites) in made.items()},
        troubles=tuple(troubles),
        carried=synced.copied if synced else {},
        silent=synced.unreachable if synced else {},
    )


def underway(home: Home, name: str) -> frozenset[str]:
    """The backups that unfinished proofs and restores of the resource read. Their plans stand in the ledger."""
    ledger = home.ledger()
    found: set[str] = set()
    for past in pasts_of(home).runs:
        if past.resource != name or past.outcome or past.purpose not in READERS:
            continue
        try:
            point = read_plan(ledger, past.run).pinned.get("point")
        except Failed:
            continue  # without its plan nobody can drive it on
        if isinstance(point, dict):
            found |= set(Point.model_validate(point).backups)
    return frozenset(found)


def _conflicts(synced: Synced | None) -> tuple[str, ...]:
    return synced.conflicts if synced else ()


def _run(act: Act, name: str, proven: frozenset[str]) -> tuple[Scratches, tuple[Swept, ...]]:
    lease = f"{name}-sweep"
    plan = planners.sweep(service=act.home.service_of(name), resource=name, now=act.home.now())
    verbs: dict[str, Verb] = {
        "clear-scratch": _Once(act=lambda: sweep_scratch(act.home).model_dump(mode="json")),
        "retain": _Once(act=lambda: _retained(act.home, name, proven)),
    }
    ended: list[Halt | None] = []

    def conclude(records: tuple[Record, ...], halt: Halt | None) -> Said:
        ended.append(halt)
        facts: Facts = {"why": halt.why if halt else "", **_counts(records)}
        return Said(kind="sweep", facts=facts, measures={}, outcome="missed" if halt else "met")

    act.discard_unfinished(lease, plan.run, lambda old: verbs)  # noqa: ARG005 -- cancelled, it performs nothing
    records = act.run(plan, verbs, lease=lease, conclude=conclude)
    if ended and (halt := ended[0]) is not None:
        raise Failed(halt.why, hint=halt.hint)
    said = results(records)
    sites = said["retain"]["sites"]  # type: ignore[index,call-overload]
    return Scratches.model_validate(said["clear-scratch"]), tuple(Swept.model_validate(each) for each in sites)  # type: ignore[union-attr]


def _retained(home: Home, name: str, proven: frozenset[str]) -> Facts:
    made = backing.sweep(home, name, proven=proven, really=True, underway=lambda: underway(home, name))
    return {"sites": [each.model_dump(mode="json") for each in made]}


def _counts(records: tuple[Record, ...]) -> dict[str, JsonValue]:
    retained = results(records).get("retain")
    sites = retained["sites"] if isinstance(retained, dict) else []
    made = [Swept.model_validate(each) for each in sites] if isinstance(sites, list) else []
    return {"removed": sum(len(each.removed) for each in made), "kept": sum(len(each.kept) for each in made)}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Once:
    """A move that is done once it is on record; doing it again is harmless."""

    act: Callable[[], Facts]

    def observe(self, step: Step, scene: Scene) -> Seen:
        """See Verb.observe."""
        if scene.results.get(step.id) is not None:
            return Seen(truth=Truth.HOLDS)
        return Seen(truth=Truth.ABSENT, why="not on record yet")

    def perform(self, move: Move, scene: Scene) -> Facts:  # noqa: ARG002 -- the port's shape
        """See Verb.perform."""
        return self.act()
