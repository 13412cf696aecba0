"""Whom a promotion means: what the plan pinned, and the most advanced standby that is of it.

Separate from promoting, because demotion and protection judge by the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recovery.errors import BadInput, Failed, Refused
from tasks.kind import Facts, Scene
from tasks.postgres.roles.servers import Server, Silent, primaries, standbys, whys


@dataclass(frozen=True, kw_only=True, slots=True)
class Pinned:
    """What the plan pinned of the database: no other system is promoted, and only from this timeline."""

    system_id: str
    timeline: int


def pinned_of(scene: Scene, resource: str) -> Pinned:
    """What the plan pinned. Raises BadInput for a plan that pinned nothing of the database."""
    databases = scene.plan.pinned.get("databases")
    found = databases.get(resource) if isinstance(databases, dict) else None
    if not isinstance(found, dict):
        raise BadInput(f"the plan pinned nothing of {resource}", hint="make a new plan with 'dr plan'")
    return Pinned(system_id=str(found["system_id"]), timeline=int(str(found["timeline"])))


def whom(server: str, pinned: Pinned) -> Facts:
    """The arguments of an order to stop that tell the agent whom the plan means."""
    return {"server": server, "system_id": pinned.system_id}


def not_meant(stopped: Facts, server: str, pinned: Pinned) -> str:
    """Why an agent's word about a stopped server is not about the one that the plan means; empty when it is."""
    if stopped.get("server") != server:
        return f"the agent asked about {server} speaks of {stopped.get('server') or 'a server that it does not name'}"
    if stopped.get("system_id") != pinned.system_id:
        return f"{server} is of system {stopped.get('system_id')}, the plan is for {pinned.system_id}"
    return ""


def ours(found: Server, pinned: Pinned) -> bool:
    """Whether a primary is what this plan's promotion makes: the same system on a later timeline."""
    return found.primary and found.place.system_id == pinned.system_id and found.place.timeline > pinned.timeline


def choose(said: Mapping[str, Server | Silent], pinned: Pinned) -> Server:
    """The most advanced standby: on the pinned timeline, the highest LSN. Raises Refused for another system or a later
    timeline, which only a new plan may follow; Failed when none answers."""
    found = standbys(said)
    strange = next((each for each in found if each.place.system_id != pinned.system_id), None)
    if strange is not None:
        raise Refused(
            f"{strange.member} belongs to system {strange.place.system_id}, the plan is for {pinned.system_id}",
            hint="it was made anew since: make a new plan with 'dr plan'",
        )
    later = next((each for each in found if each.place.timeline > pinned.timeline), None)
    if later is not None:
        raise Refused(
            f"{later.member} stands on timeline {later.place.timeline}, the plan pinned {pinned.timeline}",
            hint="roles have changed since: make a new plan with 'dr plan'",
        )
    able = [each for each in found if each.place.timeline == pinned.timeline]
    if not able:
        behind = [f"{each.member} stands on timeline {each.place.timeline}" for each in found]
        why = "; ".join(filter(None, [*behind, whys(said)])) or "none is left"
        raise Failed(
            f"no standby on timeline {pinned.timeline} answers ({why})",
            hint="see whether the servers of the site run ('dr status'); without one, restore a backup there",
        )
    return max(able, key=lambda each: (each.place.timeline, each.received_lsn))


def promoted_already(said: Mapping[str, Server | Silent], pinned: Pinned) -> Server | None:
    """The primary of this plan, if it was promoted before; None when nobody there takes writes. Raises Refused for
    another one."""
    open_ = primaries(said)
    if not open_:
        return None
    if len(open_) > 1 or not ours(open_[0], pinned):
        first = open_[0]
        raise Refused(
            f"{first.member} takes writes already: timeline {first.place.timeline} of system {first.place.system_id}",
            hint="that is not what the plan pinned: see 'dr status', and make a new plan",
        )
    return open_[0]
