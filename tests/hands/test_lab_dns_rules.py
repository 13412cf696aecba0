"""Which record set answers, and when a verdict turns: Route53's rules, also where they surprise. Pure."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab_names_scene import EAST, WEST, a, pair, published

from deployments.lab.dns import verdict
from deployments.lab.dns.answers import Answers
from deployments.lab.dns.verdict import Standing, after
from deployments.lab.dns.zone import Check, RecordSet, choices

PROBED = Check(id="c", reference="c", type="HTTP", failures=3)


def weighted(**weights: int) -> list[RecordSet]:
    return [
        a("w", EAST, set_identifier=name, weight=weight, health_check=f"check-{name}")
        for name, weight in weights.items()
    ]


def shares(sets: list[RecordSet], sick: str = "") -> dict[str, Fraction]:
    found = choices(sets, lambda check: check.removeprefix("check-") not in sick.split())
    return {those[0].set_identifier or "": share for share, those in found}


@pytest.mark.parametrize(
    ("weights", "sick", "expected"),
    [
        ({"a": 90, "b": 10}, "", {"a": 0.9, "b": 0.1}),
        ({"a": 90, "b": 10}, "a", {"b": 1}),
        ({"a": 90, "b": 0}, "", {"a": 1}),
        ({"a": 90, "b": 0}, "a", {"b": 1}),
        ({"a": 0, "b": 0}, "", {"a": 0.5, "b": 0.5}),
        ({"a": 3, "b": 1, "c": 0}, "a b c", {"a": 0.75, "b": 0.25}),
        ({"a": 0, "b": 0}, "a b", {"a": 0.5, "b": 0.5}),
    ],
    ids=[
        "by weight",
        "the sick one is left out",
        "zero gets nothing",
        "zero helps out",
        "all zero",
        "all sick",
        "none",
    ],
)
def test_weights(weights: dict[str, int], sick: str, expected: dict[str, float]):
    assert {name: float(share) for name, share in shares(weighted(**weights), sick).items()} == expected


@pytest.mark.parametrize(("sick", "value"), [("", EAST), ("p", WEST), ("p s", EAST), ("s", EAST)])
def test_a_failover(sick: str, value: str):
    found = choices(pair("app", "p", "s"), lambda check: check not in sick.split())
    assert [each.values for _, each in [(share, those[0]) for share, those in found]] == [(value,)]


@given(st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=8))
def test_shares_always_add_up_to_one_and_name_no_sick_set_while_a_well_one_is_there(sets: list[tuple[int, bool]]):
    those = [
        a("w", EAST, set_identifier=str(at), weight=weight, health_check=str(at)) for at, (weight, _) in enumerate(sets)
    ]
    found = choices(those, lambda check: sets[int(check)][1])
    assert sum(share for share, _ in found) == 1
    if any(well for _, well in sets):
        assert all(sets[int(each.set_identifier or 0)][1] for _, group in found for each in group)


@given(st.lists(st.booleans(), max_size=40))
def test_a_verdict_turns_only_after_as_many_results_in_a_row_as_the_check_asks(results: list[bool]):
    standing = Standing()
    for at, well in enumerate(results):
        before = standing.well
        standing = after(standing, PROBED, well, "", now=at)
        if standing.well != before:
            row = results[max(0, at - 2) : at + 1]
            assert set(row) == {well}
            assert before is None or len(row) == 3
        elif results[: at + 1][-3:] == [not before] * 3 and before is not None:
            pytest.fail("three results in a row did not turn it")


def healthy(check: Check, **known: object) -> bool:
    standings = {name: Standing(well=well) for name, well in known.items() if isinstance(well, bool)}
    checks = {each.id: each for each in (check, *(PROBED.but(id=name) for name in known))}
    return verdict.healthy(check.id, checks, standings, {"on": True})


def test_disabled_unknown_and_inverted():
    own = PROBED.but(id="own")
    assert healthy(own)
    assert healthy(own.but(inverted=True)), "before the first result nothing is inverted"
    assert not verdict.healthy("own", {"own": own}, {"own": Standing(well=False)}, {})
    assert verdict.healthy("own", {"own": own.but(disabled=True)}, {"own": Standing(well=False)}, {})
    assert not verdict.healthy("own", {"own": own.but(disabled=True, inverted=True)}, {}, {})
    assert verdict.healthy("nobody", {}, {}, {})


@pytest.mark.parametrize(("threshold", "expected"), [(0, True), (1, True), (2, False)])
def test_a_calculated_check_counts_its_children(threshold: int, expected: bool):
    both = Check(id="own", reference="own", type="CALCULATED", children=("x", "y"), threshold=threshold)
    assert healthy(both, x=True, y=False) is expected


def test_checks_that_stand_in_one_another_in_a_circle_end():
    circle = Check(id="own", reference="own", type="CALCULATED", children=("own",), threshold=1)
    assert healthy(circle) is True


def test_a_routing_control_that_nobody_knows_is_off():
    control = Check(id="own", reference="own", type="RECOVERY_CONTROL", control="on")
    assert healthy(control)
    assert not healthy(control.but(control="unknown"))


@given(st.binary(max_size=80))
def test_any_bytes_get_an_answer_or_silence(wire: bytes):
    told = Answers(published(*pair("app", None)), lambda _: True).respond(wire, False)
    assert told is None or (told[:2] == wire[:2] and told[2] & 0x80)


def test_an_alias_to_itself_ends():
    circle = RecordSet(name="a.lab.test.", type="CNAME", ttl=1, values=("a.lab.test.",))
    assert Answers(published(circle), lambda _: True).outcomes("a.lab.test.", "A")
