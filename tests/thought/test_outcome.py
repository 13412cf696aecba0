"""What came of a change of roles: RTO as a partition, RPO, lost commits, the verdict. From records alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from recovery.drive import Halt
from recovery.epoch import change_key
from recovery.evidence import GENESIS, Record
from recovery.objective import Objective
from recovery.outcome import Changed, changed, step_seconds
from recovery.plan import Plan
from recovery.rto import SEGMENTS, rto, verification
from recovery.step import Mode, Step
from recovery.value import rfc3339

T0 = datetime(2026, 11, 24, 3, tzinfo=UTC)
OBJECTIVES = {"db": Objective.model_validate({"category": "c", "rpo": "15 min", "rto": "30 min", "proof_age": "1 day"})}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def step(id_: str, *needs: str, verb: str = "", **more: object) -> Step:
    return Step(id=id_, verb=verb or id_, resource=str(more.pop("resource", "db")), needs=needs, **more)  # type: ignore[arg-type]


FAILOVER = (
    step("declare"),
    step("approve", "declare"),
    step("fence", "approve"),
    step("promote", "fence"),
    step("validate", "promote", arguments={"site": "west"}),
    step("redirect", "validate"),
    step("converge", "redirect"),
    step("verify", "converge", verb="validate", arguments={"site": "west", "through": "names"}),
    step("protect", "promote"),
)
SWITCHOVER = (step("demote"), *(each.but(needs=("demote",)) if each.id == "fence" else each for each in FAILOVER[2:]))


def plan(steps: tuple[Step, ...] = FAILOVER, *, mode: Mode = Mode.UNGRACEFUL, live: bool = True) -> Plan:
    return Plan(
        purpose="failover",
        runbook="failover",
        runbook_version="1",
        service="core",
        epoch=4,
        asked_at=at(10),
        pinned={"from": "east", "to": "west", "live": live},
        mode=mode,
        steps=steps,
    )


Told = tuple[str, dict[str, object], float, float | None]


def records(*told: Told) -> tuple[Record, ...]:
    return tuple(
        Record(
            run="r",
            sequence=number,
            previous=GENESIS,
            kind=kind,
            subject="core",
            begin=at(begin),
            end=None if end is None else at(end),
            who="me",
            facts=facts,  # type: ignore[arg-type]
        )
        for number, (kind, facts, begin, end) in enumerate(told)
    )


def ended(name: str, begin: float, end: float, **result: object) -> Told:
    return ("step.ended", {"step": name, "attempt": 1, "result": result}, begin, end)


def begun(name: str, when: float) -> Told:
    return ("step.begun", {"step": name, "attempt": 1, "verb": name}, when, None)


def run(since: object = None, **more: object) -> Told:
    facts: dict[str, object] = {"consent": {"by": ["ann", "bob"]}, **more}
    if since:
        facts["outage_since"] = since
    return ("run.begun", facts, 12, None)


PROMOTED: Mapping[str, object] = {
    "timeline": 2,
    "system_id": "7",
    "lsn": 100,
    "recovered_until": rfc3339(at(-1.5)),
}
WHOLE: tuple[Told, ...] = (
    ended("declare", 12, 13, failing_since=rfc3339(T0)),
    ended("approve", 13, 14),
    ended("fence", 14, 16),
    ended("promote", 16, 18, **PROMOTED),
    ended("validate", 18, 18.5),
    ended("redirect", 19, 20),
    ended("converge", 20, 22),
    ended("verify", 22, 22.25),
    ended("protect", 18, 90),
)


def test_a_failover_is_told_from_the_beginning_of_the_outage_to_the_service_verified_by_its_name() -> None:
    told = changed(plan(), records(run(), *WHOLE), OBJECTIVES, None)
    assert told.rto_seconds == pytest.approx(22.25)
    assert told.rto_segments == pytest.approx(
        {"detect": 10.0, "declare": 1.0, "decide": 3.0, "act": 6.0, "converge": 2.0, "verify": 0.25}
    )
    assert {each.name: each.seconds for each in told.rto_steps} == pytest.approx(
        {"fence": 2.0, "promote": 2.0, "validate": 0.5, "orchestrate": 0.5, "redirect": 1.0}
    )
    assert (told.rpo_seconds, told.lost_commits, told.timeline_id, told.epoch) == (1.5, "unproven", 2, 5)
    assert (told.outcome, told.consent, told.stopped, told.findings) == ("met", ("ann", "bob"), None, ())
    assert (told.source, told.target, told.served_at) == ("east", "west", at(22.25))


def test_protecting_takes_long_and_is_not_on_the_way() -> None:
    assert rto(plan(), records(run(), *WHOLE[:-1])).seconds == rto(plan(), records(run(), *WHOLE)).seconds


def test_the_users_word_on_the_beginning_wins() -> None:
    told = rto(plan(), records(run(rfc3339(at(-30))), *WHOLE))
    assert (told.seconds, told.segments["detect"]) == (pytest.approx(52.25), pytest.approx(40.0))


def test_a_plan_made_before_the_outage_has_nothing_to_detect_but_the_time_until_it_was_acted_on() -> None:
    told = rto(plan(), records(run(rfc3339(at(11))), *WHOLE))
    assert told.seconds == pytest.approx(11.25)
    assert (told.segments["detect"], told.segments["decide"]) == (0.0, pytest.approx(2.0))


def test_without_any_beginning_detect_is_unproven_and_never_zero() -> None:
    silent = (ended("declare", 12, 13), *WHOLE[1:])
    told = changed(plan(), records(run(), *silent), OBJECTIVES, None)
    assert (told.rto_seconds, told.rto_segments["detect"], told.rpo_seconds) == (None, "unproven", None)
    assert told.outcome == "unproven"
    assert "--outage-since" in told.findings[0]


def test_a_run_that_has_not_verified_has_no_rto() -> None:
    halt = Halt(step="promote", why="no standby", hint="look", unproven=False)
    told = changed(plan(), records(run(), *WHOLE[:3]), OBJECTIVES, halt)
    assert (told.rto_seconds, told.rto_segments, told.databases, told.epoch) == (None, {}, (), 4)
    assert told.outcome == "missed"
    assert told.stopped is not None
    assert told.stopped.step == "promote"
    blind = Halt(step="promote", why="silent", hint="look", unproven=True)
    assert changed(plan(), records(run()), OBJECTIVES, blind).outcome == "unproven"
    cancelled = records(run(), ("order.cancelled", {"why": "no"}, 13, None))
    ended_by_people = changed(plan(), cancelled, OBJECTIVES, halt)
    assert (ended_by_people.outcome, ended_by_people.stopped) == ("cancelled", None), "nobody goes on with it"
    assert ended_by_people.findings[0] == "cancelled: no"
    assert ended_by_people.lost_commits == 0, "nothing was promoted, so nothing was given up"
    begun = ("step.begun", {"step": "promote", "attempt": 1}, 16, None)
    promoting = records(run(), begun, ("order.cancelled", {"why": "no"}, 19, None))
    assert changed(plan(), promoting, OBJECTIVES, halt).lost_commits == "unproven"


def test_a_run_that_stands_still_says_by_which_commands_it_goes_on() -> None:
    resume = f"dr resume {plan().run[:12]}"

    def going_on(halt: Halt, *orders: tuple[str, dict[str, JsonValue], float, None]) -> tuple[str, ...]:
        stopped = changed(plan(), records(run(), *orders), OBJECTIVES, halt).stopped
        assert stopped is not None
        return stopped.going_on(plan().run)

    assert going_on(Halt(step="promote", why="silent", hint="look", unproven=True)) == (resume,)
    spent = Halt(step="promote", why="no standby (after 3 of 3 tries)", hint="look", spent=True)
    assert going_on(spent) == (f"dr run retry {plan().run[:12]} promote --as NAME", resume)
    paused = ("order.paused", {"why": "lunch"}, 13.0, None)
    order = f"dr run resume {plan().run[:12]} --as NAME"
    assert going_on(Halt(step="promote", why="paused: lunch", hint="look"), paused) == (order, resume)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [(at(-3600), at(-3601), "RTO is"), (T0, at(-1000), "RPO of db is")],
)
def test_a_promise_that_was_not_kept_is_missed(since: datetime, until: datetime, said: str) -> None:
    whole = [
        ended("promote", 16, 18, **{**PROMOTED, "recovered_until": rfc3339(until)})
        if told[1]["step"] == "promote"
        else told
        for told in WHOLE
    ]
    told = changed(plan(), records(run(rfc3339(since)), *whole), OBJECTIVES, None)
    assert told.outcome == "missed"
    assert any(each.startswith(said) for each in told.findings)


def test_an_unknown_end_of_what_came_back_is_unproven() -> None:
    whole = [ended("promote", 16, 18) if told[1]["step"] == "promote" else told for told in WHOLE]
    told = changed(plan(), records(run(), *whole), OBJECTIVES, None)
    assert (told.outcome, told.rpo_seconds, told.timeline_id) == ("unproven", None, None)
    assert "came back" in told.findings[0]
    assert changed(plan(), records(run(), *whole), {}, None).outcome == "unproven", "no promise makes it known"


def test_a_graceful_change_counts_from_the_stop_of_writes_and_loses_nothing() -> None:
    whole = (begun("demote", 13), ended("demote", 13, 14, lsn=100), *WHOLE[2:])
    told = changed(plan(SWITCHOVER, mode=Mode.GRACEFUL), records(run(), *whole), OBJECTIVES, None)
    assert told.rto_seconds == pytest.approx(9.25)
    assert "detect" not in told.rto_segments
    assert (told.rpo_seconds, told.lost_commits, told.outcome) == (0.0, 0, "met")


def test_a_graceful_change_counts_from_the_last_write_unless_the_demotion_was_tried_again() -> None:
    quiet = ended("demote", 13, 14, lsn=100, at=rfc3339(at(13.5)))
    once = changed(
        plan(SWITCHOVER, mode=Mode.GRACEFUL), records(run(), begun("demote", 13), quiet, *WHOLE[2:]), {}, None
    )
    assert once.rto_seconds == pytest.approx(8.75)
    again = records(run(), begun("demote", 12.5), begun("demote", 13), quiet, *WHOLE[2:])
    assert rto(plan(SWITCHOVER, mode=Mode.GRACEFUL), again).seconds == pytest.approx(9.75)


def test_a_graceful_change_that_never_stopped_the_old_primary_claims_nothing() -> None:
    told = changed(plan(SWITCHOVER, mode=Mode.GRACEFUL), records(run(), *WHOLE[2:]), OBJECTIVES, None)
    assert (told.rto_seconds, told.lost_commits, told.outcome) == (None, "unproven", "unproven")


def test_switched_to_ungraceful_in_mid_run_it_is_told_as_such() -> None:
    ordered: Told = ("order.ungraceful", {"who": "ann"}, 15, None)
    whole = (begun("demote", 13), ended("demote", 13, 14, lsn=100), ordered, *WHOLE[2:])
    told = changed(plan(SWITCHOVER, mode=Mode.GRACEFUL), records(run(rfc3339(T0)), *whole), OBJECTIVES, None)
    assert (told.mode, told.lost_commits, told.rpo_seconds) == (Mode.UNGRACEFUL, "unproven", 1.5)


def test_a_drill_counts_from_its_beginning_and_gives_up_nothing() -> None:
    told = changed(plan(mode=Mode.GRACEFUL, live=False), records(run(), *WHOLE), OBJECTIVES, None)
    assert told.rto_seconds == pytest.approx(10.25)
    assert (told.lost_commits, told.epoch, told.live) == (0, 4, False)


def test_what_a_cancelled_run_gave_back_is_told_once_and_where_a_copy_was_kept() -> None:
    back = ("step.undone", {"step": "fence", "why": "east is the primary again"}, 15, None)
    kept = ("step.kept", {"step": "promote", "kept": "its promotion had begun"}, 15, None)
    told = changed(plan(), records(run(), ("order.cancelled", {"why": "a false alarm"}, 14, None), back, back, kept),
                   OBJECTIVES, None)  # fmt: skip
    assert told.outcome == "cancelled"
    assert told.findings[-2:] == ("east is the primary again", "its promotion had begun")
    restore = (Step(id="restore", verb="restore", resource="orders-db"),)
    told = changed(plan(restore, live=False), records(run(), ended("restore", 13, 14, data_dir="x/data")), {}, None)
    assert told.copies == {"orders-db": "x/data"}


def test_without_names_the_end_is_the_convergence_and_without_that_the_validation() -> None:
    assert (found := verification(plan(FAILOVER[:7]), Mode.UNGRACEFUL)) is not None
    assert found.id == "converge"
    assert (found := verification(plan(FAILOVER[:5]), Mode.UNGRACEFUL)) is not None
    assert found.id == "validate"
    assert verification(plan(FAILOVER[:3]), Mode.UNGRACEFUL) is None
    assert rto(plan(FAILOVER[:3]), records(run())).seconds is None


def test_forecasts_are_fed_with_the_time_from_first_beginning_to_last_end() -> None:
    told = records(
        begun("fence", 14), ended("fence", 14, 15), begun("fence", 20), ended("fence", 20, 21), ended("x", 1, 2)
    )
    assert step_seconds(told) == {"fence": 7.0}
    assert change_key("core", 7) == "epochs/core/00000007.json"


def test_nobody_is_named_where_no_consent_is_on_record() -> None:
    assert changed(plan(), (), OBJECTIVES, None).consent == ()
    assert changed(plan(), records(("run.begun", {"consent": {}}, 12, None)), OBJECTIVES, None).consent == ()


@given(
    cuts=st.lists(st.floats(min_value=0.01, max_value=100), min_size=8, max_size=8),
    since=st.floats(min_value=-1000, max_value=9.9),
)
def test_the_segments_always_sum_to_the_wall(cuts: list[float], since: float) -> None:
    edges = [12.0]
    for cut in cuts:
        edges.append(edges[-1] + cut)
    whole = [ended(each.id, edges[n], edges[n + 1]) for n, each in enumerate(FAILOVER[:8])]
    told = rto(plan(), records(run(rfc3339(at(since))), *whole))
    assert told.seconds is not None
    assert told.begin is not None
    assert told.end is not None
    assert sum(each or 0.0 for each in told.segments.values()) == pytest.approx(told.seconds, abs=1e-5)
    assert told.seconds == pytest.approx((told.end - told.begin).total_seconds(), abs=1e-5)
    assert set(told.segments) == set(SEGMENTS)


# The course of the run


def told_course(*told: Told) -> list[tuple[str, str, str, str]]:
    found = changed(plan(), records(*told), OBJECTIVES, None).timeline
    assert found is not None
    return [(each.kind, each.step, each.verb, each.state) for each in found]


def test_the_timeline_is_the_course_of_the_run_in_order() -> None:
    whole = (
        run(),
        begun("declare", 12.5),
        ("step.failed", {"step": "declare", "attempt": 1, "fact": "no answer", "hint": "wait"}, 12.5, 13),
        ("step.begun", {"step": "declare", "attempt": 2, "verb": "declare"}, 13.5, None),
        ("step.ended", {"step": "declare", "attempt": 2, "result": {}}, 13.5, 14),
        ("order.paused", {"why": "lunch", "who": "ann"}, 14, None),
        ("run.halted", {"stopped": {"step": "promote", "why": "paused: lunch"}}, 14.5, 15),
        ("run.resumed", {"door": "dr"}, 15, None),
        begun("fence", 16),
        begun("protect", 15.5),
        ("step.kept", {"step": "fence", "kept": "the fence stays"}, 17, 17),
        ("step.undone", {"step": "gone", "why": "given back"}, 17, 17),
        ("run.outcome", {"outcome": "met"}, 18, 18),
        ("run.ended", {"outcome": "met"}, 18, 18),
    )
    assert told_course(*whole) == [
        ("run.begun", "", "", ""),
        ("step", "declare", "declare", "failed"),
        ("step", "declare", "declare", "held"),
        ("order.paused", "", "", ""),
        ("run.halted", "promote", "promote", ""),
        ("run.resumed", "", "", ""),
        ("step", "protect", "protect", "underway"),
        ("step", "fence", "fence", "underway"),
        ("step.kept", "fence", "fence", ""),
        ("step.undone", "gone", "", ""),
    ]
    assert told_course(*whole) == told_course(*whole[:-2]), "a finished run is reported as it was told"
    first, failed, _, paused, halted, *_, kept, undone = changed(plan(), records(*whole), {}, None).timeline or ()
    assert first.who == "me"
    assert (failed.attempt, failed.seconds, failed.fact) == (1, 0.5, "no answer")
    assert failed.model_dump(mode="json")["at"] == rfc3339(at(12.5)), "RFC 3339, UTC"
    assert (paused.who, paused.fact, halted.fact) == ("ann", "lunch", "paused: lunch")
    assert (kept.fact, undone.fact) == ("the fence stays", "given back")
    assert failed.evidence.endswith("00000002.json"), "where it can be read again"


def test_the_databases_timeline_has_its_standard_name_and_older_documents_are_read() -> None:
    told = changed(plan(), records(run(), *WHOLE), OBJECTIVES, None)
    plain = told.model_dump(mode="json")
    assert isinstance(plain["timeline"], list)
    assert (plain["timeline_id"], plain["databases"][0]["timeline_id"]) == (2, 2)
    kept = told.but(timeline=None)
    assert "timeline" not in kept.model_dump(mode="json"), "the run's own record does not hold its chain once more"
    assert Changed.model_validate(plain) == told
    old = kept.model_dump(mode="json")
    old["timeline"] = old.pop("timeline_id")
    old["databases"][0]["timeline"] = old["databases"][0].pop("timeline_id")
    assert Changed.model_validate(old) == kept
    none = {**kept.model_dump(mode="json", exclude={"timeline_id"}), "timeline": None}
    assert Changed.model_validate(none).timeline_id is None
    with pytest.raises(ValidationError):
        Changed.model_validate("a word")


def test_a_live_runbook_of_a_persons_step_alone_proves_nothing_and_says_so() -> None:
    one = plan((step("call", verb="person", resource="core"),))
    told = changed(one, records(run(), begun("call", 13), ended("call", 13, 14)), OBJECTIVES, None)
    assert (told.outcome, told.rto_seconds) == ("unproven", None)
    assert told.findings == ("the service was not verified at the other site",)
