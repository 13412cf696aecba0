"""Catalog and content against the mark: equal to the last row and object, but only where the copy stands there."""

from __future__ import annotations

from datetime import datetime

from recovery.check import Check, Outcome
from recovery.mark import CATALOG, Mark, compare, same_place
from recovery.point import lsn_text
from tasks.postgres.checks.context import CheckContext, failed, passed, session, unproven
from tasks.postgres.fingerprint import fingerprint
from tasks.postgres.place import place


def against_mark(context: CheckContext, name: str) -> Check:
    """One fingerprint serves both names: `catalog` (objects) and `content` (rows); see `split`."""
    mark = context.mark
    if mark is None:
        return unproven(
            name, "content equality is judged by the proof to a mark; this one was given none", applies=False
        )
    with session(context) as connection:
        stands = place(connection)
    why = same_place(mark, system_id=stands.system_id, timeline=stands.timeline, lsn=stands.lsn)
    if why:
        meant = context.target.kind == "lsn" and context.target.lsn == mark.lsn
        return unproven(name, f"{why}; only a copy at exactly the mark can be compared", applies=meant)
    seen = fingerprint(context.dsn, now=_instant_of(mark), patience_seconds=context.patience_seconds)
    found = compare(mark, seen)
    if found:
        return failed(name, found)
    rows = sum(table.rows or 0 for part in seen.databases.values() for table in part.tables.values())
    objects = len(seen.globals) + sum(len(part.objects) for part in seen.databases.values())
    notes = f"; {len(seen.notes)} not comparable: {seen.notes[0]}" if seen.notes else ""
    return passed(name, f"{objects} objects and {rows} rows equal the mark at {lsn_text(mark.lsn)}{notes}")


def split(check: Check) -> tuple[Check, Check]:
    """The comparison as its two checks: each has its own findings, and fails only by them."""
    sides = []
    for name in (CATALOG, "content"):
        findings = tuple(finding for finding in check.findings if finding.check == name)
        if check.findings and not findings:
            sides.append(
                check.model_copy(
                    update={"name": name, "outcome": Outcome.PASSED, "fact": f"no difference of {name}", "findings": ()}
                )
            )
        elif findings:
            more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
            sides.append(check.model_copy(update={"name": name, "fact": findings[0].fact + more, "findings": findings}))
        else:
            sides.append(check.model_copy(update={"name": name}))
    return sides[0], sides[1]


def _instant_of(mark: Mark) -> datetime:
    """The fingerprint of a copy is compared and thrown away: its time is the mark's."""
    return mark.at
