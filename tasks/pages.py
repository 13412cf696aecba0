"""What was done, as words and pages for a screen: markdown and tables of a proof, a backup, a sweep. No effects.

Separate from Prefect's door so that what a person reads can be tested without a server, and can be shown elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from recovery.check import Check, Outcome, Verdict
from recovery.proof import Proof
from recovery.scorecard import Scorecard
from tasks.backing import Taken
from tasks.sweeping import Sweep

MOST_ROWS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One artifact: `key` in lower case with dashes; markdown, or rows of a table."""

    key: str
    title: str
    markdown: str = ""
    rows: tuple[dict[str, JsonValue], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a run says of itself: whether it held, in one line; its pages; and its documents (JSON)."""

    held: bool
    text: str
    pages: tuple[Page, ...] = ()
    documents: tuple[Mapping[str, JsonValue], ...] = ()


def proof(made: Proof) -> Told:
    """A proof. It held when it is met; with a planted fault, when the fault was detected."""
    held = made.planted.detected if made.planted else made.verdict is Verdict.MET
    key = f"proof-{made.resource}-{'planted' if made.planted else made.sort}"
    text = " · ".join((made.resource, made.sort, in_a_word(made), *_figures(made)))
    return Told(
        held=held,
        text=text if held else "; ".join([text, *_reasons(made)]),
        pages=(
            Page(key=key, title=text, markdown=_proof_page(made)),
            Page(key=f"{key}-checks", title=f"checks of {text}", rows=tuple(_row(each) for each in made.checks)),
        ),
        documents=(made.model_dump(mode="json"),),
    )


def in_a_word(made: Proof) -> str:
    """The verdict; of a planted fault, whether it was detected."""
    if made.planted is None:
        return made.verdict.value
    return f"planted {made.planted.name}: {'detected' if made.planted.detected else 'not detected'}"


def _figures(made: Proof) -> list[str]:
    """RTO and RPO in a line, of a restore that was made and in which nothing was planted."""
    if made.planted is not None or not made.phases:
        return []
    return [f"RTO {made.rto_seconds:.1f} s"] + ([] if made.rpo_seconds is None else [f"RPO {made.rpo_seconds:.2f} s"])


def several(told: Sequence[Told], *, key: str, title: str) -> Told:
    """Many as one: it held when all did."""
    documents = tuple(document for each in told for document in each.documents)
    held = bool(told) and all(each.held for each in told)
    broken = [each.text for each in told if not each.held]
    rows: tuple[dict[str, JsonValue], ...] = tuple(
        {"held": "yes" if each.held else "no", "what": each.text} for each in told
    )
    return Told(
        held=held,
        text="; ".join(broken or [each.text for each in told]) or "nothing was asked for",
        pages=(Page(key=key, title=title, rows=rows),),
        documents=documents,
    )


def nothing_to_do(why: str) -> Told:
    """A run that found its work done."""
    return Told(held=True, text=f"nothing to do: {why}", documents=({"outcome": "already", "why": why},))


def backup(taken: Taken) -> Told:
    """A backup that was taken."""
    ratio = taken.size_bytes / max(1, taken.stored_bytes)
    size, stored = f"{taken.size_bytes / 1e6:.1f} MB", f"{taken.stored_bytes / 1e6:.1f} MB"
    facts = {
        "backup": f"`{taken.id}`",
        "kind": taken.kind,
        "from": taken.site,
        "size": size,
        "stored": f"{stored} (1:{ratio:.1f})",
        "time": f"{taken.seconds:.1f} s",
    }
    text = f"{taken.id} at {taken.site}: {size} in {taken.seconds:.1f} s, stored {stored}"
    page = Page(key=f"backup-{taken.resource}", title=text, markdown=f"## {taken.resource}: backup\n\n{_grid(facts)}")
    return Told(
        held=True, text=text, pages=(page,), documents=({"outcome": "changed", **taken.model_dump(mode="json")},)
    )


def mark(resource: str, key: str, timeline: int, lsn: str) -> Told:
    """A mark that was taken."""
    text = f"mark of {resource} at LSN {lsn} on timeline {timeline}"
    facts = {"mark": f"`{key}`", "LSN": lsn, "timeline": str(timeline)}
    page = Page(key=f"mark-{resource}", title=text, markdown=f"## {resource}: mark\n\n{_grid(facts)}")
    document: Mapping[str, JsonValue] = {"outcome": "changed", "key": key, "timeline": timeline, "lsn": lsn}
    return Told(held=True, text=text, pages=(page,), documents=(document,))


def swept(done: Sweep) -> Told:
    """What a sweep removed and kept, place by place; what it could not judge or remove is a failure."""
    rows: list[dict[str, JsonValue]] = [
        *(_swept("scratch", each, "removed", "past its expiry") for each in done.scratch.discarded),
        *(_swept("scratch", *_named(each, "kept")) for each in done.scratch.kept),
        *(_swept("scratch", *_named(each, "trouble")) for each in done.scratch.troubles),
    ]
    for resource, sites in done.sites.items():
        for site in sites:
            place = f"{resource} at {site.site}"
            rows += _removed(place, site.removed, site.reasons)
            rows += [_swept(place, *_named(each, "kept")) for each in site.kept]
    rows += [_swept("resource", *_named(each, "trouble")) for each in done.troubles]
    rows += [_swept("ledger", f"{n} records", "carried", f"{at} lacked them") for at, n in done.carried.items() if n]
    rows += [_swept("ledger", at, "silent", why) for at, why in done.silent.items()]
    kept = sum(row["outcome"] == "kept" for row in rows)
    removed = len(done.scratch.discarded) + sum(len(site.removed) for sites in done.sites.values() for site in sites)
    text = f"{removed} removed, {kept} kept"
    troubles = (*done.troubles, *done.scratch.troubles)
    held = not troubles
    return Told(
        held=held,
        text=text if held else f"{text}; {'; '.join(troubles[:3])}",
        pages=(Page(key="sweep", title=text, rows=tuple(rows)),) if rows else (),
        documents=(done.model_dump(mode="json"),),
    )


def _removed(place: str, names: Sequence[str], reasons: Mapping[str, str]) -> Iterator[dict[str, JsonValue]]:
    """What was removed for one reason is one row from MOST_ROWS on: WAL comes by the thousand."""
    alike: dict[str, list[str]] = {}
    for each in names:
        alike.setdefault(reasons.get(each, "not kept any longer"), []).append(each)
    for why, those in alike.items():
        shown = those if len(those) < MOST_ROWS else [f"{len(those)}: {min(those)} … {max(those)}"]
        yield from (_swept(place, each, "removed", why) for each in shown)


def score(card: Scorecard) -> Told:
    """The scorecard: each resource against its promises, with the reasons."""
    lines = [f"## {card.verdict.value}", f"from {card.runs} runs in the ledger"]
    for each in card.resources:
        proofs = [
            (state.sort, _bold(state.verdict.value, state.verdict.value), state.state,
             _seconds(state.rpo_seconds), _seconds(state.rto_seconds))
            for state in each.proofs
        ]  # fmt: skip
        slots = [(kept.what, str(kept.kept), str(kept.late), str(kept.missed)) for kept in each.punctuality]
        lines += [
            f"### {each.resource} ({each.service}): {each.verdict.value}",
            *(f"- **{why.outcome}** {plain(why.subject)}: {plain(why.fact)}  \n  hint: {plain(why.hint)}"
              for why in each.reasons),
            table(("proof", "verdict", "age", "RPO", "RTO"), proofs),
            table(("duty", "kept", "late", "missed"), slots),
        ]  # fmt: skip
    caught, planted = sum(each.caught for each in card.faults), sum(each.planted for each in card.faults)
    lines.append(f"Planted faults: {caught} of {planted} caught.")
    reasons = [
        f"{why.subject}: {why.fact}" for each in card.resources for why in each.reasons if why.outcome != "warning"
    ]
    text = "; ".join([card.verdict.value, *reasons[:3]])
    return Told(
        held=card.verdict is Verdict.MET,
        text=text,
        pages=(Page(key="scorecard", title=f"scorecard: {card.verdict.value}", markdown="\n\n".join(lines)),),
        documents=(card.model_dump(mode="json"),),
    )


def _seconds(seconds: float | None) -> str:
    return "—" if seconds is None else f"{seconds:.1f} s"


def _swept(place: str, what: str, outcome: str, why: str) -> dict[str, JsonValue]:
    return {"place": place, "what": what, "outcome": outcome, "why": why}


def _named(text: str, outcome: str) -> tuple[str, str, str]:
    what, _, why = text.partition(": ")
    return what, outcome, why


def _proof_page(made: Proof) -> str:
    rpo = "—" if made.rpo_seconds is None else f"{made.rpo_seconds:.2f} s"
    facts = {
        "verdict": f"**{made.verdict.value}**",
        "point": f"`{made.point}`" if made.point else "none",
        "target": f"`{made.target}`" if made.target else "none",
        "RPO": rpo,
        "RTO": f"{made.rto_seconds:.1f} s" if made.phases else "—",
        "run": f"`{made.run[:12]}`" if made.run else "not begun",
    }
    if made.planted is not None:
        seen = "detected" if made.planted.detected else "**not detected**"
        facts["planted fault"] = f"{plain(made.planted.what)}: {seen}"
    parts = [f"## {made.resource}: {in_a_word(made)}", _grid(facts)]
    if made.phases:
        parts += ["### RTO by phase", table(("phase", "seconds"), [(p.name, f"{p.seconds:.2f}") for p in made.phases])]
    if made.findings:
        parts += ["### Findings", *(f"- **{each.check}**: {plain(each.fact)}  \n  hint: {plain(each.hint)}"
                                    for each in made.findings[:50])]  # fmt: skip
    # A list: a table's cells are cut off on that screen, and the fact is what people look for.
    checks = [f"- {each.name}, {_said(each)}: {plain(each.fact)}" for each in made.checks]
    parts += ["### Checks", "\n".join(checks)]
    if made.leftovers:
        parts += ["### Left over", *(f"- `{each}`" for each in made.leftovers)]
    return "\n\n".join(parts)


def _outcome(check: Check) -> str:
    idle = check.outcome is Outcome.UNPROVEN and not check.applies
    return f"{check.outcome.value} (does not apply here)" if idle else check.outcome.value


def _said(check: Check) -> str:
    return _bold(_outcome(check), check.outcome.value if check.applies else "")


def _row(check: Check) -> dict[str, JsonValue]:
    return {
        "check": check.name,
        "outcome": _outcome(check),
        "seconds": round(check.seconds, 3),
        "fact": check.fact,
        "findings": len(check.findings),
    }


def _reasons(made: Proof) -> list[str]:
    """Why it does not hold, in at most three facts."""
    if made.findings:
        return [f"{each.check}: {each.fact}" for each in made.findings[:3]]
    undecided = [each for each in made.checks if each.applies and each.outcome is Outcome.UNPROVEN]
    return [f"{each.name} unproven: {each.fact}" for each in undecided[:3]]


def _bold(text: str, word: str) -> str:
    """What is not as it should be stands out."""
    return f"**{text}**" if word in ("missed", "failed", "unproven") else text


def _grid(facts: Mapping[str, str]) -> str:
    first, *others = facts.items()
    return table(first, others)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Text from data on one line of a table; it is not markup."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
