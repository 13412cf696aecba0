"""The front of a run is the same whether it is walked anew or taken further from the answer before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from recovery.front import Fronts
from recovery.plan import in_order
from recovery.step import Step


@some.composite
def steps(draw: some.DrawFn) -> list[Step]:
    count = draw(some.integers(1, 12))
    return [
        Step(
            id=f"s{each}",
            verb="run",
            resource="db",
            needs=tuple(sorted({f"s{need}" for need in draw(some.lists(some.integers(0, each - 1), max_size=3))}))
            if each
            else (),
        )
        for each in range(count)
    ]


def by_the_word(steps: list[Step], held: frozenset[str]) -> frozenset[str]:
    """What does not hold, and before which everything does, near and far: as the sentence says it."""
    known = {step.id: step for step in steps}

    def whole(name: str) -> bool:
        return name in held and all(whole(need) for need in known[name].needs)

    return frozenset(step.id for step in steps if step.id not in held and all(whole(need) for need in step.needs))


@given(steps(), some.data())
def test_whatever_is_asked_one_after_the_other_each_answer_is_right(steps: list[Step], data: some.DataObject) -> None:
    fronts = Fronts(in_order(steps))
    names = some.frozensets(some.sampled_from([step.id for step in steps]))
    held: frozenset[str] = frozenset()
    for _ in range(4):
        asked = data.draw(names)
        held = held | asked if data.draw(some.booleans()) else asked
        assert fronts.turn(held) == by_the_word(steps, held)


def test_a_truth_that_lapses_moves_the_front_back() -> None:
    chain = [
        Step(id=f"s{each}", verb="run", resource="db", needs=(f"s{each - 1}",) if each else ()) for each in range(4)
    ]
    fronts = Fronts(chain)
    assert fronts.turn(frozenset({"s0", "s1"})) == {"s2"}
    assert fronts.turn(frozenset({"s0", "s1", "s2"})) == {"s3"}
    assert fronts.turn(frozenset({"s1", "s2"})) == {"s0"}
