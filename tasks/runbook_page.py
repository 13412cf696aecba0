"""A bound runbook as pages for a tired person: Markdown, and one HTML file that prints well. No effects.

Separate from drawing. What stands on a page needs nothing but psql, aws and dig: real names, in the order in which
things are done, with blanks for times and names. A page holds no script, font or image from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from html import escape

from recovery.binding import Ends, bind, ends, groups, live_ids
from recovery.catalog import Catalog
from recovery.manual import access
from recovery.objective import duration_text
from recovery.runbook import Runbook
from recovery.step import OMITTED, Step
from recovery.verb import VERBS
from tasks.runbook_draw import svg

_BLANK = "____________"
_LONG_CHARS = 60
"""A word that is longer has no room beside others on a line of paper."""
_TOOLS = {
    "$ psql ": "psql (as a superuser; where ~/.pgpass has no password it asks for it)",
    "$ aws ": "aws",
    "$ dig ": "dig",
}
_THERE = " Commands marked with `there` are for the machine that is named above them."
_STYLE = """
@page{margin:16mm}body{font:11pt/1.45 system-ui,sans-serif;max-width:190mm;margin:2em auto;color:#000;background:#fff}
h1{font-size:19pt;margin:0 0 .2em}h2{font-size:13pt;margin:0;border-top:1.5pt solid #000;padding-top:.5em}
section{margin:1.1em 0}h2,.facts{break-after:avoid}.blanks{break-before:avoid}
p:has(+pre){break-after:avoid}pre+p:has(+.blanks){break-before:avoid}pre,p,.whole{break-inside:avoid}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.35em 1pt .35em 0;
padding:.35em .6em;border:.6pt solid #888;background:#f6f6f6;font:9.5pt/1.4 ui-monospace,monospace}p{margin:.35em 0}
pre i{color:#555}pre span{display:inline-block;max-width:100%}
.item{padding-left:1.2em;text-indent:-1.2em}.item::before{content:"→ "}
.facts{color:#333;font-size:9.5pt}.blanks{font-size:9.5pt;margin-top:.6em}svg{max-width:100%;height:auto}
table{border-collapse:collapse;font-size:10pt;width:calc(100% - 1pt)}td{border:.6pt solid #888;padding:.25em .6em}
tr:last-child td{height:1.6em}.left-out{color:#777}
@media print{body{margin:0;max-width:none}pre{background:none}.whole svg{max-height:235mm;width:auto}}
""".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What is printed: the runbook, whom it serves, its bound steps, those that are live, and the catalog's name."""

    runbook: Runbook
    ends: Ends
    steps: Sequence[Step]
    live: frozenset[str]
    catalog: str
    access: Sequence[str]
    """What has to be at hand before the first command, each a line."""

    def ordered(self) -> list[tuple[int, Step]]:
        """The steps as a person does them, each with the number of its group from 1: always the first in the runbook
        that can begin, so that a page keeps the order in which the runbook was thought."""
        group = {name: number for number, names in enumerate(groups(self.steps), 1) for name in names}
        left, found = list(self.steps), list[tuple[int, Step]]()
        while left:
            done = {step.id for _, step in found}
            step = next(each for each in left if done.issuperset(each.needs))
            left.remove(step)
            found.append((group[step.id], step))
        return found

    @property
    def blanks(self) -> tuple[str, ...]:
        """What is written down of the whole; only what is live has an outage."""
        outage = ("outage since (UTC)",) if self.live else ()
        return ("begun (UTC)", "by", *outage, "ended (UTC)")

    @property
    def title(self) -> str:
        """The page's headline."""
        return f"{self.runbook.title}: {self.ends.service} from {self.ends.source} to {self.ends.target}"

    @property
    def needed(self) -> str:
        """The tools that its commands call."""
        manuals = "\n" + "\n".join(step.manual for step in self.steps)
        tools = [tool for sign, tool in _TOOLS.items() if f"\n{sign}" in manuals]
        there = _THERE if "\n# " in manuals else ""
        return f"Needed: {', '.join(tools) or 'nothing'}.{there}" + (" For aws:" if self.access else "")

    @property
    def purpose(self) -> str:
        """What the runbook is for, with the sites named."""
        words = {"{from}": self.ends.source, "{to}": self.ends.target, "{service}": self.ends.service}
        text = self.runbook.purpose
        for place, word in words.items():
            text = text.replace(place, word)
        return text

    def facts(self, number: int, step: Step) -> str:
        """What a person should know of a step beside its commands."""
        found = [f"after {', '.join(step.needs)}" if step.needs else "at once"]
        beside = [other.id for group, other in self.ordered() if group == number and other is not step]
        if beside:
            found.append(f"may be done while others do {', '.join(beside)}")
        found.append(f"takes at most {duration_text(timedelta(seconds=step.patience_seconds))}")
        if step.id in self.live:
            found.append("changes what users live on")
        if step.always:
            found.append("also when an earlier step has failed")
        return "; ".join(found)

    def left_out(self, step: Step) -> str:
        """Why the planned variant leaves the step out; empty when it does not."""
        why = step.arguments_in(self.runbook.mode).get(OMITTED)
        return str(why) if why else ""


def bound(runbook: Runbook, catalog: Catalog, *, service: str | None, to: str | None = None) -> Page:
    """The page of a runbook for that catalog. Raises BadInput for what the catalog does not have."""
    by = ends(catalog, runbook, service=service, to=to)
    steps = bind(runbook, catalog, by)
    keys = tuple(access(catalog, "\n".join(step.manual for step in steps)))
    live = live_ids(runbook, catalog, by)
    return Page(runbook=runbook, ends=by, steps=steps, live=live, catalog=catalog.name, access=keys)


def markdown(page: Page) -> str:
    """The page as Markdown."""
    about = f"Catalog {page.catalog}, runbook {page.runbook.name} version {page.runbook.version}"
    lines = [
        f"# {page.title}",
        "",
        page.purpose,
        "",
        f"{about}, variant {page.runbook.mode.value}.",
        "",
        page.needed,
        "",
        *(f"- {each}" for each in page.access),
        *([""] if page.access else []),
        "  ·  ".join(f"{each} {_BLANK}" for each in page.blanks),
    ]
    for place, (number, step) in enumerate(page.ordered(), 1):
        lines += ["", f"## {place}. {step.id}", "", f"*{_what(step)}* ({page.facts(number, step)})", ""]
        why = page.left_out(step)
        lines += [f"Left out: {why}."] if why else _md_manual(step.manual)
        lines += ["", f"begun {_BLANK}  ended {_BLANK}  by {_BLANK}"]
    return "\n".join(lines) + "\n"


def html(page: Page) -> str:
    """The page as one HTML document that needs nothing else."""
    about = f"Catalog {page.catalog}, runbook {page.runbook.name} version {page.runbook.version}"
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>'
        f"<style>{_STYLE}</style></head><body>"
    )
    lines = [
        head,
        f"<h1>{escape(page.title)}</h1>",
        f"<p>{escape(page.purpose)}</p>",
        f'<p class="facts">{escape(about)}, variant {page.runbook.mode.value}.</p>',
        f"<p>{escape(page.needed).replace('`there`', '<i>there</i>')}</p>",
        *(f'<p class="item">{escape(each)}</p>' for each in page.access),
        f"<table><tr>{''.join(f'<td>{escape(each)}</td>' for each in page.blanks)}</tr>",
        f"<tr>{'<td>&nbsp;</td>' * len(page.blanks)}</tr></table>",
    ]
    for place, (number, step) in enumerate(page.ordered(), 1):
        why = page.left_out(step)
        lines.append('<section class="left-out">' if why else "<section>")
        lines.append(f"<h2>{place}. {step.id}</h2>")
        lines.append(f'<p class="facts">{escape(_what(step))} ({escape(page.facts(number, step))})</p>')
        lines += [f"<p>Left out: {escape(why)}.</p>"] if why else _html_manual(step.manual)
        lines.append(f'<p class="blanks">begun {_BLANK} ended {_BLANK} by {_BLANK}</p></section>')
    picture = svg(page.steps, title=page.title, live=page.live, mode=page.runbook.mode)
    lines += ['<section class="whole"><h2>The whole</h2>', picture.strip(), "</section></body></html>"]
    return "\n".join(lines) + "\n"


def _what(step: Step) -> str:
    verb = VERBS[step.verb].what
    return f"{verb[:1].upper()}{verb[1:]}: {step.resource}"


def _parts(manual: str) -> list[tuple[str, list[str]]]:
    """The manual as runs of text lines, of commands for anywhere (`$ `), and of those for one machine (`# `)."""
    found: list[tuple[str, list[str]]] = []
    for line in manual.splitlines():
        kind = {"$ ": "anywhere", "# ": "there"}.get(line[:2], "text")
        if not found or found[-1][0] != kind:
            found.append((kind, []))
        found[-1][1].append(line if kind == "text" else line[2:])
    return found


def _md_manual(manual: str) -> list[str]:
    lines: list[str] = []
    for kind, part in _parts(manual):
        if kind == "text":
            lines.append("  \n".join(_md_line(each) for each in part))
        else:
            lines += ["```sh", *(["# there:"] if kind == "there" else []), *part, "```"]
    return lines or ["There is nothing to do by hand."]


def _md_line(line: str) -> str:
    """A way of several stands out without being a list, in which the commands below it would have to be indented."""
    return f"→ {line[2:]}" if line.startswith("- ") else line


def _html_manual(manual: str) -> list[str]:
    lines: list[str] = []
    for kind, part in _parts(manual):
        match kind:
            case "text":
                lines += [_html_line(each) for each in part]
            case "there":
                lines += [f"<pre><i>there:</i> {_html_command(each)}</pre>" for each in part]
            case _:
                lines += [f"<pre>{_html_command(each)}</pre>" for each in part]
    return lines or ["<p>There is nothing to do by hand.</p>"]


def _html_command(command: str) -> str:
    """Words with a dash in them are kept whole, or broken behind a comma: a line that ends behind a dash is typed wrong
    from paper."""
    return " ".join(_whole(each) if "-" in each else escape(each, quote=False) for each in command.split(" "))


def _whole(word: str) -> str:
    parts = re.findall(r"[^,]+,*|,+", word) if len(word) > _LONG_CHARS else [word]
    return "".join(f"<span>{escape(each, quote=False)}</span>" for each in parts)


def _html_line(line: str) -> str:
    if line.startswith("- "):
        return f'<p class="item">{escape(line[2:], quote=False)}</p>'
    return f"<p>{escape(line, quote=False)}</p>"
