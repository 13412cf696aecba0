"""RPO, RTO and exposure as arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.measure import Phase, Span, exposure, partition, percentile, rpo_seconds

ZERO = datetime(2026, 11, 24, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def span(name: str, begin: float, end: float) -> Span:
    return Span(name=name, begin=at(begin), end=at(end))


def test_what_no_step_covers_is_idle() -> None:
    found = partition([span("fetch", 1, 3)], begin=at(0), end=at(4), idle="decide")
    assert found == (Phase(name="decide", seconds=2), Phase(name="fetch", seconds=2))


def test_where_steps_overlap_the_one_that_ends_last_was_awaited() -> None:
    found = partition([span("wal", 0, 2), span("data", 1, 5)], begin=at(0), end=at(5))
    assert found == (Phase(name="wal", seconds=1), Phase(name="data", seconds=4))


def test_what_lies_outside_the_wall_is_cut_off() -> None:
    assert partition([span("fetch", -5, 50)], begin=at(0), end=at(4)) == (Phase(name="fetch", seconds=4),)


def test_a_clock_that_was_set_back_gives_no_phase() -> None:
    assert partition([span("fetch", -5, -4)], begin=at(0), end=at(-4)) == ()


@given(st.lists(st.tuples(st.integers(-5, 30), st.integers(0, 20)), max_size=12), st.integers(1, 25))
def test_the_phases_sum_to_the_wall(steps: list[tuple[int, int]], wall: int) -> None:
    spans = [span(f"s{number}", begin, begin + took) for number, (begin, took) in enumerate(steps)]
    found = partition(spans, begin=at(0), end=at(wall))
    assert sum(each.seconds for each in found) == pytest.approx(wall, abs=1e-6)
    assert all(each.seconds > 0 for each in found)


def test_rpo_counts_from_the_last_commit_that_came_back() -> None:
    assert rpo_seconds(asked_at=at(10), recovered_until=at(7.5)) == 2.5
    assert rpo_seconds(asked_at=at(10), recovered_until=at(11)) == 0.0
    assert rpo_seconds(asked_at=at(10), recovered_until=None) is None


def test_an_idle_database_is_not_exposed() -> None:
    assert exposure("w", stored_lsn=9, stored_at=at(0), flushed_lsn=9, now=at(900)).seconds == 0.0


def test_exposure_counts_from_the_last_commit_that_is_stored() -> None:
    found = exposure("w", stored_lsn=8, stored_at=at(3), flushed_lsn=9, now=at(10))
    assert (found.seconds, found.lsn, found.place) == (7.0, 8, "w")
    assert exposure("w", stored_lsn=8, stored_at=at(13), flushed_lsn=9, now=at(10)).seconds == 0.0


def test_without_the_primary_exposure_grows_since_the_last_confirmation() -> None:
    found = exposure("w", stored_lsn=9, stored_at=at(3), flushed_lsn=None, now=at(10))
    assert found.seconds == 7.0
    assert "primary" in found.why


def test_exposure_that_nothing_confirms_is_no_number() -> None:
    assert exposure("w", stored_lsn=8, stored_at=None, flushed_lsn=9, now=at(10)).seconds is None
    assert exposure("w", stored_lsn=None, stored_at=None, flushed_lsn=None, now=at(10)).seconds is None


def test_percentiles_lie_between_their_neighbours() -> None:
    assert percentile([], 0.5) is None
    assert percentile([4.0], 0.95) == 4.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.5) == 1.5
    assert percentile([1.0, 2.0], 1.0) == 2.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_never_outside_its_values(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found is not None
    assert min(values) - 1e-6 <= found <= max(values) + 1e-6
