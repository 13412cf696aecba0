"""The ways `weights` and `record-edit`: the zone itself is changed, which needs Route53's control plane.

Separate from the calls (zone.py) and from what an edit is (recovery/zone_edit.py). A gradual shift holds each share for
a TTL, asks the probes between, and goes back when the site is no longer well.
"""

from __future__ import annotations

import time

from recovery.errors import BadInput, DrError
from recovery.zone_edit import WHOLE, RecordSet, batch, pointed, shifted
from tasks.kind import Facts
from tasks.route53.errand import Errand
from tasks.route53.zone import ZoneDoor, kept

IN_SYNC_SECONDS = 60.0
_PROBE_EVERY_SECONDS = 1.0


def edit(errand: Errand) -> Facts:
    """The way `record-edit`, at once: weights of a weighted name, values of another. Facts: `changes`, `rollback` (the
    whole batch that takes it back), `insync_seconds`."""
    door, before = _read(errand)
    weighted = any("Weight" in each for each in before)
    after = shifted(before, errand.dns, errand.site, WHOLE) if weighted else pointed(before, errand.dns, errand.site)
    return {**_undo(errand, before), **_sent(errand, door, before, after)}


def shift(errand: Errand) -> Facts:
    """The way `weights`, by the step's `shift` (default: at once). Facts as `edit`, and `shares`: each percentage with
    its seconds. Raises Refused when the site fails meanwhile; the weights are then as before."""
    door, first = _read(errand)
    undo = _undo(errand, first)
    before, shares = first, []
    for share in errand.shift:
        after = shifted(before, errand.dns, errand.site, share)
        sent = _sent(errand, door, before, after)
        shares.append({"percent": share, **sent})
        before = after
        if share != WHOLE:
            _held(errand, door, first, before, share)
    return {**undo, "shares": [*shares], "changes": sum(int(str(each["changes"])) for each in shares)}


def _held(errand: Errand, door: ZoneDoor, first: list[RecordSet], now: list[RecordSet], share: int) -> None:
    """One TTL at this share; the old weights come back when the site is not well under it."""
    deadline = time.monotonic() + errand.dns.ttl.total_seconds()
    errand.say(f"{share} % of {errand.dns.name} go to {errand.site}", share / WHOLE)
    try:
        errand.well()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _PROBE_EVERY_SECONDS))
            errand.well()
    except DrError:
        _sent(errand, door, now, first)
        raise


def _read(errand: Errand) -> tuple[ZoneDoor, list[RecordSet]]:
    door = ZoneDoor(errand.catalog)
    errand.say(f"reading {errand.dns.name} in its zone", None)
    found = door.sets(errand.dns)
    if not found:
        raise BadInput(
            f"the zone {errand.dns.zone} has no record {errand.dns.name} of type {errand.dns.type}",
            hint="create the records before they are needed: a name that was missing is remembered as missing",
        )
    return door, found


def _undo(errand: Errand, before: list[RecordSet]) -> Facts:
    return {"rollback": kept(errand.home.folder, errand.run, errand.step, before)}


def _sent(errand: Errand, door: ZoneDoor, before: list[RecordSet], after: list[RecordSet]) -> Facts:
    errand.may_act()  # a share ago it was asked last
    wanted = batch(before, after, f"standfast run {errand.run[:12]}: {errand.dns.name} to {errand.site}")
    if wanted is None:
        return {"changes": 0, "insync_seconds": 0.0}
    change = door.change(errand.dns, wanted)
    errand.say(f"the change of {errand.dns.name} goes to all name servers", None)
    seconds = door.in_sync(change, patience_seconds=min(IN_SYNC_SECONDS, errand.patience_seconds))
    return {"changes": len(wanted["Changes"]), "change": change, "insync_seconds": seconds}
