"""`dr approve`: a named person consents to a plan's digest and to each of its hazards, now or in advance; or takes it
back. Needs the ledger and the person's key, and nothing else: no Prefect, no database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, emit, existing_home
from recovery.errors import BadInput

if TYPE_CHECKING:
    from datetime import timedelta

    from rich.console import RenderableType

    from recovery.approval import Approval, StandingApproval
    from recovery.hazard import Hazard
    from recovery.plan import Plan
    from tasks.home import Home

AsOption = Annotated[str, typer.Option("--as", metavar="NAME", help="The person; signs with HOME/keys/NAME.ed25519.")]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept", metavar="HAZARD", help="A hazard's class or id, also with a figure: 'data-loss<=10s'; or all."
    ),
]


def approve(
    digest: Annotated[
        str | None, typer.Argument(metavar="[DIGEST]", help="The plan's digest; eight digits are enough.")
    ] = None,
    who: AsOption = "",
    accept: AcceptOption = None,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="After this it starts no run.")] = "1 h",
    ungraceful: Annotated[
        bool, typer.Option("--ungraceful", help="Also the ungraceful variant, should it be ordered in mid-run.")
    ] = False,
    standing: Annotated[
        str | None, typer.Option("--standing", metavar="NAME", help="Sign the catalog's standing terms of that name.")
    ] = None,
    cancel: Annotated[str | None, typer.Option("--cancel", metavar="ID", help="Take back an approval.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Consent to a plan and to each of its hazards. Without --accept a plan with hazards is refused: exit 4."""
    from tasks.home import open_home

    if sum(each is not None for each in (digest, standing, cancel)) != 1:
        raise BadInput("what is to be approved is not said", hint="give one of: DIGEST, --standing NAME, --cancel ID")
    if not who:
        raise BadInput("nobody is named", hint="say who consents: --as NAME")
    opened = open_home(existing_home(home))
    if cancel is not None:
        _cancel(opened, cancel, who, as_json)
    elif standing is not None:
        _standing(opened, standing, who, accept or [], as_json)
    else:
        _plan(opened, str(digest), who, accept or [], _lasts(expires), ungraceful=ungraceful, as_json=as_json)


def _plan(
    home: Home, digest: str, who: str, accept: list[str], lasts: timedelta, *, ungraceful: bool, as_json: bool
) -> None:
    from recovery.accepting import acceptances, limits_of, refuse_uncovered
    from recovery.hazard import Hazard
    from recovery.hazards import DEGRADED
    from recovery.step import Mode
    from tasks import approving, changing

    plan = changing.find(home, digest)
    shown = _hazards(home, plan, ungraceful=ungraceful)
    if DEGRADED in accept and DEGRADED not in {each.klass for each in shown}:
        # It may come later than the plan: without it nobody could go on with a run whose ledger's home fell silent.
        text = (
            "the home of the ledger and of leases need not answer: two engines that reach none in common may both act"
        )
        shown = (*shown, Hazard(id=DEGRADED, klass=DEGRADED, text=text))
    accepted = acceptances(accept, shown, limits_of(plan))
    refuse_uncovered(shown, accepted, command=f"dr approve {plan.digest[:12]} --as {who}")
    variant = Mode.UNGRACEFUL if ungraceful else plan.mode
    made = approving.approve(home, plan, who=who, accepted=accepted, lasts=lasts, variant=variant)
    told = _told(home, plan, made, shown)
    emit(as_json, told, lambda: _drawn(told))


def _hazards(home: Home, plan: Plan, *, ungraceful: bool) -> tuple[Hazard, ...]:
    """The hazards that were shown with the plan; for a variant that was not shown, those of the world as it is now."""
    from recovery.errors import Failed
    from recovery.failover import rpo_seconds
    from recovery.hazard import Hazard
    from recovery.hazards import hazards
    from recovery.step import Mode
    from tasks import changing
    from tasks.observing import observe

    if ungraceful and plan.mode is not Mode.UNGRACEFUL:
        seen = observe(home, plan.service, target=str(plan.pinned["to"]))
        return hazards(plan, seen, rpo_seconds=rpo_seconds(home.catalog), mode=Mode.UNGRACEFUL)
    stored: dict[str, Any] | None = changing.proposal(home, plan.digest)
    if stored is None:
        raise Failed(
            f"what was shown with plan {plan.digest[:12]} is not in the ledger",
            hint="take it from a mirror of the ledger, or make a new plan: nobody should consent to what is not shown",
        )
    fields = Hazard.model_fields
    return tuple(
        Hazard.model_validate({name: each[name] for name in fields if name in each}) for each in stored["hazards"]
    )


