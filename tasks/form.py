"""A form before a live change: the plan that is shown, and what an answer means. Consent ends in the ledger.

Separate from Prefect, which draws the form, from waiting.py, which waits for it, and from recovery/approval.py, which
counts: here an answer becomes signed documents. The form signs as `prefect-ui` with a key of its own: it counts once,
never as a person, and only where the catalog lists it and one approval is enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import JsonValue, ValidationError

from recovery.accepting import acceptances, limits_of, refuse_uncovered
from recovery.approval import FORM, Admitted, Approval, Asked, ConsentPolicy, admitted, approval_key
from recovery.errors import BadInput, Refused
from recovery.failover import rpo_seconds
from recovery.hazard import Hazard
from recovery.hazards import hazards
from recovery.moment import instant
from recovery.outcome import Changed
from recovery.plan import NothingToDo, Plan
from recovery.value import canonical
from tasks import approving, change_pages, changing
from tasks.endorsements import publish
from tasks.engine import Act
from tasks.home import Home
from tasks.journal import read_records
from tasks.observing import observe
from tasks.pages import Page, Told
from tasks.signatures import fingerprint
from tasks.signed import verified
from tasks.store import AlreadyThere

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
class Case:
    """A plan that may wait for consent. `shown`: its document (hazards, groups, forecast), which people see."""

    home: Home
    plan: Plan
    shown: Mapping[str, JsonValue]
    hazards: tuple[Hazard, ...]
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
        """The plan, as people read it before they consent."""
        people = sorted({*self.policy.listed.values()} - {FORM})
        wanted = self.policy.n_of_m if self.plan.live else 0
        return change_pages.planned(self.plan, self.shown, people=people, wanted=wanted, form=self.form_counts)

    def words(self, why: Sequence[str]) -> str:
        """What stands above the form's fields, in Markdown: what is asked, its hazards, and what is missing."""
        return change_pages.asked(self.plan, self.hazards, why, form=self.form_counts)

    def missing(self) -> tuple[str, ...]:
        """Why the plan may not begin by what lies in the ledger and by how the world looks now; nothing: it may.

        A run that has begun, and one that changes nothing live, need no consent. Raises Refused when no consent could
        admit it any more.
        """
        if not self.plan.live or read_records(self.home.ledger(), self.plan.run):
            return ()
        plan, home = self.plan, self.home
        seen = observe(home, plan.service, target=str(plan.pinned["to"]), run=plan.run)
        if seen.epoch != plan.epoch:
            raise Refused(
                f"the plan was made in epoch {plan.epoch} of {plan.service}, which is in epoch {seen.epoch} now",
                hint="run the flow again without a digest: it makes a new plan",
            )
        asked = Asked(
            digest=plan.digest,
            epoch=plan.epoch,
            runbook=plan.runbook,
            service=plan.service,
            mode=plan.mode,
            hazards=hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog)),
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
        return () if isinstance(verdict, Admitted) else (*verdict.why, *found.troubles)

    def consent(self, accept: str, pasted: str) -> None:
        """Store what was pasted; then sign as the form where that counts. Raises BadInput or Refused, to be asked
        again: each has its reason, and what was stored before stays."""
        documents = tuple(approvals_in(pasted))
        for document, pem in documents:
            self._take(document, pem)
        if not self.form_counts or (documents and not accept.strip() and not self.missing()):
            return
        words = [each for each in re.split(r"[,;\n]", accept) if each.strip()]
        accepted = acceptances(words, self.hazards, limits_of(self.plan))
        refuse_uncovered(self.hazards, accepted, command="write into the field accept:")
        approving.approve(self.home, self.plan, who=FORM, accepted=accepted, lasts=LASTS)

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
        """Drive the run, or go on with it, or report it; told with its pages."""
        changed = changing.act(act, self.plan, outage_since=self.outage_since)
        return told(self.home, self.plan, changed)

    def _take(self, document: Approval, pem: bytes | None) -> None:
        who, signed, ledger = document.who, document.signature, self.home.ledger()
        if document.digest != self.plan.digest:
            raise BadInput(
                f"the approval of {who} is for plan {document.digest[:12]}, not for {self.plan.digest[:12]}",
                hint="paste one that was signed for the digest on this form",
            )
        if signed is None or self.policy.listed.get(signed.key) != who:
            raise BadInput(
                f"the approval of {who} is not signed with a key that the catalog lists for {who}",
                hint="people who may consent are named below consent.approvers of the catalog",
            )
        if pem is not None and fingerprint(pem) == signed.key:
            publish(ledger, pem)
        if not verified(ledger, document.signed_bytes(), signed):
            raise BadInput(
                f"the approval of {who} carries no valid signature",
                hint="paste the whole document that 'dr approve --json' wrote, unchanged",
            )
        with suppress(AlreadyThere):
            ledger.put(approval_key(document), canonical(document))


