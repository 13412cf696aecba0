"""What a person writes after `--accept`, made into consent: a hazard's id or class, with or without a figure, or `all`.

Separate from hazard.py (what consent is) and from approving (whose): here words meet the hazards that were shown. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from recovery.errors import BadInput, Refused
from recovery.hazard import Acceptance, Hazard, uncovered
from recovery.objective import duration
from recovery.plan import Plan

ALL = "all"
_WORD = re.compile(r"\s*([a-z0-9][a-z0-9-]*)\s*(?:(?:<=|≤|=)\s*(\S.*?)\s*)?")
_FIGURE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(\S*)")


def acceptances(said: Sequence[str], shown: Sequence[Hazard], limits: Mapping[str, float]) -> tuple[Acceptance, ...]:
    """The consent in what was written, for the hazards that were shown. Raises BadInput for what names none of them.

    Without a figure it goes up to the plan's own limit of that class (`limits`, which is in the digest), where there is
    one, and else up to what was shown.
    """
    found: dict[str, Acceptance] = {}
    for each in said:
        for one in _acceptances(each, shown, limits):
            known = found.get(one.klass)
            found[one.klass] = one if known is None else _wider(known, one)
    return tuple(found[klass] for klass in sorted(found))


def limits_of(plan: Plan) -> dict[str, float]:
    """Class of hazard → the figure above which the plan itself may not run."""
    limits = plan.pinned.get("limits")
    loss = limits.get("data_loss_seconds") if isinstance(limits, dict) else None
    return {"data-loss": float(loss)} if isinstance(loss, int | float) else {}


def refuse_uncovered(
    shown: Sequence[Hazard], accepted: Sequence[Acceptance], *, command: str, between: str = " --accept "
) -> None:
    """Raises Refused while a hazard that was shown is not accepted: such consent would never count. The hint is the
    command (or where to write), and the classes that are missing with these words before and between them."""
    left = uncovered(shown, accepted)
    if not left:
        return
    told = "; ".join(f"{each.words} ({each.text})" if each.text else each.words for each in left)
    classes = between.join(dict.fromkeys(each.klass for each in left))
    before = between.replace(",", "")
    raise Refused(f"not accepted: {told}", hint=f"whoever consents accepts each hazard: {command}{before}{classes}")


def words(accepted: Acceptance) -> str:
    """As it is shown: `data-loss <= 10 s`, `split-brain`."""
    if accepted.limit is None:
        return accepted.klass
    return f"{accepted.klass} <= {accepted.limit:g} {accepted.unit}".rstrip()


def terms(accept: Mapping[str, str]) -> tuple[Acceptance, ...]:
    """A standing approval's hazards as the catalog writes them: class → figure, empty for one without. BadInput."""
    return tuple(_with_figure(klass, text or None, unit="s") for klass, text in sorted(accept.items()))


def _acceptances(said: str, shown: Sequence[Hazard], limits: Mapping[str, float]) -> list[Acceptance]:
    if said.strip() == ALL:
        return [_up_to_shown(klass, shown, limits) for klass in dict.fromkeys(each.klass for each in shown)]
    read = _WORD.fullmatch(said)
    named = [] if read is None else [each for each in shown if read[1] in (each.klass, each.id)]
    if read is None or not named:
        known = ", ".join(dict.fromkeys(each.klass for each in shown))
        raise BadInput(
            f"{said!r} is no hazard of this plan",
            hint=f"its hazards: {known}; write a class, an id, or a figure: 'data-loss<=10s'"
            if known
            else "this plan has no hazards: accept none",
        )
    klass = named[0].klass
    if read[2] is None:
        return [_up_to_shown(klass, named, limits)]
    return [_with_figure(klass, read[2], unit=named[0].unit)]


def _up_to_shown(klass: str, shown: Sequence[Hazard], limits: Mapping[str, float]) -> Acceptance:
    figures = [(each.figure, each.unit) for each in shown if each.klass == klass and each.figure is not None]
    if not figures:
        return Acceptance(klass=klass)
    figure, unit = max(figures)
    return Acceptance(klass=klass, limit=max(figure, limits.get(klass, figure)), unit=unit)


def _with_figure(klass: str, text: str | None, *, unit: str) -> Acceptance:
    if text is None:
        return Acceptance(klass=klass)
    if unit == "s":
        try:
            return Acceptance(klass=klass, limit=duration(text).total_seconds(), unit=unit)
        except ValueError as error:
            raise BadInput(f"the figure of {klass}: {error}", hint="write it like 'data-loss<=10s'") from None
    read = _FIGURE.fullmatch(text)
    if read is None or read[2] != unit:
        raise BadInput(
            f"{text!r} is no figure of {klass}", hint=f"write a number in {unit}" if unit else "write a number"
        )
    return Acceptance(klass=klass, limit=float(read[1]), unit=unit)


def _wider(one: Acceptance, other: Acceptance) -> Acceptance:
    return max(one, other, key=lambda each: -1.0 if each.limit is None else each.limit)
