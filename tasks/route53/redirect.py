"""The verb `redirect`: a name's authoritative servers answer the new site. Resolvers that remember are converge's.

The ways are tried in the order that the step names, until the name servers show that one worked. Before a live name is
moved the probes of the site are asked afresh (rule 3), and a rehearsal's step moves nothing live (rule 11).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from recovery.convergence import SERIES, WEIGHTED_SERIES, Said
from recovery.doors import DnsName
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, DrError, Failed, Refused
from recovery.rules import RULES, may_redirect
from recovery.step import Mode, Step
from recovery.value import rfc3339
from recovery.verb import VERBS, ways
from recovery.zone_edit import WHOLE
from tasks.kind import Facts, Scene
from tasks.resolving import Resolved
from tasks.route53 import health_check, marker, records, routing
from tasks.route53.asking import ask_all, judged, name_of
from tasks.route53.errand import Errand
from tasks.stage import Stage

WAYS: Mapping[str, Callable[[Errand], Facts]] = {
    "health-check": health_check.move,
    "inverted-health-check": marker.move,
    "routing-control": routing.move,
    "weights": records.shift,
    "record-edit": records.edit,
}
SPREAD_SECONDS = 30.0
"""For what lies between a way's deed and the name servers, besides a health check's own time."""
_PAUSE_FIRST_SECONDS, _PAUSE_MOST_SECONDS = 0.02, 0.2
_SAY_EVERY_SECONDS = 1.0
_LOOK_SECONDS = 1.0
"""What a deed did is looked at, however late it was done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Redirect:
    """Every authoritative server that answers gives the new site, and at least one does."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Asks all name servers at once. The facts of its performing are the run's evidence: it is performed once even
        where the name has moved by itself, so that it stays there."""
        site = _site(step, scene, self.stage)
        dns = name_of(self.stage.home.catalog.dns, step.resource, site)
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why=f"{dns.name} was not moved yet")
        word, why = _looked(dns, site)
        truth = {"new": Truth.HOLDS, "other": Truth.ABSENT, "silent": Truth.UNKNOWN}[word]
        return Seen(truth=truth, why=why)

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Facts: `by`, `at` (when the name servers answered the new site), `acted_at`, `seconds` (between the two),
        what the way did, `not_by` (the ways that failed before). Raises what the last way raised."""
        errand = self._errand(move, scene)
        allowed(self.stage, step_name=move.step.resource, dns=errand.dns)
        named = ways(VERBS["redirect"], scene.arguments(move.step)) or (errand.dns.moved_by,)
        deadline = time.monotonic() + 0.9 * errand.patience_seconds
        not_by: dict[str, DrError] = {}
        for way in named:
            last = way == named[-1]
            errand.well()
            errand.may_act()
            try:
                return {**_went(errand, way, deadline, last), **_told(not_by)}
            except DrError as trouble:
                not_by[way] = trouble
                errand.say(f"not by {way}: {trouble.fact}", None)
        return self._already(errand, not_by)

    def _errand(self, move: Move, scene: Scene) -> Errand:
        step, site = move.step, _site(move.step, scene, self.stage)
        dns = name_of(self.stage.home.catalog.dns, step.resource, site)

        def well() -> None:
            if dns.use == "live":
                may_redirect(site, self.stage.ask(site))

        graceful = scene.mode is Mode.GRACEFUL
        return Errand(
            home=self.stage.home,
            run=self.stage.plan.run,
            step=step.id,
            name=step.resource,
            dns=dns,
            site=site,
            shift=shares(scene.arguments(step).get("shift")) if graceful else (WHOLE,),
            patience_seconds=step.patience_seconds,
            now=scene.now,
            say=scene.say,
            well=well,
            may_act=scene.may_act,
        )

    def _already(self, errand: Errand, not_by: Mapping[str, DrError]) -> Facts:
        """No way worked. Where the name servers answer the new site all the same, that is what was wanted; the facts
        say that nothing of ours keeps it there."""
        word, _ = _looked(errand.dns, errand.site)
        if word == "new":
            now = rfc3339(errand.now())
            return {"by": "already", "site": errand.site, "at": now, "acted_at": now, "seconds": 0.0, **_told(not_by)}
        raise _joined(errand, not_by)


def _went(errand: Errand, way: str, deadline: float, last: bool) -> Facts:
    """One way to its end: the deed, then the name servers. Raises what it meets."""
    begin = time.monotonic()
    did = WAYS[way](errand)
    acted_at = errand.now()
    left = max(_LOOK_SECONDS, deadline - time.monotonic())
    word, why, answers = _awaited(errand, left if last else min(left / 2, _expected_seconds(errand)))
    if word != "new":
        raise Failed(
            f"{errand.dns.name} was moved by {way}, but its name servers don't answer {errand.site}: {why}",
            hint="see the health checks and records behind the name, and whether this machine reaches its name servers",
        )
    silent: list[JsonValue] = [server for server, each in answers.items() if each.outcome == "silent"]
    at = errand.now()
    return {
        "by": way,
        "site": errand.site,
        "acted_at": rfc3339(acted_at),
        "at": rfc3339(at),
        "seconds": round(time.monotonic() - begin, 3),
        **({"silent_servers": silent} if silent else {}),
        **did,
    }


def _looked(dns: DnsName, site: str) -> tuple[Said, str]:
    """What the name servers answer now; of a weighted name so often that a weight that is left would show."""
    for _ in range(WEIGHTED_SERIES if dns.policy == "weighted" else 1):
        word, why = judged(ask_all(dns.name_servers, dns), dns, site)
        if word != "new":
            break
    return word, why


def _awaited(errand: Errand, patience_seconds: float) -> tuple[str, str, Mapping[str, Resolved]]:
    """Ask the name servers until all that answer give the new site, for some answers in a row."""
    deadline = time.monotonic() + patience_seconds
    wanted = WEIGHTED_SERIES if errand.dns.policy == "weighted" else SERIES
    pause, series, told = _PAUSE_FIRST_SECONDS, 0, 0.0
    while True:
        answers = ask_all(errand.dns.name_servers, errand.dns)
        word, why = judged(answers, errand.dns, errand.site)
        series = series + 1 if word == "new" else 0
        if series >= wanted:
            return word, why, answers
        if time.monotonic() + pause > deadline:
            return "other" if word == "new" else word, f"not steadily: {why}" if word == "new" else why, answers
        if time.monotonic() - told > _SAY_EVERY_SECONDS:
            errand.say(f"waiting for the name servers: {why}", None)
            told = time.monotonic()
        time.sleep(_PAUSE_FIRST_SECONDS if word == "new" else pause)
        pause = min(pause * 1.5, _PAUSE_MOST_SECONDS)


def _expected_seconds(errand: Errand) -> float:
    """What a way may take before the next one is tried: the slowest health check, and what it takes to spread."""
    checks = [check.every.total_seconds() * check.failures for check in errand.checks().values()]
    return max(checks, default=0.0) + SPREAD_SECONDS


def shares(given: JsonValue) -> tuple[int, ...]:
    """The percentages of a gradual shift; 100 is its end whether it is written or not. Raises BadInput."""
    listed = given if isinstance(given, list) else [] if given is None else [given]
    found: list[int] = []
    for each in listed:
        if not isinstance(each, int) or isinstance(each, bool) or not (found[-1] if found else 0) < each <= WHOLE:
            raise BadInput(f"the shift {given} cannot be followed", hint="write rising percentages, like [10, 50, 100]")
        found.append(each)
    return tuple(found) if found[-1:] == [WHOLE] else (*found, WHOLE)


def allowed(stage: Stage, *, step_name: str, dns: DnsName) -> None:
    """Rule 11, both ways: a run that is not live moves no live name nor what one hangs on; a live run moves no
    rehearsal's name. Raises Refused."""
    if stage.live is not (dns.use == "live"):
        what = "live, and this run is not" if dns.use == "live" else "a rehearsal's, and this run is live"
        raise Refused(
            f"{RULES[11].cited}: {dns.name} is {what}", hint="name it in a runbook of its own kind (`live:` says which)"
        )
    if dns.use == "live":
        return
    catalog = stage.home.catalog
    mine = hangs_on(stage, dns)
    for name, other in catalog.dns.items():
        shared = mine & hangs_on(stage, other) if other.use == "live" and name != step_name else frozenset[str]()
        if shared:
            raise Refused(
                f"{RULES[11].cited}: {dns.name} shares {', '.join(sorted(shared))} with the live name {other.name}",
                hint="give the rehearsal's name a health check and a routing control of its own",
            )


