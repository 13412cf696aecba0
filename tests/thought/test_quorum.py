"""A site fails when enough vantage points say so: silence is no vote, a broken network at one place is no disaster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from failover_scene import catalog
from hypothesis import given
from hypothesis import strategies as st

from recovery.quorum import MACHINE, Joined, Point, Vote, failed, joined, needed, points

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
FOUR = {
    "east": Point(site="east", url="http://east"),
    "west": Point(site="west", url="http://west"),
    "third": Point(url="http://third"),
    MACHINE: Point(),
}
OUTCOME = st.sampled_from(["passed", "failed", "unproven", "silent"])


def votes(**said: str) -> dict[str, Vote]:
    return {name: Vote(outcome=outcome) for name, outcome in said.items()}  # type: ignore[arg-type]


def since(seconds_ago: float | None, failing_seconds: float = 0.0) -> Vote:
    at = None if seconds_ago is None else NOW - timedelta(seconds=seconds_ago)
    return Vote(outcome="failed", failing_since=at, failing_seconds=failing_seconds)


@pytest.mark.parametrize(
    ("case", "said", "outcome"),
    [
        (
            "the site is lost whole",
            {"east": "silent", "west": "failed", "third": "failed", MACHINE: "failed"},
            "failed",
        ),
        ("the witness too", {"east": "silent", "west": "failed", "third": "silent", MACHINE: "failed"}, "failed"),
        ("only its application", dict.fromkeys(FOUR, "failed"), "failed"),
        ("a partition", {"east": "passed", "west": "failed", "third": "passed", MACHINE: "passed"}, "passed"),
        ("our own network", {"east": "silent", "west": "passed", "third": "passed", MACHINE: "failed"}, "passed"),
        ("we cannot ask", {"east": "silent", "west": "failed", "third": "silent", MACHINE: "unproven"}, "unproven"),
        ("half against half", {"east": "passed", "west": "failed", "third": "passed", MACHINE: "failed"}, "unproven"),
        ("one alone", {"east": "silent", "west": "silent", "third": "silent", MACHINE: "failed"}, "unproven"),
        ("one alone that passes", {"east": "silent", "west": "silent", "third": "silent", MACHINE: "passed"}, "passed"),
        ("nobody", dict.fromkeys(FOUR, "silent"), "unproven"),
    ],
)
def test_the_quorum_judges(case: str, said: dict[str, str], outcome: str) -> None:
    assert needed(FOUR, "east") == 2
    assert joined(votes(**said), needed(FOUR, "east")).outcome == outcome, case


def test_most_of_those_elsewhere_are_needed_or_as_many_as_are_asked_for() -> None:
    assert needed({MACHINE: Point()}, "east") == 1
    assert needed({**FOUR, "fifth": Point(), "sixth": Point()}, "east") == 3
    assert needed(FOUR, "east", 3) == 3
    all_but_east = votes(east="silent", west="failed", third="failed", machine="unproven")
    assert joined(all_but_east, 3).outcome == "unproven"


def test_the_points_are_the_agents_those_that_are_named_and_this_machine() -> None:
    found = points(catalog(), catalog().services["core"])
    assert list(found) == ["witness", "east", "west", MACHINE]
    assert [point.site for point in found.values()] == ["witness", "east", "west", None]
    database = catalog().resources["validation-db"]
    assert found["east"].url == database.members["east"].agent
    silent = database.but(members={name: each.but(agent=None) for name, each in database.members.items()})
    bare = catalog().but(resources={"validation-db": silent})
    assert list(points(bare, bare.services["core"])) == ["witness", MACHINE]


def test_the_failing_time_is_the_longest_that_enough_points_know_of() -> None:
    said = {"west": since(20, 19.5), "third": since(12, 11.5), MACHINE: since(None, 0.0)}
    found = joined(said, 2)
    assert found.failing_seconds == 11.5
    assert found.failing_since == NOW - timedelta(seconds=12)
    assert joined(said, 3).failing_seconds == 0.0
    assert joined(said, 3).failing_since == NOW - timedelta(seconds=12)
    assert joined({"west": since(None), "third": since(None)}, 2).failing_since is None
    assert (found.seen.outcome, found.seen.failing_seconds) == ("failed", 11.5)


def test_people_are_told_who_said_what() -> None:
    found = joined(votes(east="silent", west="failed", third="passed", machine="unproven"), 2)
    said = "1 of 4 vantage points say failed (2 needed); passed: third; cannot ask: machine; no answer: east"
    assert found.words == said
    assert joined(votes(west="failed"), 1).words == "1 of 1 vantage points say failed (1 needed)"
    assert failed({"app": found, "api": joined(votes(west="failed"), 1)}, ["app", "api", "other"]) == ["api"]


@given(st.dictionaries(st.sampled_from("abcdef"), OUTCOME), st.integers(1, 6), st.sampled_from("abcdef"))
def test_more_evidence_of_failure_never_makes_it_less_failed(said: dict[str, str], need: int, name: str) -> None:
    before = joined(votes(**said), need)
    after = joined(votes(**{**said, name: "failed"}), need)
    assert not (before.outcome == "failed" and after.outcome != "failed")
    assert not (before.outcome == "unproven" and after.outcome == "passed")


@given(st.dictionaries(st.sampled_from("abcdef"), OUTCOME), st.integers(1, 6))
def test_a_failure_needs_its_quorum_and_a_pass_needs_somebody_who_saw_one(said: dict[str, str], need: int) -> None:
    found = joined(votes(**said), need)
    count = {each: list(said.values()).count(each) for each in ("failed", "passed")}
    assert (found.outcome == "failed") == (count["failed"] >= need and count["failed"] > count["passed"])
    if found.outcome == "passed":
        assert count["passed"] > count["failed"]


@given(
    st.dictionaries(st.sampled_from("abcd"), OUTCOME, max_size=4),
    st.lists(OUTCOME, max_size=3),
    st.integers(1, 5),
)
def test_what_is_decided_is_not_changed_by_those_who_are_missing(
    said: dict[str, str], late: list[str], need: int
) -> None:
    before = joined(votes(**said), need)
    if before.decided(len(late)):
        missing = {f"late{at}": outcome for at, outcome in enumerate(late)}
        after = joined(votes(**said, **missing), need)
        assert {before.outcome, after.outcome} != {"passed", "failed"}
        if before.outcome == "failed":
            assert after.outcome == "failed"


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=1, max_size=6), st.data())
def test_the_quorums_time_is_known_to_enough_points(known: list[tuple[float, float]], data: st.DataObject) -> None:
    need = data.draw(st.integers(1, len(known)))
    found: Joined = joined({f"p{at}": since(ago, failing) for at, (ago, failing) in enumerate(known)}, need)
    assert sum(1 for _, failing in known if failing >= found.failing_seconds) >= need
    assert found.failing_since is not None
    assert sum(1 for ago, _ in known if NOW - timedelta(seconds=ago) <= found.failing_since) >= need
