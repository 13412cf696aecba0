"""A small pure world for plans: the example catalog, what is seen of it, and people who approve."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from recovery.approval import Approval, ConsentPolicy, Given, GivenStanding, StandingApproval
from recovery.begun import Begun
from recovery.catalog import Catalog
from recovery.evidence import Signature
from recovery.hazard import Acceptance, agreed
from recovery.observation import CapacitySeen, DnsSeen, FenceSeen, LedgerSeen, MemberSeen, Observation, ProbeSeen
from recovery.runbook import Runbook
from recovery.step import Mode
from tasks import catalog_file
from tasks.runbook_file import library, load

EXAMPLE = Path(__file__).resolve().parents[2] / "deployments" / "catalog.example.yaml"
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


COMPONENTS = ("frontend", "backend", "video-processing")


def instances(count: int, at_most: int | None = 50, why: str = "") -> CapacitySeen:
    """A component's instances at a site that answers."""
    return CapacitySeen(answer="answers", at_least=count, desired=count, in_service=count, at_most=at_most, why=why)


@cache
def catalog() -> Catalog:
    return catalog_file.load(EXAMPLE)


@cache
def runbook(name: str) -> Runbook:
    return load(name, library(None), catalog())


def keys() -> dict[str, str]:
    return {person.key: name for name, person in catalog().consent.approvers.items()}


def policy() -> ConsentPolicy:
    return ConsentPolicy(n_of_m=catalog().consent.n_of_m, listed=keys())


def seen(
    *,
    behind_seconds: float | None = 4.2,
    primary: str = "east",
    epoch: int = 0,
    timeline: int = 1,
    fence: FenceSeen | None = None,
    ttl_seconds: float | None = 30.0,
    failing_seconds: float = 20.0,
    running: dict[str, str] | None = None,
    ledger: LedgerSeen | None = None,
    dns: DnsSeen | None = None,
    capacity: dict[str, dict[str, CapacitySeen]] | None = None,
    vcpus: dict[str, float] | None = None,
) -> Observation:
    """East is gone, west's standby is well and its instances carry all users, the witness answers; unless told
    otherwise."""
    other = "west" if primary == "east" else "east"
    members = (
        MemberSeen(site=primary, role="silent"),
        MemberSeen(
            site=other, role="standby", system_id="7", timeline=timeline, lsn=100, behind_seconds=behind_seconds
        ),
    )
    return Observation(
        at=NOW,
        service="core",
        primary=primary,
        epoch=epoch,
        running=running or {},
        probes={
            "app-east": ProbeSeen(outcome="failed", failing_seconds=failing_seconds),
            "app-west": ProbeSeen(outcome="passed"),
        },
        members={"validation-db": members},
        fences={"validation-db": fence or FenceSeen(lease="kept")},
        dns={
            "app": dns or DnsSeen(ttl_seconds=ttl_seconds, sites=("east", "west")),
            "rehearsal": DnsSeen(ttl_seconds=30.0, sites=("east", "west")),
        },
        ledger=ledger or LedgerSeen(),
        capacity=capacity if capacity is not None else {name: {other: instances(12)} for name in COMPONENTS},
        vcpus=vcpus or {},
    )


def acceptance(text: str) -> Acceptance:
    """`data-loss <= 10 s` or `split-brain`."""
    klass, _, limit = text.partition(" <= ")
    figure, _, unit = limit.partition(" ")
    return Acceptance(klass=klass, limit=float(figure) if figure else None, unit=unit)


def signature(who: str) -> Signature:
    named = {name: key for key, name in keys().items()}
    return Signature(who=who, key=named.get(who, "0" * 64), ed25519="0" * 128)


def approval(
    digest: str,
    epoch: int,
    who: str,
    accept: list[str],
    *,
    variant: str = "ungraceful",
    valid: bool = True,
    at: datetime = NOW,
) -> Given:
    made = Approval(
        digest=digest,
        epoch=epoch,
        who=who,
        accepted=tuple(acceptance(each) for each in accept),
        variant=Mode(variant),
        made_at=at,
        expires_at=at + timedelta(hours=1),
        signature=signature(who),
    )
    return Given(approval=made, valid=valid)


def begun(*given: Given, standing: GivenStanding | None = None, at: datetime = NOW, **other: Any) -> Begun:
    """What the first record of a run tells that began by these; `other` says what it tells else."""
    by = [signed.who for signed in standing.approval.signatures] if standing else [one.approval.who for one in given]
    accepted = [standing.approval.accepted] if standing else [one.approval.accepted for one in given]
    truth = Begun(
        at=at,
        by=tuple(sorted(by)),
        spends=tuple(one.approval.id for one in given),
        standing=standing.approval.id if standing else "",
        accepted=agreed(accepted, len(accepted)),
        vouched=True,
    )
    return replace(truth, **other)


def standing(book: str, who: list[str], conditions: dict[str, float], accept: list[str]) -> GivenStanding:
    made = StandingApproval(
        runbook=book,
        service="core",
        to="west",
        conditions=conditions,
        accepted=tuple(acceptance(each) for each in accept),
        made_at=NOW - timedelta(days=1),
        expires_at=NOW + timedelta(days=80),
        signatures=tuple(signature(each) for each in who),
    )
    return GivenStanding(approval=made, valid=(True,) * len(who))
