"""A proof's document is a function of its plan and its records; planners give plans that can be run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recovery import planners
from recovery.check import Check, Finding, Outcome, Verdict
from recovery.choose import Point, Target
from recovery.drive import Halt
from recovery.evidence import GENESIS, Record
from recovery.objective import Objective
from recovery.plan import Plan
from recovery.planted import Planted, judged, names
from recovery.proof import not_made, proof

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OBJECTIVE = Objective(category="critical", rpo=timedelta(minutes=15), rto=timedelta(minutes=30))
POINT = Point(
    backups=("full", "incr"), system_id="7", timeline=1, target=Target(kind="latest", lsn=5), segments=("a",),
    forecast_seconds=3,
)  # fmt: skip


def plan(sort: str = "latest", mutate: planners.Mutation | None = None) -> Plan:
    return planners.prove(service="p", resource="db", site="west", point=POINT, sort=sort, now=NOW, mutate=mutate)


def record(kind: str, step: str, begin: float, end: float, result: dict[str, object] | None = None) -> Record:
    return Record(
        run="r", sequence=0, previous=GENESIS, kind=kind, subject="db", who="me",
        begin=NOW + timedelta(seconds=begin), end=NOW + timedelta(seconds=end),
        facts={"step": step, "result": result or {}},  # type: ignore[dict-item]
    )  # fmt: skip


BROKEN = Halt(step="fetch", why="it broke", hint="mend it")
PASSED = Check(name="target", outcome=Outcome.PASSED, fact="as asked").model_dump(mode="json")


def run(
    *, checks: tuple[dict[str, object], ...] = (PASSED,), committed: str | None = "2026-11-24T11:59:57Z"
) -> list[Record]:
    return [
        record("step.ended", "fetch", 1, 5),
        record("step.ended", "verify", 5, 6),
        record("step.ended", "recover", 6, 8, {"committed_at": committed}),
        record("step.ended", "check", 8, 10, {"checks": list(checks)}),
        record("step.ended", "discard", 10, 11, {"leftovers": []}),
    ]


def test_a_met_proof_has_rpo_rto_and_phases_that_sum_to_the_wall() -> None:
    made = proof(plan(), "postgres", run(), OBJECTIVE, None)
    assert made.verdict is Verdict.MET
    assert made.rpo_seconds == 3
    assert made.rto_seconds == 10
    assert [(each.name, each.seconds) for each in made.phases] == [
        ("decide", 1), ("fetch", 4), ("verify", 1), ("recover", 2), ("check", 2),
    ]  # fmt: skip
    assert made.point == "full + incr"


def test_a_proof_to_a_moment_has_no_rpo() -> None:
    made = proof(plan("time"), "postgres", run(), OBJECTIVE, None)
    assert made.rpo_seconds is None
    assert made.verdict is Verdict.MET
    assert "rpo" not in [check.name for check in made.checks]


def test_when_the_backup_held_every_commit_rpo_counts_from_the_last_that_the_archive_knows() -> None:
    latest = Target(kind="latest", lsn=100, at=NOW - timedelta(seconds=7))
    idle = planners.prove(
        service="p", resource="db", site="west", point=POINT.but(target=latest), sort="latest", now=NOW
    )
    assert proof(idle, "postgres", run(committed=None), OBJECTIVE, None).rpo_seconds == 7
    assert proof(idle, "postgres", run()[:2], OBJECTIVE, BROKEN).rpo_seconds is None


def test_with_no_commit_behind_the_backup_rpo_counts_from_its_begin_visibly_and_proves_no_miss() -> None:
    def quiet(seconds: float) -> Plan:
        point = POINT.but(begun_at=NOW - timedelta(seconds=seconds))
        return planners.prove(service="p", resource="db", site="west", point=point, sort="latest", now=NOW)

    made = proof(quiet(60), "postgres", run(committed=None), OBJECTIVE, None)
    assert (made.rpo_seconds, made.verdict) == (60, Verdict.MET)
    assert "at most: no commit follows the backup" in next(each.fact for each in made.checks if each.name == "rpo")
    late = proof(quiet(3600), "postgres", run(committed=None), OBJECTIVE, None)
    assert (late.rpo_seconds, late.verdict) == (3600, Verdict.UNPROVEN)


def test_an_exceeded_objective_is_missed_and_an_unknown_one_unproven() -> None:
    tight = OBJECTIVE.but(rto=timedelta(seconds=9))
    made = proof(plan(), "postgres", run(), tight, None)
    assert made.verdict is Verdict.MISSED
    assert made.findings[0].fact == "RTO is 10.00 s of 9 s"
    assert proof(plan(), "postgres", run(committed=None), OBJECTIVE, None).verdict is Verdict.UNPROVEN


def test_a_halted_run_is_missed_with_its_reason() -> None:
    failed = [record("step.failed", "fetch", 1, 2), record("step.ended", "discard", 2, 3)]
    made = proof(
        plan(), "postgres", failed, OBJECTIVE, Halt(step="fetch", why="object base is missing", hint="use another")
    )
    assert made.verdict is Verdict.MISSED
    assert made.findings[0] == Finding(check="fetch", fact="object base is missing", hint="use another")


def test_a_halt_because_nothing_could_be_observed_is_unproven_not_missed() -> None:
    blind = Halt(step="fetch", why="S3 does not answer", hint="wait", unproven=True)
    made = proof(plan(), "postgres", [], OBJECTIVE, blind)
    assert made.verdict is Verdict.UNPROVEN
    assert made.findings[0].check == "fetch"


def test_leftovers_make_it_missed() -> None:
    records = [*run()[:-1], record("step.ended", "discard", 10, 11, {"leftovers": ["x"]})]
    assert proof(plan(), "postgres", records, OBJECTIVE, None).verdict is Verdict.MISSED


def test_what_could_not_be_begun_is_unproven_and_said() -> None:
    made = not_made(resource="db", kind="postgres", sort="mark", fact="no mark", hint="take one", now=NOW)
    assert made.verdict is Verdict.UNPROVEN
    assert made.findings[0].fact == "no mark"


@pytest.mark.parametrize(("stage", "before"), planners.PLANTED_BEFORE.items())
def test_a_fault_is_planted_in_its_place_and_judged_by_name(stage: str, before: str) -> None:
    mutated = plan("mark", planners.Mutation(name="rows-missing", stage=stage))
    ids = [step.id for step in mutated.steps]
    assert ids[ids.index("plant") + 1] == before
    assert mutated.step(before).needs == ("plant",)
    told = record("step.ended", "plant", 6, 7, {"name": "rows-missing", "what": "a row", "expects": ["public.orders"]})
    wrong = Check(
        name="content", outcome=Outcome.FAILED, fact="bad",
        findings=(Finding(check="content", fact="table public.orders: 1 rows missing", hint="h"),),
    ).model_dump(mode="json")  # fmt: skip
    made = proof(mutated, "postgres", [*run(checks=(wrong,)), told], OBJECTIVE, None)
    assert made.planted is not None
    assert made.planted.detected
    unplanted = proof(mutated, "postgres", run(), OBJECTIVE, None)
    assert unplanted.planted is not None
    assert not unplanted.planted.detected


def test_a_name_is_named_only_as_a_whole() -> None:
    assert names("table public.rows in database x", "public.rows")
    assert not names("table public.rows_old in database x", "public.rows")
    assert not judged(Planted(name="n", what="w", expects=("a",)), ()).detected


def test_a_restore_ends_settled_and_a_backup_is_one_step() -> None:
    kept = planners.restore(service="p", resource="db", site="west", point=POINT, into="/x", now=NOW)
    assert [step.id for step in kept.steps] == ["fetch", "verify", "recover", "settle", "clear"]
    assert [step.until for step in kept.steps] == ["settle", "settle", "settle", None, None]
    assert [step.always for step in kept.steps] == [False, False, False, False, True]
    taken = planners.backup(
        service="p", resource="db", site="east", kind="incremental", parent="full", slot=NOW, now=NOW
    )
    assert taken.step("take").arguments == {"kind": "incremental", "parent": "full"}
    assert (
        planners.backup(service="p", resource="db", site="east", kind="full", parent=None, slot=None, now=NOW).pinned[
            "slot"
        ]
        is None
    )


def test_scratch_is_discarded_whatever_happened() -> None:
    assert [step.id for step in plan().steps if step.always] == ["discard"]
    assert plan().step("fetch").until == "discard"