def opened(home: Home, wanted: Wanted) -> Case | Told:
    """Make the plan that is asked for, or find it by its digest; nothing live is touched. A word when there is nothing
    to do. Raises BadInput, Refused (a rule, a limit), Unproven."""
    since = instant(wanted.outage_since, now=home.now()) if wanted.outage_since.strip() else None
    if wanted.digest.strip():
        plan = changing.find(home, wanted.digest.strip())
        if plan.runbook != wanted.runbook:
            raise BadInput(
                f"plan {plan.digest[:12]} is a {plan.runbook}, not a {wanted.runbook}",
                hint=f"take it up with the flow {plan.runbook}, or with 'dr act {plan.digest[:12]}'",
            )
        shown = _shown_again(home, plan)
    else:
        made = changing.plan(
            home,
            wanted.runbook,
            service=wanted.service.strip() or None,
            to=wanted.to.strip() or None,
            max_loss=wanted.max_loss.strip() or None,
        )
        if isinstance(made, NothingToDo):
            return Told(held=True, text=f"nothing to do: {made.why}")
        plan, shown = made.plan, made.document()
    return Case(
        home=home,
        plan=plan,
        shown=shown,
        hazards=_hazards(shown),
        outage_since=since,
        persons=wanted.persons,
    )


def _shown_again(home: Home, plan: Plan) -> Mapping[str, JsonValue]:
    """What a stored plan looks like now: its hazards as of this moment, unless its run has begun."""
    shown = changing.proposal(home, plan.digest) or {}
    if not plan.live or read_records(home.ledger(), plan.run):
        return shown
    seen = observe(home, plan.service, target=str(plan.pinned["to"]), run=plan.run)
    found = hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog))
    return {**shown, "hazards": [{**each.model_dump(mode="json"), "words": each.words} for each in found]}


def told(home: Home, plan: Plan, changed: Changed) -> Told:
    """What came of it: held only when it is met."""
    return change_pages.acted(plan, changed, read_records(home.ledger(), plan.run))


def approvals_in(text: str) -> Iterator[tuple[Approval, bytes | None]]:
    """The approvals in a text, with their public keys where these stand beside them: what `dr approve --json` writes,
    bare documents, or a list of either, one after the other. Raises BadInput."""
    left, decoder = text.strip(), json.JSONDecoder()
    while left:
        try:
            found, end = decoder.raw_decode(left)
        except ValueError:
            raise BadInput(
                "what was pasted is no JSON", hint="paste the whole output of 'dr approve DIGEST --as NAME --json'"
            ) from None
        for each in found if isinstance(found, list) else [found]:
            yield _approval(each)
        left = left[end:].lstrip(", \t\r\n")


def _approval(found: Any) -> tuple[Approval, bytes | None]:
    document = found.get("signed", found) if isinstance(found, dict) else found
    key = found.get("public_key") if isinstance(found, dict) else None
    try:
        return Approval.model_validate(document), key.encode() if isinstance(key, str) else None
    except ValidationError:
        raise BadInput(
            "what was pasted is no signed approval", hint="paste the whole output of 'dr approve … --json'"
        ) from None


def _hazards(shown: Mapping[str, Any]) -> tuple[Hazard, ...]:
    fields = Hazard.model_fields
    return tuple(
        Hazard.model_validate({name: each[name] for name in fields if name in each})
        for each in shown.get("hazards", ())
    )
