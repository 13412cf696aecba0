"""The forecast: whole past runs replayed through the graph; the unmeasured is said, never counted silently as zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.forecast import Forecast, forecast
from recovery.step import Mode, Step


def step(id_: str, *needs: str, omitted: bool = False) -> Step:
    left_out = {"omitted": "why"} if omitted else {}
    return Step(id=id_, verb="run", resource="db", needs=needs, ungraceful=left_out)


#     a → b → d
#     a → c → d → late
DIAMOND = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), step("late", "d"))


def test_it_is_the_longest_way_and_names_it() -> None:
    run = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0, "late": 100.0}
    made = forecast(DIAMOND, [run], until="d")
    assert made == Forecast(p50_seconds=7.0, p95_seconds=7.0, runs=1, path=("a", "b", "d"), unmeasured=())
    assert made.words == "p50 7 s, p95 7 s, from 1 run"
    assert made.but(p50_seconds=4.82485).words == "p50 4.8 s, p95 7 s, from 1 run"
    assert forecast(DIAMOND, [run]).p50_seconds == 107.0


def test_runs_are_replayed_whole_and_figures_are_lengths_that_happened() -> None:
    runs = [{"a": float(n), "b": 1.0, "c": 2.0, "d": 0.0, "late": 0.0} for n in range(1, 21)]
    made = forecast(DIAMOND, runs)
    assert (made.p50_seconds, made.p95_seconds, made.runs) == (12.0, 21.0, 20)


def test_a_step_that_a_run_lacks_takes_its_median() -> None:
    made = forecast(DIAMOND, [{"a": 1.0, "b": 4.0, "c": 1, "d": 1, "late": 0}, {"a": 3.0, "c": 1, "d": 1, "late": 0}])
    assert (made.p50_seconds, made.p95_seconds) == (6.0, 8.0)


def test_what_was_never_measured_makes_it_a_lower_bound() -> None:
    made = forecast(DIAMOND, [{"a": 1.0, "b": 2.0}], until="d")
    assert made.unmeasured == ("c", "d")
    assert made.words == "p50 3 s, p95 3 s at least (c, d never measured), from 1 run"
    none = forecast(DIAMOND, [{"other": 1.0}])
    assert none.p50_seconds is None
    assert none.runs == 0
    assert none.words == "no forecast: no past run has these steps"


def test_a_step_that_the_variant_leaves_out_takes_no_time() -> None:
    two = (step("a", omitted=True), step("b", "a"))
    assert forecast(two, [{"a": 50.0, "b": 2.0}]).p50_seconds == 2.0
    assert forecast(two, [{"a": 50.0, "b": 2.0}], mode=Mode.GRACEFUL).p50_seconds == 52.0
    assert forecast((), []).path == ()


def test_an_end_that_is_no_step_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        forecast(DIAMOND, [], until="nothing")


@given(st.lists(st.fixed_dictionaries({name: st.floats(0, 1e4) for name in "abcd"}), min_size=1, max_size=9))
def test_p95_is_never_below_p50_and_never_above_the_sum_of_the_worst(runs: list[dict[str, float]]) -> None:
    made = forecast(DIAMOND, runs, until="d")
    assert made.p50_seconds is not None
    assert made.p95_seconds is not None
    assert made.p50_seconds <= made.p95_seconds
    assert made.p95_seconds <= sum(max(run[name] for run in runs) for name in "abcd") + 1e-6
