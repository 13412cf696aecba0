"""The report: a scorecard, the newest proofs and the ledger's verification turned into what a page shows. Pure.

Separate from the scorecard, which holds the numbers: here they become plots and rows. The page itself is a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recovery.check import Outcome
from recovery.past import Past
from recovery.plots import Bar, Part, Row, bars, calendar, line
from recovery.proof import Proof
from recovery.report_changes import ShownChange, shown_changes
from recovery.scorecard import BackupScore, Punctuality, ResourceScore, Scorecard, Series, proofs_of
from recovery.value import Value
from recovery.verification import Checked

SHOWN_PROOFS = 6
SHOWN_BARS = 36
PHASES = ("decide", "fetch", "verify", "recover", "plant", "check")


class Verified(Value):
    """What verification found over `checked` of the ledger's `runs`: counts, and the runs that are not whole."""

    outcome: Outcome
    runs: int
    checked: int
    passed: int
    unproven: int
    failed: int
    troubles: tuple[Checked, ...]


class Plots(Value):
    """The plots of one resource, as SVG; empty where there is nothing to plot."""

    resource: str
    rto: str
    phases: tuple[str, ...]
    rpo: str
    sizes: str
    durations: str
    calendar: str


class Document(Value):
    """All numbers of a report. The page is drawn from it, and `--json` is it."""

    home: str
    ledger: str
    scorecard: Scorecard
    proofs: tuple[Proof, ...]
    changes: tuple[ShownChange, ...]
    verification: Verified


def document(
    card: Scorecard,
    runs: Sequence[Past],
    checked: Sequence[Checked],
    *,
    lost: Mapping[str, int],
    home: str,
    ledger: str,
    troubles: bool = False,
) -> Document:
    """The report's numbers. `runs` newest first; `lost`: run → commits of users that its list of losses holds;
    `troubles`: copies of the ledger disagree."""
    counted = {word: sum(each.outcome is word for each in checked) for word in Outcome}
    found = next((word for word in (Outcome.FAILED, Outcome.UNPROVEN) if counted[word]), Outcome.PASSED)
    return Document(
        home=home,
        ledger=ledger,
        scorecard=card,
        proofs=tuple(newest_proofs(proofs_of(runs))),
        changes=shown_changes(runs, lost),
        verification=Verified(
            outcome=Outcome.FAILED if troubles else found if checked else Outcome.UNPROVEN,
            runs=len(runs),
            checked=len(checked),
            passed=counted[Outcome.PASSED],
            unproven=counted[Outcome.UNPROVEN],
            failed=counted[Outcome.FAILED],
            troubles=tuple(each for each in checked if each.outcome is not Outcome.PASSED),
        ),
    )


def newest_proofs(proofs: Sequence[Proof]) -> list[Proof]:
    """Of each resource the newest of each sort without a planted fault, then the next newest, up to SHOWN_PROOFS."""
    shown: list[Proof] = []
    for resource in dict.fromkeys(each.resource for each in proofs):
        mine = [each for each in proofs if each.resource == resource and each.planted is None]
        first: dict[str, Proof] = {}
        for each in mine:
            first.setdefault(each.sort, each)
        rest = [each for each in mine if each not in first.values()]
        shown += [*first.values(), *rest][:SHOWN_PROOFS]
    return shown


def plots(score: ResourceScore, proofs: Sequence[Proof]) -> Plots:
    """The plots of one resource. `proofs` newest first."""
    mine = [each for each in proofs if each.resource == score.resource and each.planted is None and each.phases]
    shown = list(reversed(mine[:SHOWN_BARS]))
    names = {phase.name for each in shown for phase in each.phases}
    return Plots(
        resource=score.resource,
        rto=bars([_rto(each) for each in shown], title="RTO of each proof by phase", unit="s"),
        phases=tuple(each for each in (*PHASES, *sorted(names - set(PHASES))) if each in names),
        rpo=_rpo(score.rpo),
        sizes=bars(
            _sizes(score.backups), title="size and stored size of each backup", unit="MB", height=170, width=440
        ),
        durations=bars(_durations(score.backups), title="duration of each backup", unit="s", height=170, width=440),
        calendar=calendar([_slots(each) for each in score.punctuality if each.slots], title="slots kept, late, missed"),
    )


def _rto(proof: Proof) -> Bar:
    phases = ", ".join(f"{each.name} {each.seconds:.2f} s" for each in proof.phases)
    at = proof.ended_at.strftime("%Y-%m-%d %H:%MZ")
    said = f"{at} {proof.sort}: RTO {proof.rto_seconds:.2f} s, {proof.verdict.value} ({phases})"
    parts = tuple(Part(name=each.name, amount=each.seconds, style=_style(each.name)) for each in proof.phases)
    return Bar(label=proof.ended_at.strftime("%m-%d %H:%M"), said=said, parts=parts)


def _style(phase: str) -> str:
    return f"ph-{phase}" if phase in PHASES else "ph-other"


def _rpo(series: Series) -> str:
    points = [
        (
            each.at.strftime("%m-%d %H:%M"),
            f"{each.at.strftime('%Y-%m-%d %H:%MZ')}: RPO {each.seconds:.2f} s, run {each.run[:8]}",
            each.seconds,
        )
        for each in series.samples[-SHOWN_BARS:]
    ]
    return line(points, title="RPO of each proof to the latest moment", unit="s", style="rpo")


def _sizes(backups: Sequence[BackupScore]) -> list[Bar]:
    return [
        Bar(
            label=each.begun_at.strftime("%m-%d %H:%M"),
            said=f"{each.id}: {each.size_bytes / 1e6:.1f} MB, stored {each.stored_bytes / 1e6:.1f} MB",
            parts=(
                Part(name="stored", amount=each.stored_bytes / 1e6, style="stored"),
                Part(name="saved", amount=max(0, each.size_bytes - each.stored_bytes) / 1e6, style="saved"),
            ),
        )
        for each in backups[-SHOWN_BARS:]
    ]


def _durations(backups: Sequence[BackupScore]) -> list[Bar]:
    return [
        Bar(
            label=each.begun_at.strftime("%m-%d %H:%M"),
            said=f"{each.id}: {each.taken_seconds:.2f} s",
            parts=(Part(name="took", amount=each.taken_seconds, style=each.kind),),
        )
        for each in backups[-SHOWN_BARS:]
    ]


def _slots(found: Punctuality) -> Row:
    cells = tuple(
        (each.state, f"{found.what}, slot {each.slot.strftime('%Y-%m-%d %H:%MZ')}: {each.state}")
        for each in found.slots
    )
    return Row(name=found.what, cells=cells)
