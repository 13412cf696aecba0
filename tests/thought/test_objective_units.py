"""Figures carry their units: what people write is what is meant, and a bare number is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recovery.objective import Duration, duration, duration_text
from recovery.service_level import error_budget
from recovery.units import BitsPerSecond, Bytes, BytesPerSecond, Percent, RequestsPerSecond

MONTH, YEAR = timedelta(days=30), timedelta(days=365)


@pytest.mark.parametrize(
    ("kind", "text", "figure"),
    [
        (Percent, "99.95 %", 99.95),
        (Percent, "100%", 100.0),
        (Percent, "0 %", 0.0),
        (Bytes, "2 GB", 2e9),
        (Bytes, "1.5 kB", 1500.0),
        (Bytes, "1 GiB", 2.0**30),
        (BytesPerSecond, "100 MB/s", 1e8),
        (BitsPerSecond, "10 Gbps", 1e10),
        (RequestsPerSecond, "1000 requests/s", 1000.0),
        (Duration, "1000 ms", timedelta(seconds=1)),
        (Duration, "24 h", timedelta(days=1)),
    ],
)
def test_a_figure_is_read_with_its_unit_and_written_so_that_it_reads_the_same(
    kind: object, text: str, figure: object
) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    assert adapter.validate_python(text) == figure
    assert adapter.validate_python(adapter.dump_python(figure, mode="json")) == figure


@pytest.mark.parametrize("kind", [Percent, Bytes, BytesPerSecond, BitsPerSecond, RequestsPerSecond, Duration])
@pytest.mark.parametrize("text", [70, 0.5, "70", "70 XB", "", "-1 %", "101 %", "GB", "1 day s", None, True, ["1 h"]])
def test_a_figure_without_a_unit_that_is_known_is_refused(kind: object, text: object) -> None:
    with pytest.raises(ValidationError, match="write a number"):
        TypeAdapter(kind).validate_python(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_sizes_come_back_as_they_were(count: int) -> None:
    adapter: TypeAdapter[float] = TypeAdapter(Bytes)
    assert adapter.validate_python(adapter.dump_python(float(count), mode="json")) == count


@given(st.integers(min_value=0, max_value=400 * 86400))
def test_durations_of_whole_seconds_come_back_as_they_were(seconds: int) -> None:
    assert duration(duration_text(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


def test_a_duration_stays_what_it_is() -> None:
    assert duration(timedelta(seconds=3)) == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("availability", "over", "budget"),
    [
        (99.9, MONTH, timedelta(minutes=43.2)),
        (99.9, YEAR, timedelta(hours=8.76)),
        (99.5, MONTH, timedelta(hours=3.6)),
        (99.5, YEAR, timedelta(days=1.825)),
        (99.95, MONTH, timedelta(minutes=21.6)),
        (99.95, YEAR, timedelta(hours=4.38)),
        (99.99, MONTH, timedelta(minutes=4.32)),
        (99.99, YEAR, timedelta(minutes=52.56)),
        (100.0, MONTH, timedelta(0)),
    ],
)
def test_the_error_budget_is_the_rest(availability: float, over: timedelta, budget: timedelta) -> None:
    assert error_budget(availability, over) == budget
