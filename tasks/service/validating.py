"""The verb `validate`: the recovered service works. Its site is asked, its databases are written to, its data is
judged; through its names it is asked as users ask, by what every resolver answers.

Separate because what is proved here is what a redirect rests on, and what ends an outage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import JsonValue

from recovery.check import Check, Outcome
from recovery.doors import DnsName
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput, Failed, Unproven
from recovery.step import Step
from recovery.value import rfc3339
from tasks import serving
from tasks.kind import Facts, Scene
from tasks.probing import Answer, Question, ask_all, at_once
from tasks.resolving import Resolved, resolve
from tasks.service import probing
from tasks.service.said import NOT_CONFIGURED, absent, done, holds, scratch, settled, site_of, twice
from tasks.stage import Stage

IN_A_ROW = 3
MOST_SECONDS = 60.0
_RESOLVE_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Validate:
    """All probes of the site pass several times in a row, every database of the service is the primary there and takes
    a write, and the catalog's assertions hold; with `through: names`, what every resolver answers is the site, and the
    service answers there by its name. Later looks ask the probes (or names) and the databases' role again; assertions,
    which may be slow, are not asked twice."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Looks; writes nothing."""
        if done(step, scene) is None:
            return absent("it was not validated yet")
        if scratch(step, scene):
            return holds("the copy was validated by what restored it")
        site = site_of(step, scene, self.stage)
        by_name = _through_names(step, scene)
        return twice(lambda: self._named(site)[:2] if by_name else self._serves(site))

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Facts: `site`, `checks` (name → outcome and fact) and `at`. Raises Failed with the checks that failed."""
        if scratch(move.step, scene):
            return _of_copies(scene)
        site = site_of(move.step, scene, self.stage)
        if _through_names(move.step, scene):
            return self._by_names(move, scene, site)
        row = 0
        answers: dict[str, Answer] = {}

        def probed() -> tuple[Truth, str]:
            nonlocal row
            answers.update(probing.asked(self.stage.service, site))
            truth, why = probing.judged(answers)
            row = row + 1 if truth is Truth.HOLDS else 0
            scene.say(why, None)
            if truth is Truth.HOLDS and answers and row < IN_A_ROW:
                return Truth.ABSENT, f"it passed {row} times in a row; {IN_A_ROW} are needed"
            return truth, why

        truth, why = settled(probed, move.step, MOST_SECONDS)
        _raise(truth, why, site)
        checks = list(serving.written(self.stage.home, self.stage.plan.service, site))
        if all(each.outcome is Outcome.PASSED for each in checks):
            checks += serving.asserted(self.stage.home, self.stage.plan.service, site)
        truth, why = _judged(checks, why)
        _raise(truth, why, site)
        told: Facts = {"site": site, "in_a_row": row, "at": rfc3339(scene.now())}
        probes = probing.told(answers) if answers else {**NOT_CONFIGURED, "why": probing.NONE}
        return {**told, "probes": probes, "checks": _told(checks)}

    def _serves(self, site: str) -> tuple[Truth, str]:
        """The probes, and the databases' role by their own word."""
        truth, why = probing.judged(probing.asked(self.stage.service, site))
        if truth is not Truth.HOLDS:
            return truth, why
        return _judged(serving.written(self.stage.home, self.stage.plan.service, site, look_only=True), why)

    def _by_names(self, move: Move, scene: Scene, site: str) -> Facts:
        last: dict[str, JsonValue] = {}

        def asked() -> tuple[Truth, str]:
            truth, why, told = self._named(site)
            last.update(told)
            scene.say(why, None)
            return truth, why

        truth, why = settled(asked, move.step, MOST_SECONDS)
        _raise(truth, why, site)
        return {"site": site, "through": "names", "at": rfc3339(scene.now()), "checks": last or {**NOT_CONFIGURED}}

    def _live(self) -> dict[str, DnsName]:
        catalog = self.stage.home.catalog
        return {name: catalog.dns[name] for name in self.stage.service.dns if catalog.dns[name].use == "live"}

    def _named(self, site: str) -> tuple[Truth, str, dict[str, JsonValue]]:
        """Ask every resolver for every live name, then the service at what they answered, by that name."""
        names = self._live()
        if not names:
            return Truth.HOLDS, "not configured: the service has no live name", {}
        jobs = {
            f"{name} by {server}": (lambda server=server, dns=dns: resolve(server, dns.name, dns.type))
            for name, dns in names.items()
            for server in dns.resolvers
        }
        said = at_once(jobs, _RESOLVE_SECONDS)
        told: dict[str, JsonValue] = {}
        wrong: list[str] = []
        for name, dns in names.items():
            answers = {server: said.get(f"{name} by {server}") for server in dns.resolvers}
            wrong += _misled(dns, site, answers, told)
        asked = self._asked_by_name(site, names)
        told |= probing.told(asked)
        if wrong:
            return Truth.ABSENT, "; ".join(wrong), told
        truth, why = probing.judged(asked)
        heard = any(isinstance(each, dict) and each.get("outcome") == "passed" for each in told.values())
        return (truth, why, told) if heard else (Truth.UNKNOWN, "no resolver answers and no probe can be asked", told)

    def _asked_by_name(self, site: str, names: dict[str, DnsName]) -> dict[str, Answer]:
        """The site's probes over HTTP with the live name in the place of the host, at the site's address."""
        questions: dict[str, Question] = {}
        for name, dns in names.items():
            record = dns.records.get(site)
            for probe, asked in self.stage.service.probes.items():
                url = urlsplit(asked.url)
                if asked.site != site or url.scheme not in ("http", "https") or record is None:
                    continue
                port = f":{url.port}" if url.port else ""
                by_name = url._replace(netloc=f"{dns.name.rstrip('.')}{port}").geturl()
                where = record.value.rstrip(".")
                questions[f"{name} {probe}"] = Question(url=by_name, expect=asked.expect, connect_to=where)
        return ask_all(questions)


