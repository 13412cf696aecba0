"""Verbs: what each move's type promises, what it calls, and what may be said to it. Pure declarations.

Separate from the hands that perform them, because the stability lint (rule 5) judges a runbook long before it runs: on
the day, nothing may be found to need the very site that has gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import JsonValue


class Place(StrEnum):
    """Where a call goes."""

    FROM = "from"
    """The site that is left: in a failover, the impaired one."""
    TO = "to"
    WITNESS = "witness"
    NEUTRAL = "neutral"
    """No site's: name servers, resolvers, health checkers, ARC's endpoints."""


class Plane(StrEnum):
    """Control planes: what changes things by an API, and is the first to be missing on the day."""

    RECORDS = "Route53's record edits (us-east-1)"
    IAM = "IAM (us-east-1)"
    OF_FROM = "the control plane of the site that is left"
    OF_TO = "the control plane of the site that takes over"
    PREFECT = "Prefect"


GLOBAL = frozenset({Plane.RECORDS, Plane.IAM})


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """What a step cannot do without."""

    places: frozenset[Place] = frozenset()
    planes: frozenset[Plane] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """One verb. `at_site`: it also calls the site that its argument `site` names. `ways`: what each value of its
    argument `by` calls; several are tried in their order and one is enough. `arguments`: the allowed words (none: any).
    """

    what: str
    on: str
    """`service`, `database`, `dns` or `any`."""
    live: bool = False
    """It changes what users live on, unless its argument `scratch` says otherwise or it moves a rehearsal's name."""
    graceful: Calls = Calls()
    ungraceful: Calls = Calls()
    at_site: bool = False
    ways: Mapping[str, Calls] = field(default_factory=dict)
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required: tuple[str, ...] = ()


SITES = ("from", "to", "witness")
HERE = Calls()
BOTH = Calls(places=frozenset({Place.FROM, Place.TO}))
LEFT = Calls(places=frozenset({Place.FROM}))
TAKING = Calls(places=frozenset({Place.TO}))
NEUTRAL = Calls(places=frozenset({Place.NEUTRAL}))

FENCES = {
    "agent": LEFT,
    "cloud": Calls(planes=frozenset({Plane.OF_FROM})),
    "lease": Calls(places=frozenset({Place.WITNESS, Place.TO})),
}
"""TRUTH.md, fence: the agent's word, the cloud's isolation, or the lapsed lease."""
MOVES = {
    "health-check": NEUTRAL,
    "inverted-health-check": TAKING,
    "routing-control": NEUTRAL,
    "weights": Calls(planes=frozenset({Plane.RECORDS})),
    "record-edit": Calls(planes=frozenset({Plane.RECORDS})),
}
_SITE = {"site": SITES}
_SCRATCH: dict[str, tuple[str, ...]] = {"scratch": ("true", "false")}