def hangs_on(stage: Stage, dns: DnsName) -> frozenset[str]:
    """What decides a name's answer and could decide another's too: markers, routing controls, its own record sets."""
    catalog = stage.home.catalog
    found = {f"the record sets of {dns.name.lower().rstrip('.')} in {dns.zone_id}"}
    for record in dns.records.values():
        check = catalog.health_checks.get(record.health_check or "")
        if check is not None and check.marker:
            found.add(check.marker)
        if check is not None and check.inverted:
            found.add(f"the health check {check.id}")
        if record.control:
            found.add(f"the routing control {record.control}")
    return frozenset(found)


def _site(step: Step, scene: Scene, stage: Stage) -> str:
    return str(scene.arguments(step).get("site") or stage.target)


def _told(not_by: Mapping[str, DrError]) -> Facts:
    return {"not_by": {way: trouble.fact for way, trouble in not_by.items()}} if not_by else {}


def _joined(errand: Errand, not_by: Mapping[str, DrError]) -> DrError:
    """One trouble for all: to be tried again when any of them may be."""
    troubles = list(not_by.values())
    if len(troubles) == 1:
        return troubles[0]
    chosen = next((each for each in troubles if isinstance(each, Failed)), troubles[-1])
    told = "; ".join(f"{way}: {trouble.fact}" for way, trouble in not_by.items())
    return type(chosen)(f"{errand.dns.name} could be moved in no way ({told})", hint=chosen.hint)