def _told(home: Home, plan: Plan, made: Approval, shown: tuple[Hazard, ...]) -> dict[str, Any]:
    from recovery.accepting import words
    from recovery.approval import Admitted, Asked, admitted
    from tasks import approving
    from tasks.keys import signer

    found = approving.consents(home, plan)
    asked = Asked(
        digest=plan.digest, epoch=plan.epoch, runbook=plan.runbook, service=plan.service, mode=plan.mode, hazards=shown
    )
    verdict = admitted(
        asked, found.given, found.policy, spent=found.spent or {}, now=home.now(), cancelled=found.cancelled
    )
    enough = isinstance(verdict, Admitted)
    public = signer(home.folder / "keys", made.who).public_pem.decode()
    return {
        "outcome": "approved" if enough else "waiting",
        "approval": made.id,
        "digest": plan.digest,
        "who": made.who,
        "variant": made.variant.value,
        "accepted": [{**each.model_dump(mode="json"), "words": words(each)} for each in made.accepted],
        "hazards": [{**each.model_dump(mode="json"), "words": each.words} for each in shown],
        "expires_at": made.model_dump(mode="json")["expires_at"],
        "by": list(verdict.by) if isinstance(verdict, Admitted) else [],
        "missing": [] if isinstance(verdict, Admitted) else list(verdict.why[:1]),
        "next": f"dr act {plan.digest[:12]}" if enough else f"dr approve {plan.digest[:12]} --as NAME …",
        "signed": made.model_dump(mode="json"),
        "public_key": public,
    }


def _drawn(told: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from deployments.cli.words import moment

    by = {each["klass"]: each["words"] for each in told["accepted"]}
    lines = [Text(f"{told['who']} approves plan {told['digest'][:12]} until {moment(told['expires_at'])}")]
    lines += [
        Text(f"  accepts {by[each['klass']]}   (shown: {each['words']}: {each['text']})", style="yellow")
        for each in told["hazards"]
    ]
    missing = f"still missing: {'; '.join(told['missing'])}" if told["missing"] else f"by {', '.join(told['by'])}"
    lines.append(Text(f"{told['outcome']}: {missing}; approval {told['approval'][:12]}"))
    lines.append(Text(f"next: {told['next']}", no_wrap=True, overflow="ignore"))
    return Group(*lines)


def _standing(home: Home, name: str, who: str, accept: list[str], as_json: bool) -> None:
    from recovery.accepting import words
    from tasks import approving

    terms = home.catalog.consent.standing.get(name)
    stray = [each for each in accept if each != "all" and terms is not None and each not in terms.accept]
    if stray:
        raise BadInput(
            f"{stray[0]!r} is not among the terms of {name}",
            hint="a standing approval accepts what the catalog's terms say, and nothing else",
        )
    made = approving.approve_standing(home, name, who=who)
    by = _signers(home, made)
    wanted = home.catalog.consent.n_of_m
    told = {
        "outcome": "approved" if len(by) >= wanted else "waiting",
        "standing": name,
        "approval": made.id,
        **{key: made.model_dump(mode="json")[key] for key in ("runbook", "service", "to", "conditions", "expires_at")},
        "accepted": [words(each) for each in made.accepted],
        "by": by,
        "wanted": wanted,
    }
    emit(as_json, told, lambda: _standing_words(told))


def _signers(home: Home, made: StandingApproval) -> list[str]:
    from tasks import approving

    listed = approving.policy_of(home).listed
    found = next((each for each in approving.standing(home, made.service)[0] if each.approval.id == made.id), None)
    if found is None:
        return []
    good = zip(found.approval.signatures, found.valid, strict=True)
    return sorted({sign.who for sign, valid in good if valid and listed.get(sign.key) == sign.who})


def _standing_words(told: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    from deployments.cli.words import moment

    when = ", ".join(f"{probe} has failed for {seconds:g} s" for probe, seconds in told["conditions"].items())
    accepted = ", ".join(told["accepted"]) or "no hazard"
    return Text(
        f"{told['runbook']} of {told['service']} to {told['to']} may act alone when {when}; accepted: {accepted};"
        f" until {moment(told['expires_at'])}\n"
        f"{told['outcome']}: {len(told['by'])} of {told['wanted']} ({', '.join(told['by'])});"
        f" approval {told['approval'][:12]}"
    )


def _cancel(home: Home, named: str, who: str, as_json: bool) -> None:
    from tasks import approving

    found = approving.cancel(home, named, who=who)
    told = {"outcome": "cancelled", "approval": found.id, "who": who}
    emit(as_json, told, lambda: f"approval {found.id[:12]} is taken back by {who}: it starts no run")


def _lasts(text: str) -> timedelta:
    from datetime import timedelta as span

    from recovery.objective import duration

    try:
        found = duration(text)
    except ValueError as error:
        raise BadInput(f"--expires: {error}", hint="write it like '1 h' or '15 min'") from None
    if not span() < found <= span(days=7):
        raise BadInput(f"an approval cannot last {text}", hint="choose up to 7 days; for longer sign standing terms")
    return found
