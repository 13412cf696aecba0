"""What the numbers say: the table, ours against each peer, and what stands between us and the limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench.measure import Contender
from tests.bench.ours import LIMIT, ME


def wall(one: Contender) -> float:
    """Median seconds, corrected to the limit's amount of data."""
    return median(sample.wall for sample in one.samples) * one.scale


def ratio(one: Contender, other: Contender) -> float:
    """Median of the ratios of interleaved runs: the machine's mood of a round cancels out."""
    pairs = zip(one.samples, other.samples, strict=False)
    return median(mine.wall * one.scale / (theirs.wall * other.scale) for mine, theirs in pairs)


def table(title: str, contenders: Sequence[Contender]) -> Table:
    """One section."""
    heads = (
        "what",
        "who",
        "s",
        "best s",
        "ratio",
        "own CPU s",
        "S3 CPU s",
        "PG CPU s",
        "foreign CPU s",
        "peak MB",
        "stored MB",
    )
    made = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        made.add_column(head, justify="left" if number < 2 else "right")
    limits = {one.name: one for one in reversed(contenders)}
    for one in contenders:
        if not one.samples:
            continue
        of = {name: median(getattr(sample, name) for sample in one.samples) for name in vars(one.samples[0])}
        limit = limits.get(one.limit)
        made.add_row(
            one.name,
            one.who,
            f"{wall(one):.2f}",
            f"{min(sample.wall for sample in one.samples) * one.scale:.2f}",
            f"{ratio(one, limit):.2f}" if limit is not None and limit.samples else "",
            *(f"{of[name] * one.scale:.2f}" for name in ("own_cpu", "s3_cpu", "pg_cpu")),
            f"{of['foreign_cpu']:.2f}",
            f"{max(sample.peak_bytes for sample in one.samples) / 1e6:.0f}",
            f"{of['stored_bytes'] * one.scale / 1e6:.1f}" if of["stored_bytes"] else "",
        )
    return made


def against(contenders: Sequence[Contender]) -> list[str]:
    """Ours against every peer that does the same."""
    mine = [one for one in contenders if one.who == ME and one.samples]
    peers = [one for one in contenders if one.who not in {ME, LIMIT} and one.samples]
    return [
        f"{one.name}: {ratio(peer, one):.2f} times as fast as {peer.who} ({peer.name})"
        for one in mine
        for peer in peers
        if _kind(peer) == _kind(one)
    ]


def limits(contenders: Sequence[Contender]) -> list[str]:
    """WAL has two limits: the bytes that are stored, put bare, and the bytes that Postgres hands over, put bare."""
    return [
        f"{one.name}: {ratio(one, limit):.2f} times as long as the limit '{limit.name}'"
        for one in contenders
        if one.who == ME and one.samples and _kind(one) == "archive"
        for limit in contenders
        if limit.who == LIMIT and limit.samples
    ]


def _kind(one: Contender) -> str:
    """What of it is comparable: the first words, without how it is done."""
    for words in ("full backup", "pg_basebackup |"):
        if one.name.startswith(words):
            return "full backup"
    for words in ("incremental", "differential", "pg_basebackup --incremental"):
        if one.name.startswith(words):
            return "incremental"
    if one.name in {"restore of a full", "zstd -dc | tar x, from disk"}:
        return "restore"
    if one.name.startswith("restore of a ") and "sync" not in one.name:
        return "restore of two"
    first = one.name.split(" ")[0]
    return first if first in {"archive", "PITR:"} else one.name


def between(contenders: Sequence[Contender], cores: int) -> list[str]:
    """For each of ours: the floor that its processor time sets, whose time that is, and what the limit needs."""
    limits = {one.name: one for one in reversed(contenders)}
    lines: list[str] = []
    for one in (one for one in contenders if one.who == ME and one.samples):
        of = {name: median(getattr(sample, name) for sample in one.samples) for name in vars(one.samples[0])}
        total = of["own_cpu"] + of["s3_cpu"] + of["pg_cpu"]
        shares = ", ".join(
            f"{of[name] / total:.0%} {whose}"
            for name, whose in (("own_cpu", "ours"), ("s3_cpu", "the S3 server's"), ("pg_cpu", "Postgres's"))
            if of[name] / total >= 0.01
        )
        line = (
            f"{one.name}: {of['wall']:.2f} s, of which processor time forces {total / cores:.2f} s on {cores} cores "
            f"({total:.2f} CPU-s: {shares}); others took {of['foreign_cpu'] / of['wall']:.2f} cores meanwhile"
        )
        limit = limits.get(one.limit)
        if limit is not None and limit is not one and limit.samples:
            theirs = median(sample.own_cpu + sample.s3_cpu + sample.pg_cpu for sample in limit.samples)
            line += (
                f"; the limit '{limit.name}' needs {theirs:.2f} CPU-s, so ours has {total / theirs:.2f} times its work"
            )
        lines.append(line)
    return lines


def tell(console: Console, title: str, contenders: Sequence[Contender], cores: int) -> None:
    """A section in full."""
    if not any(one.samples for one in contenders):
        return
    console.print(table(title, contenders))
    for line in [*limits(contenders), *against(contenders)]:
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    console.print("  what stands between this and the limit:", highlight=False)
    for line in between(contenders, cores):
        console.print(f"  - {line}", soft_wrap=True, highlight=False, markup=False)
    console.print()
