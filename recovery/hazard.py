"""A hazard: a danger of a plan, with a class and a figure; and consent to a class up to a figure. Pure values.

Separate from approvals because hazards are computed from plans and observations, long before anybody signs, and because
they lie outside the plan's digest: what was seen may change while the plan stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from recovery.step import Name
from recovery.value import Value


class Hazard(Value):
    """`figure` in `unit` says how bad; None where it has no size. `id` is unique in a plan, `text` is for people."""

    id: Name
    klass: Name
    figure: float | None = None
    unit: str = ""
    text: str = ""

    @property
    def words(self) -> str:
        """The hazard as it is shown and accepted: `data-loss 4.2 s`."""
        return self.klass if self.figure is None else f"{self.klass} {self.figure:g} {self.unit}".rstrip()


class Acceptance(Value):
    """Consent to a class of hazard, up to `limit` in `unit`. None accepts only hazards without a figure."""

    klass: Name
    limit: Annotated[float, Field(allow_inf_nan=False)] | None = None
    unit: str = ""

    def covers(self, hazard: Hazard) -> bool:
        """Whether that hazard, at that figure, was accepted. Another unit is another thing."""
        if self.klass != hazard.klass:
            return False
        if hazard.figure is None:
            return True
        # Written as "at most", so that a figure that is no number is never covered.
        return self.limit is not None and self.unit == hazard.unit and hazard.figure <= self.limit


def within(claimed: Acceptance, given: Acceptance) -> bool:
    """Whether what was given goes as far as what is claimed."""
    if claimed.klass != given.klass or claimed.limit is None:
        return claimed.klass == given.klass
    return given.limit is not None and (given.unit, given.limit >= claimed.limit) == (claimed.unit, True)


def uncovered(hazards: Iterable[Hazard], accepted: Iterable[Acceptance]) -> tuple[Hazard, ...]:
    """The hazards that no acceptance covers."""
    given = tuple(accepted)
    return tuple(hazard for hazard in hazards if not any(each.covers(hazard) for each in given))


def agreed(given: Iterable[Sequence[Acceptance]], persons: int) -> tuple[Acceptance, ...]:
    """What at least so many persons accept, each of whom gave one of these: a class up to the figure that so many have
    reached. What fewer accept is nobody's consent, whatever it stands beside."""
    everybody = [tuple(each) for each in given]
    found: list[Acceptance] = []
    for klass in sorted({one.klass for accepted in everybody for one in accepted}):
        theirs = [[one for one in accepted if one.klass == klass] for accepted in everybody]
        theirs = [each for each in theirs if each]
        if len(theirs) < persons:
            continue
        limits = [
            Acceptance(klass=klass, limit=sorted(most, reverse=True)[persons - 1], unit=unit)
            for unit in sorted({one.unit for each in theirs for one in each})
            if len(most := [highest for each in theirs if (highest := _highest(each, unit)) is not None]) >= persons
        ]
        found += limits or [Acceptance(klass=klass)]
    return tuple(found)


def _highest(accepted: Sequence[Acceptance], unit: str) -> float | None:
    return max((one.limit for one in accepted if one.unit == unit and one.limit is not None), default=None)
