"""A form before a live change: the plan that is shown, and what an answer means. Consent ends in the ledger.

Separate from Prefect, which draws the form, from waiting.py, which waits for it, and from recovery/approval.py, which
counts: here an answer becomes signed documents. The form signs as `prefect-ui` with a key of its own: it counts once,
never as a person, and only where the catalog lists it and one approval is enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from recovery.accepting import acceptances, limits_of, refuse_uncovered
from recovery.approval import FORM, Admitted, Asked, ConsentPolicy, admitted
from recovery.errors import BadInput, DrError, Refused
from recovery.failover import refuse_beyond_limits, rpo_seconds
from recovery.hazard import Hazard
from recovery.hazards import hazards
from recovery.journal import outcome
from recovery.moment import past
from recovery.orders import Word
from recovery.outcome import Changed
from recovery.plan import NothingToDo, Plan
from tasks import approving, change_pages, changing, orders_of_people
from tasks.engine import Act
from tasks.home import Home
from tasks.journal import read_records
from tasks.observing import observe
from tasks.pages import Page, Told
from tasks.pasted import approvals_in, take
from tasks.trying_again import try_again

Persons = Annotated[int, Field(ge=0)]
Minutes = Annotated[int, Field(ge=1)]
"""What a flow's form lets through; Prefect's server refuses the rest before a run is made."""
LASTS = timedelta(hours=1)
"""How long the form's own consent may start a run: its run begins at once."""


class Decision(StrEnum):
    """What the form asks."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What somebody wrote into the form."""

    decision: Decision
    accept: str
    approvals: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a run of a flow is asked for; empty words mean the catalog's defaults. `digest` takes a stored plan up
    again. `persons`: wait for at least so many; the catalog's own number is never lowered."""

    runbook: str
    service: str = ""
    to: str = ""
    max_loss: str = ""
    outage_since: str = ""
    digest: str = ""
    persons: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a plan stands now. `why` it may not begin; nothing: it may. Its `hazards` as the world is at this moment."""

    why: tuple[str, ...] = ()
    hazards: tuple[Hazard, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A plan that may wait for consent. `shown`: its document (hazards, groups, forecast), which people see. `noted`:
    what else they should know of it."""

    home: Home
    plan: Plan
    shown: Mapping[str, JsonValue]
    noted: str
    outage_since: datetime | None
    persons: int

    @property
    def policy(self) -> ConsentPolicy:
        """Whose keys count, and how many persons are waited for."""
        policy = approving.policy_of(self.home)
        return replace(policy, n_of_m=max(policy.n_of_m, self.persons))

    @property
    def form_counts(self) -> bool:
        """Whether the form's own consent is enough: the catalog lists it and asks for one."""
        return self.policy.n_of_m == 1 and FORM in self.policy.listed.values()

    def page(self) -> Page:
        """The plan, as people read it before they consent; of one whose run has begun, that it is gone on with."""
        people = sorted({*self.policy.listed.values()} - {FORM})
        wanted = self.policy.n_of_m if self.plan.live else 0
        return change_pages.planned(
            self.plan, self.shown, people=people, wanted=wanted, form=self.form_counts, noted=self.noted
        )

    def words(self, standing: Standing, trouble: str = "", *, left_seconds: float) -> str:
        """What stands above the form's fields, in Markdown: what is asked, its hazards, what is missing, until when an
        answer is awaited, and why the last one was not taken."""
        now = self.home.now()
        until = now + timedelta(seconds=left_seconds)
        return change_pages.asked(
            self.plan, standing.hazards, standing.why, trouble=trouble, form=self.form_counts, now=now, until=until
        )

    def stands(self) -> Standing:
        """Whether the plan may begin by what lies in the ledger and by how the world looks now.

        A run that has begun, and one that changes nothing live, need no consent. Raises Refused when no consent could
        admit it any more.
        """
        if not self.plan.live or read_records(self.home.ledger(), self.plan.run):
            return Standing()
        plan, home = self.plan, self.home
        seen = observe(home, plan.service, target=str(plan.pinned["to"]), run=plan.run)
        if seen.epoch != plan.epoch:
            raise Refused(
                f"the plan was made in epoch {plan.epoch} of {plan.service}, which is in epoch {seen.epoch} now",
                hint="run the flow again without a digest: it makes a new plan",
            )
        found_now = hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog))
        refuse_beyond_limits(plan, found_now)
        asked = Asked(
            digest=plan.digest,
            epoch=plan.epoch,
            runbook=plan.runbook,
            service=plan.service,
            mode=plan.mode,
            to=str(plan.pinned["to"]),
            hazards=found_now,
            failing_seconds=seen.failing(),
        )
        found = approving.consents(home, plan)
        verdict = admitted(
            asked,
            found.given,
            self.policy,
            spent=found.spent or {},
            now=home.now(),
            cancelled=found.cancelled,
            standing=found.standing,
        )
        why = () if isinstance(verdict, Admitted) else (*verdict.why, *found.troubles)
        return Standing(why=why, hazards=found_now)

    def consent(self, answer: Answer, seen: Sequence[Hazard]) -> None:
        """Store what was pasted; then sign as the form where that counts, for the hazards that were shown. Raises
        BadInput or Refused, to be asked again: each has its reason, and what was stored before stays."""
        accept, pasted = answer.accept, answer.approvals
        documents = tuple(approvals_in(pasted))
        for document, pem in documents:
            take(self.home, self.plan, self.policy, document, pem)
        if not self.form_counts and not documents:
            raise BadInput(
                "this form counts for nothing by itself here, and no signed approval was pasted",
                hint=f"paste the whole output of 'dr approve {self.plan.digest[:12]} --as NAME --json'",
            )
        if not self.form_counts or (documents and not accept.strip() and not self.stands().why):
            return
        words = [each for each in re.split(r"[,;\n]", accept) if each.strip()]
        accepted = acceptances(words, seen, limits_of(self.plan))
        refuse_uncovered(seen, accepted, command="write into the field accept:", between=", ")
        approving.approve(self.home, self.plan, who=FORM, accepted=accepted, lasts=LASTS)

    def not_taken(self, trouble: DrError) -> None:
        """Leave on record that an answer was given and counts for nothing; people are asked again, recorded or not."""
        with suppress(DrError):
            why = f"an answer in the form of the Prefect UI was not taken: {trouble.fact}"
            approving.refused(self.home, self.plan.digest, [why], subject=self.plan.service)

    def rejected(self) -> Refused:
        """Leave the rejection on record; gives what ends the run."""
        return self._refused("rejected in the form of the Prefect UI")

    def nobody(self, waited: str) -> Refused:
        """Leave on record that consent did not come in time; gives what ends the run."""
        return self._refused(f"not approved within {waited}")

    def _refused(self, why: str) -> Refused:
        approving.refused(self.home, self.plan.digest, [why], subject=self.plan.service)
        return Refused(
            f"plan {self.plan.digest[:12]} is {why}; nothing was touched",
            hint="run the flow again: with the digest for the same plan, without it for a new one",
        )

    def act(self, act: Act) -> Told:
        """Drive the run, or go on with it, or report it; told with its pages. What has no try left gets another."""
        again = self.form_counts or not self.plan.live
        if again:
            try_again(self.home, self.plan)
        changed = changing.act(act, self.plan, outage_since=self.outage_since)
        return told(self.home, self.plan, changed, again=again)

    def cancel(self) -> str:
        """Order the run to be cancelled, by the engine's key: nobody can tell who pressed the button in the UI. Gives
        the command that goes on with giving back, where this process can't."""
        orders_of_people.give(
            self.home, self.plan, Word.CANCEL, who=None, why="the flow run was cancelled in the Prefect UI"
        )
        return f"'dr resume {self.plan.run[:12]}'"


