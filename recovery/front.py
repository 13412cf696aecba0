"""The front of a run: which steps have their turn, given what holds. Pure; it remembers its last answer.

Separate from the resolver because a loop asks again and again with a little more held than before: walking the whole
plan each time made a step of a long plan cost twice as much as its records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recovery.step import Step


@dataclass(frozen=True, kw_only=True, slots=True)
class _Front:
    """`solid`: what holds and before which everything does, near and far. `turn`: what does not hold, but all before it
    does."""

    held: frozenset[str]
    solid: frozenset[str]
    turn: frozenset[str]


class Fronts:
    """The fronts of one plan, by its steps in an order in which each comes after its needs."""

    def __init__(self, order: Iterable[Step]) -> None:
        self._order = tuple(order)
        self._after: Mapping[str, list[Step]] = {step.id: [] for step in self._order}
        for step in self._order:
            for need in step.needs:
                self._after[need].append(step)
        self._last = self._anew(frozenset())

    def turn(self, held: frozenset[str]) -> frozenset[str]:
        """The steps that do not hold and before which everything does, near and far."""
        last = self._last
        if held != last.held:
            self._last = last = self._further(last, held) if held > last.held else self._anew(held)
        return last.turn

    def _anew(self, held: frozenset[str]) -> _Front:
        solid: set[str] = set()
        turn: set[str] = set()
        for step in self._order:
            if solid.issuperset(step.needs):
                (solid if step.id in held else turn).add(step.id)
        return _Front(held=held, solid=frozenset(solid), turn=frozenset(turn))

    def _further(self, last: _Front, held: frozenset[str]) -> _Front:
        """More holds: only what had its turn can have become solid, and what follows it."""
        reached = list(last.turn & held)
        solid, turn = set(last.solid), set(last.turn)
        while reached:
            done = reached.pop()
            solid.add(done)
            turn.discard(done)
            for step in self._after[done]:
                if solid.issuperset(step.needs):
                    (reached.append if step.id in held else turn.add)(step.id)
        return _Front(held=held, solid=frozenset(solid), turn=frozenset(turn))
