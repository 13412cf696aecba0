"""A hazard: a danger of a plan, with a class and a figure; and consent to a class up to a figure. Pure values.

Separate from approvals because hazards are computed from plans and observations, long before anybody signs, and because
they lie outside the plan's digest: what was seen may change while the plan stays.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    limit: float | None = None
    unit: str = ""

    def covers(self, hazard: Hazard) -> bool:
        """Whether that hazard, at that figure, was accepted. Another unit is another thing."""
        if self.klass != hazard.klass:
            return False
        if hazard.figure is None:
            return True
        # Written as "at most", so that a figure that is no number is never covered.
        return self.limit is not None and self.unit == hazard.unit and hazard.figure <= self.limit


def uncovered(hazards: Iterable[Hazard], accepted: Iterable[Acceptance]) -> tuple[Hazard, ...]:
    """The hazards that no acceptance covers."""
    given = tuple(accepted)
    return tuple(hazard for hazard in hazards if not any(each.covers(hazard) for each in given))
