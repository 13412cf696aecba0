"""Rates are measured from what restores on record took at that site; the usual ones stand, and say so, until then."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.choose import Rates, choose, latest
from recovery.rates import COUNTED, USUAL, Measured, Speed, measured_of, rates, speed
from tests.thought.ledger_scene import NOON, backed_up, minutes, proof_facts, proved, record
from tests.thought.test_choose import END, FULL, INCR, WAL

GB = 1_000_000_000


def took(seconds: float, *, at: float = 0, site: str = "west", files: int = 0, replay: float | None = None) -> Measured:
    """A restore of 2 GB, whose usual time is 10 s."""
    return Measured(
        at=minutes(at),
        speed=Speed(
            site=site, full_bytes=2 * GB, incremental_bytes=0, data_seconds=seconds, wal_files=files,
            replay_seconds=replay,
        ),
    )  # fmt: skip


def test_nothing_measured_there_leaves_the_usual_rates_and_says_so() -> None:
    assert rates([took(1, site="east")], "west") == USUAL.but(why="from usual rates, no restore at west measured yet")
    assert rates([took(0)], "west").why.startswith("from usual rates"), "no seconds are no measure"
    nothing = took(5).speed.but(full_bytes=0)
    assert rates([Measured(at=NOON, speed=nothing)], "west").why.startswith("from usual rates")


def test_data_goes_by_the_median_and_an_incremental_counts_as_combining_does() -> None:
    found = rates([took(5), took(20), took(10_000), took(5, site="east")], "west")
    assert (found.restore_bytes_per_second, found.combine_bytes_per_second) == (100e6, 200e6)
    assert found.why == "from 3 restores at west, WAL at the usual rate"
    chain = took(5).speed.but(incremental_bytes=4 * GB)
    assert rates([Measured(at=NOON, speed=chain)], "west").restore_bytes_per_second == 200e6 * (10 + 10) / 5


def test_wal_goes_by_the_restores_that_replayed_enough_of_it() -> None:
    few, none = took(10, files=7, replay=100.0), took(10, files=50)
    found = rates([few, none, took(10, files=20, replay=1.0), took(10, files=10, replay=4.0)], "west")
    assert found.wal_segments_per_second == 6.0
    assert found.why == "from 4 restores at west"
    assert rates([few, none], "west").wal_segments_per_second == USUAL.wal_segments_per_second


def test_only_the_newest_count_whatever_their_order() -> None:
    old = [took(1, at=-each) for each in range(100, 140)]
    new = [took(20, at=each) for each in range(COUNTED)]
    for order in (old + new, new + old):
        assert rates(order, "west").restore_bytes_per_second == 100e6


def test_the_point_follows_the_measured_rates_and_carries_their_reason() -> None:
    slow_data = rates([took(10 * 5_000)], "west").but(wal_segments_per_second=1e6)
    slow_wal = rates([took(10, files=100, replay=1000.0)], "west")

    def of(given: Rates) -> Any:
        return choose(latest(END), backups=(FULL, INCR), archive=WAL, timeline=1, rates=given)

    assert of(slow_data).backups == ("full",)
    assert of(slow_wal).backups[-1] == "incr"
    assert of(slow_wal).forecast_from == "from 1 restore at west"
    assert choose(latest(END), backups=(FULL,), archive=WAL, timeline=1).forecast_from == "from usual rates"


FETCHED: dict[str, Any] = {"full_bytes": 7, "incremental_bytes": 3, "data_seconds": 2.0, "wal_files": 4, "engine": "x"}


def ended(step: str, result: Any, sequence: int) -> Any:
    return record("step.ended", NOON, {"step": step, "attempt": 1, "result": result}, sequence)


def test_a_runs_speed_is_what_its_steps_say() -> None:
    told = speed("west", [ended("fetch", FETCHED, 1), ended("recover", {"replay_seconds": 1.5}, 2)])
    assert told == {
        "site": "west", "full_bytes": 7, "incremental_bytes": 3, "data_seconds": 2.0, "wal_files": 4,
        "replay_seconds": 1.5,
    }  # fmt: skip
    halted = speed("west", [ended("fetch", FETCHED, 1)])
    assert halted is not None
    assert halted["replay_seconds"] is None


@pytest.mark.parametrize("records", [[], [ended("fetch", None, 1)], [ended("fetch", {"data_seconds": 2.0}, 1)]])
def test_a_run_that_does_not_tell_has_none(records: list[Any]) -> None:
    assert speed("west", records) is None


def test_a_planted_fault_an_old_proof_and_another_version_are_no_measure() -> None:
    good = took(5).speed.model_dump(mode="json")
    planted: dict[str, Any] = {"name": "rows", "what": "rows", "detected": True}
    run = proved(NOON, speed=good)
    assert measured_of(run) == Measured(at=run.begun_at, speed=took(5).speed)
    assert measured_of(proved(NOON, speed=good, planted=planted)) is None
    assert measured_of(proved(NOON)) is None
    assert measured_of(backed_up(NOON)) is None
    assert measured_of(proved(NOON).but(said=None)) is None
    assert measured_of(proved(NOON, speed={"site": 7})) is None
    assert proof_facts(NOON, run="aa").get("speed") is None