def _through_names(step: Step, scene: Scene) -> bool:
    through = scene.arguments(step).get("through", "site")
    if through not in ("site", "names"):
        raise BadInput(f"`through` is {through!r}", hint="write site or names")
    return through == "names"


def _misled(dns: DnsName, site: str, answers: dict[str, Resolved | None], told: dict[str, JsonValue]) -> list[str]:
    """The resolvers that answer something else than the site. A silent one is told as unproven: those who wait for all
    of them are `converge`'s concern."""
    record = dns.records.get(site)
    if record is None:
        return [f"{dns.name} has no record for {site}"]
    wrong: list[str] = []
    for server, found in answers.items():
        check = f"{dns.name} by {server}"
        if found is None or found.outcome == "silent":
            told[check] = {"outcome": "unproven", "why": found.why if found else "no answer in time"}
            continue
        values = [value.rstrip(".") for value in found.values]
        right = values == [record.value.rstrip(".")]
        told[check] = {"outcome": "passed" if right else "failed", "why": ", ".join(values) or "no address"}
        if not right:
            wrong.append(f"{server} answers {', '.join(values) or 'nothing'} for {dns.name}")
    return wrong


def _judged(checks: Iterable[Check], well: str) -> tuple[Truth, str]:
    every = list(checks)
    for outcome, truth in ((Outcome.FAILED, Truth.ABSENT), (Outcome.UNPROVEN, Truth.UNKNOWN)):
        found = [f"{each.name}: {each.fact}" for each in every if each.outcome is outcome]
        if found:
            return truth, f"{outcome.value}: {'; '.join(found)}"
    return Truth.HOLDS, well


def _raise(truth: Truth, why: str, site: str) -> None:
    if truth is Truth.ABSENT:
        raise Failed(f"{site} does not serve; {why}", hint=f"mend {site}; no name is moved to a site that fails")
    if truth is not Truth.HOLDS:
        raise Unproven(f"it cannot be seen whether {site} serves; {why}", hint="see why it can't be asked from here")


def _told(checks: Iterable[Check]) -> dict[str, JsonValue]:
    return {each.name: {"outcome": each.outcome.value, "why": each.fact} for each in checks}


def _of_copies(scene: Scene) -> Facts:
    """A copy is judged by the step that restored or promoted it, with its own checks: they are cited, never made up.
    Raises Unproven where no step of this run has judged one."""
    judged: dict[str, JsonValue] = {
        step.id: found["checks"]
        for step in scene.plan.steps
        if step.verb in ("restore", "promote") and "checks" in (found := scene.results.get(step.id, {}))
    }
    if not judged:
        fact = "no step of this run has checked the restored copy"
        raise Unproven(fact, hint="prove the restore with 'dr prove'; what was not checked is not called valid")
    bad = [step for step, checks in judged.items() if not _passed(checks)]
    if bad:
        raise Failed(f"the restored copy failed checks of {', '.join(bad)}", hint="see them with 'dr show'")
    return {"scratch": True, "checks": judged}


def _passed(checks: JsonValue) -> bool:
    entries = list(checks.values()) if isinstance(checks, dict) else checks if isinstance(checks, list) else []
    return all(not isinstance(each, dict) or each.get("outcome") != "failed" for each in entries)
