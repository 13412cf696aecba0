"""Fills the report's template in: one HTML page that asks nobody for anything, with its style and plots inside."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from deployments.cli import words
from recovery.objective import duration_text
from recovery.past import Past
from recovery.report import Document, plots
from recovery.report_changes import plotted
from recovery.rto import SEGMENTS
from recovery.scorecard import proofs_of


def page(document: Document, runs: list[Past]) -> str:
    """The page. `runs` newest first."""
    folder = resources.files(__package__)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "took": words.took,
        "size": words.size,
        "moment": words.moment,
        "duration": duration_text,
        "svg": Markup,  # of our own making, with its text escaped there
    }
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    proofs = proofs_of(runs)
    return template.render(
        document=document,
        card=document.scorecard,
        changes_plot=plotted(document.changes),
        segments=SEGMENTS,
        plots={each.resource: plots(each, proofs) for each in document.scorecard.resources},
        style=Markup((folder / "style.css.j2").read_text(encoding="utf-8")),  # noqa: S704 -- a file of ours
    )
