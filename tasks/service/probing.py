"""The probes of a site, asked by this machine: what the verbs of this kind and a redirect look at.

Separate from tasks/probing.py, which puts one question and knows no catalog.
"""

from __future__ import annotations

from collections.abc import Mapping

from recovery.catalog import Service
from recovery.drive import Truth
from tasks.kind import Facts
from tasks.probing import PATIENCE_SECONDS, Answer, Outcome, Question, ask_all

NONE = "not configured: the catalog has no probe of that site"


def asked(service: Service, site: str, *, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Answer]:
    """The site's probes, asked now and all at once: probe → answer. Empty where the catalog has none."""
    questions = {
        name: Question(url=probe.url, expect=probe.expect)
        for name, probe in service.probes.items()
        if probe.site == site
    }
    return ask_all(questions, patience_seconds=patience_seconds)


def outcomes(service: Service, site: str) -> Mapping[str, Outcome]:
    """The site's probes, asked now: probe → outcome."""
    return {name: answer.outcome for name, answer in asked(service, site).items()}


def judged(answers: Mapping[str, Answer]) -> tuple[Truth, str]:
    """Whether all passed, and which did not. One that failed decides; one that could not be asked leaves it open."""
    for outcome, truth in (("failed", Truth.ABSENT), ("unproven", Truth.UNKNOWN)):
        found = [f"{name}: {each.why}" for name, each in answers.items() if each.outcome == outcome]
        if found:
            return truth, f"{outcome}: {'; '.join(found)}"
    return Truth.HOLDS, f"passed: {', '.join(answers)}" if answers else NONE


def told(answers: Mapping[str, Answer]) -> Facts:
    """As evidence."""
    return {
        name: {"outcome": each.outcome, "why": each.why, "seconds": round(each.seconds, 3)}
        for name, each in answers.items()
    }