def opened(home: Home, wanted: Wanted) -> Case | Told:
    """Make the plan that is asked for, find it by its digest, or take up its unfinished run; nothing live is touched.
    A word when there is nothing to do. Raises BadInput, Refused (a rule, a limit), Unproven."""
    refuse_senseless(home, wanted)
    began = wanted.outage_since.strip()
    since = past(began, now=home.now(), what="the beginning of an outage") if began else None
    shown: Mapping[str, JsonValue] | None = None
    noted = ""
    if wanted.digest.strip():
        plan = changing.find(home, wanted.digest.strip())
        if plan.runbook != wanted.runbook:
            raise BadInput(
                f"plan {plan.digest[:12]} is a {plan.runbook}, not a {wanted.runbook}",
                hint=f"take it up with the flow {plan.runbook}, or with 'dr act {plan.digest[:12]}'",
            )
    elif left := changing.unfinished(home, wanted.runbook, service=_or_none(wanted.service), to=_or_none(wanted.to)):
        plan = left
    else:
        made = changing.plan(
            home,
            wanted.runbook,
            service=_or_none(wanted.service),
            to=_or_none(wanted.to),
            max_loss=_or_none(wanted.max_loss),
        )
        if isinstance(made, NothingToDo):
            return Told(held=True, text=f"nothing to do: {made.why}")
        plan, shown = made.plan, made.document()
    if shown is None:
        shown, noted = _shown_again(home, plan), _noted(home, plan)
    return Case(home=home, plan=plan, shown=shown, noted=noted, outage_since=since, persons=wanted.persons)


def refuse_senseless(home: Home, wanted: Wanted) -> None:
    """Raises BadInput for more persons than may ever consent, or fewer than none."""
    people = {*approving.policy_of(home).listed.values()} - {FORM}
    if not 0 <= wanted.persons <= len(people):
        raise BadInput(
            f"consent of {wanted.persons} persons can never be had: the catalog lists {len(people)}",
            hint=f"write 0 (the catalog's own number) to {len(people)}; people are named below consent.approvers",
        )


def _or_none(text: str) -> str | None:
    return text.strip() or None


def _shown_again(home: Home, plan: Plan) -> Mapping[str, JsonValue]:
    """What a stored plan looks like now: its hazards as of this moment, unless its run has begun."""
    shown = changing.proposal(home, plan.digest) or {}
    if not plan.live or read_records(home.ledger(), plan.run):
        return shown
    seen = observe(home, plan.service, target=str(plan.pinned["to"]), run=plan.run)
    found = hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog))
    return {**shown, "hazards": [{**each.model_dump(mode="json"), "words": each.words} for each in found]}


def _noted(home: Home, plan: Plan) -> str:
    """What became of a stored plan's run so far, for people; nothing of one that has not begun."""
    records = read_records(home.ledger(), plan.run)
    if not records:
        return ""
    if (ended := outcome(records)) is not None:
        return f"its run has ended ({ended}): it is only reported, nothing is done again"
    end = f"dr run cancel {plan.run[:12]} --as NAME"
    return f"its run is unfinished and is gone on with where it stopped; to end it instead: {end}"


def told(home: Home, plan: Plan, changed: Changed, *, again: bool = False) -> Told:
    """What came of it: held only when it is met. `again`: see change_pages.acted."""
    return change_pages.acted(plan, changed, read_records(home.ledger(), plan.run), again=again)