VERBS: dict[str, Verb] = {
    "probe": Verb(what="asks the probes of a site", on="service", at_site=True, arguments=_SITE, required=("site",)),
    "declare": Verb(what="confirms the disaster by a quorum of vantage points", on="service", arguments={"quorum": ()}),
    "approve": Verb(what="has the consent that the plan and its hazards need", on="service"),
    "fence": Verb(
        what="proves that the old primary can write no more",
        on="database",
        live=True,
        ways=FENCES,
        arguments={"by": tuple(FENCES)},
        required=("by",),
    ),
    "unfence": Verb(what="lets a site serve again", on="database", live=True, at_site=True, arguments=_SITE),
    "promote": Verb(
        what="makes the standby the primary, once it has replayed all that the archive holds",
        on="database",
        live=True,
        graceful=BOTH,
        ungraceful=TAKING,
        arguments={"choose": ("most-advanced",), "unfenced": (), **_SCRATCH},
    ),
    "demote": Verb(
        what="stops writes, lets the standby reach the same LSN, stops the primary",
        on="database",
        live=True,
        graceful=BOTH,
        ungraceful=LEFT,
    ),
    "restore": Verb(
        what="restores a database to a moment, in a new home",
        on="database",
        graceful=TAKING,
        ungraceful=TAKING,
        arguments={"into": (), "target": ()},
        required=("into",),
    ),
    "losses": Verb(
        what="lists and exports the commits that a failover gave up", on="database", at_site=True, arguments=_SITE
    ),
    "sync": Verb(
        what="makes a site's database a standby again",
        on="database",
        live=True,
        graceful=BOTH,
        ungraceful=BOTH,
        at_site=True,
        arguments={**_SITE, "how": ("follow", "rebuild")},
        required=("site", "how"),
    ),
    "scale": Verb(
        what="brings a site to the instances that carry all users, and never to fewer than it has",
        on="service",
        live=True,
        graceful=Calls(planes=frozenset({Plane.OF_TO})),
        ungraceful=Calls(planes=frozenset({Plane.OF_TO})),
        at_site=True,
        arguments={**_SITE, "required": ("true", "false")},
    ),
    "redirect": Verb(
        what="moves a DNS name to a site",
        on="dns",
        live=True,
        ways=MOVES,
        arguments={**_SITE, "by": tuple(MOVES), "shift": ()},
        required=("site",),
    ),
    "drain": Verb(what="moves long-lived connections", on="dns", live=True, graceful=LEFT, arguments={"patience": ()}),
    "converge": Verb(
        what="sees the same answer at every name server and resolver",
        on="dns",
        graceful=NEUTRAL,
        ungraceful=NEUTRAL,
        arguments=_SITE,
        required=("site",),
    ),
    "validate": Verb(
        what="proves that the recovered service works",
        on="service",
        at_site=True,
        arguments={**_SITE, **_SCRATCH, "through": ("site", "names")},
        required=("site",),
    ),
    "protect": Verb(
        what="archives and backs up the new primary, and bars the old one from the archive",
        on="database",
        live=True,
        graceful=TAKING,
        ungraceful=TAKING,
    ),
    "quarantine": Verb(
        what="parks outgoing mail, webhooks and scheduled jobs",
        on="service",
        live=True,
        at_site=True,
        arguments={**_SITE, **_SCRATCH},
    ),
    "release": Verb(what="lets side effects go out again", on="service", live=True, at_site=True, arguments=_SITE),
    "notify": Verb(what="tells people", on="service", arguments={"whom": ()}),
    "run": Verb(
        what="runs a command on a site's machine",
        on="any",
        live=True,
        at_site=True,
        arguments={**_SITE, "command": (), **_SCRATCH},
        required=("site", "command"),
    ),
    "person": Verb(what="waits until a person has done something and says so", on="any", arguments={"ask": ()}),
    "runbook": Verb(what="does another runbook here", on="service", arguments={"runbook": ()}, required=("runbook",)),
    "bake": Verb(
        what="waits and watches that it stays well", on="service", at_site=True, arguments={**_SITE, "for": ()}
    ),
    "discard": Verb(
        what="throws scratch away and proves that nothing is left", on="database", graceful=TAKING, ungraceful=TAKING
    ),
}


def ways(verb: Verb, arguments: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """The ways that a step may go, in the order in which they are tried. Words that the verb doesn't know are left."""
    by = arguments.get("by")
    named = [by] if isinstance(by, str) else by if isinstance(by, list) else []
    return tuple(str(each) for each in named if each in verb.ways)


def calls(verb: Verb, arguments: Mapping[str, JsonValue], *, ungraceful: bool, way: str | None = None) -> Calls:
    """What a step calls in one variant, going one way."""
    found = verb.ungraceful if ungraceful else verb.graceful
    places, planes = set(found.places), set(found.planes)
    if way is not None:
        places |= verb.ways[way].places
        planes |= verb.ways[way].planes
    site = arguments.get("site")
    if verb.at_site and site in SITES:
        places.add(Place(str(site)))
    return Calls(places=frozenset(places), planes=frozenset(planes))
