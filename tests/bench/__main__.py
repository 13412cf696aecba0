"""`make bench`: our speeds as ratios of interleaved runs on this machine, against peers and the machine's own limits.

    python -m tests.bench [--size 2GB] [--rounds 5] [--only backup,restore,wal,pitr] [--segments 30] [--json FILE]

Every round runs every contender once, in another order each time; the tables give medians. A peer that can't be had is
named with the reason. Nothing here passes or fails. Everything lies below one temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import psycopg
from rich.console import Console

from tests.bench import barman, ours, pgbackrest, told
from tests.bench import scene as making
from tests.bench.measure import Contender, Servers, run, start_bytes
from tests.bench.scene import Scene

TITLES = {
    "backup": "Backup into S3 (limits: to a local file)",
    "restore": "Restore from S3, data only (ratio: to cp -r of the same files)",
    "wal": "WAL archiving (ratio: to bare PUTs of the same stored bytes)",
    "pitr": "Restore to an exact moment, end to end",
}
WAL_SEGMENTS = 24


def main() -> int:
    """Prepare, measure, tell."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say = Console(stderr=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-bench-", dir=asked.folder)))
        say.print(f"a database of {asked.mb} MB is generated …")
        scene = stack.enter_context(making.scene(folder, mb=asked.mb, segments=asked.segments))
        sections, servers, missing = _prepared(stack, scene, asked.only, say)
        start = start_bytes()
        for one in (each for rows in sections.values() for each in rows if each.who == ours.ME):
            one.start_bytes = start
        begun = time.monotonic()
        load = os.getloadavg()
        done = 0
        try:
            for done in range(1, asked.rounds + 1):
                _round(sections, servers, say)
                say.print(f"round {done} of {asked.rounds} ({time.monotonic() - begun:.0f} s)")
                _keep(sections, asked.json)
        except KeyboardInterrupt:
            say.print(f"stopped in round {done}: what was measured until then")
            done -= 1
        _tell(sections, missing, done, asked.mb, load, scene)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--size", default="2GB", help="of the generated database, like 500MB or 2GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(TITLES), help=f"sections: {', '.join(TITLES)}")
    parser.add_argument("--segments", type=int, default=30, help="segments of WAL that the restore to a moment replays")
    parser.add_argument("--folder", default=None, help="where to work (default: the temporary folder)")
    parser.add_argument("--json", type=Path, default=None, help="also write every sample here")
    asked = parser.parse_args()
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])B?", asked.size, re.IGNORECASE)
    if size is None:
        parser.error(f"--size {asked.size}: write it like 500MB or 2GB")
    asked.mb = int(float(size[1]) * (1000 if size[2].upper() == "G" else 1))
    asked.only = [each.strip() for each in asked.only.split(",")]
    if unknown := [each for each in asked.only if each not in TITLES]:
        parser.error(f"--only {unknown[0]}: the sections are {', '.join(TITLES)}")
    return asked


def _prepared(
    stack: ExitStack, scene: Scene, only: list[str], say: Console
) -> tuple[dict[str, list[Contender]], Servers, list[str]]:
    """Everybody's backups and archives in place; gives who runs in which section, and who is missing and why."""
    say.print("backups that restores start from …")
    mine = ours.prepare(scene, lambda: making.change(scene.source.dsn))
    servers = Servers(s3=[scene.s3.pid], postgres=[scene.source.pid])
    sections: dict[str, list[Contender]] = {name: [] for name in only}
    missing: list[str] = []
    bin_dir, why = barman.install(scene.folder)
    if bin_dir is None:
        missing.append(f"barman-cloud {barman.VERSION}: {why}")
    peer = barman.Barman(bin_dir=bin_dir, scene=scene) if bin_dir else None
    other = None
    if why := pgbackrest.missing():
        missing.append(f"pgBackRest: {why}")
    else:
        say.print("the same data on Postgres 15 for pgBackRest …")
        other = stack.enter_context(pgbackrest.pgbackrest(scene))
        servers.postgres.append(other.pid)
    say.print("WAL to replay and to archive …")
    files, beyond = _wal(scene, mine, peer, other)
    _add(sections, "backup", ours.backups(mine))
    _add(sections, "restore", ours.restores(mine))
    _add(sections, "wal", ours.archiving(mine, files) if "wal" in sections else [])
    if peer is not None:
        for name, rows in barman.contenders(peer, mine, files).items():
            _add(sections, name, rows)
    with psycopg.connect(scene.source.dsn) as connection:
        row = connection.execute("select sum(pg_database_size(oid))::bigint from pg_database").fetchone()
    reference = int(row[0]) if row else 0
    if other is not None:
        for name, rows in pgbackrest.contenders(other, reference).items():
            _add(sections, name, rows)
        _add(sections, "wal", pgbackrest.archiving(other, beyond, len(files)))
    if "pitr" in sections:
        first = ours.recovery(mine)
        _add(sections, "pitr", first)
        if peer is not None:
            _add(sections, "pitr", [barman.recovery(peer, mine, _archived(scene))])
        if other is not None:
            _add(sections, "pitr", [pgbackrest.recovery(other, first[0].name, reference / other.size_bytes)])
    return sections, servers, missing


def _add(sections: dict[str, list[Contender]], name: str, rows: list[Contender]) -> None:
    if name in sections:
        sections[name] += rows


def _wal(
    scene: Scene, mine: ours.Ours, peer: barman.Barman | None, other: pgbackrest.PgBackRest | None
) -> tuple[list[Path], list[Path]]:
    """Fresh fulls, then WAL with a moment in it. Gives segments to archive: ours and barman's, and pgBackRest's."""
    for old in _archived(scene):  # of the time before the backups: nobody replays it
        old.unlink()
    ours.take(scene, "pitr", "full")
    if peer is not None:
        peer.backup("pitr")
    mine.moment = making.write_wal(scene.source.dsn, scene.segments)
    making.archived(scene.source.dsn)
    files = _archived(scene)
    ours.archive_for_recovery(mine, files)
    beyond: list[Path] = []
    if other is not None:
        other.take("full")
        other.labels["pitr"] = other.newest("full")
        other.moment = making.write_wal(other.dsn, scene.segments)
        making.archived(other.dsn)
        beyond = sorted(each for each in other.copies.iterdir() if len(each.name) == 24)
    return files[-WAL_SEGMENTS - 3 : -3], beyond[-WAL_SEGMENTS - 3 : -3]


def _archived(scene: Scene) -> list[Path]:
    """Every whole segment that archive_command has copied."""
    assert scene.source.archive_dir is not None
    return sorted(each for each in scene.source.archive_dir.iterdir() if len(each.name) == 24)


def _round(sections: dict[str, list[Contender]], servers: Servers, say: Console) -> None:
    for rows in sections.values():
        order = list(rows)
        random.shuffle(order)
        for one in order:
            os.sync()
            sample = run(one, servers)
            say.print(f"  {one.who}: {one.name}: {sample.wall:.2f} s", highlight=False)


def _tell(
    sections: dict[str, list[Contender]],
    missing: list[str],
    rounds: int,
    mb: int,
    load: tuple[float, ...],
    scene: Scene,
) -> None:
    out = Console(width=None if sys.stdout.isatty() else 170)
    cores = os.cpu_count() or 1
    version = subprocess.run([str(scene.source.bin_dir / "postgres"), "-V"], capture_output=True, text=True, check=True)
    out.print(
        f"{mb} MB asked, {version.stdout.strip()}; {cores} cores; medians of {rounds} interleaved rounds; "
        f"load before {load[0]:.1f}, after {os.getloadavg()[0]:.1f}. CPU seconds are the robust numbers on a "
        "shared machine; the S3 server runs on the same cores.\n",
        highlight=False,
    )
    for name, rows in sections.items():
        told.tell(out, TITLES[name], rows, cores)
    for each in missing:
        out.print(f"SKIPPED {each}", highlight=False, markup=False)


def _keep(sections: dict[str, list[Contender]], path: Path | None) -> None:
    """Every sample so far, for whoever wants to look closer."""
    if path is None:
        return
    raw = {
        name: [
            {"name": one.name, "who": one.who, "scale": one.scale, "samples": [asdict(each) for each in one.samples]}
            for one in rows
        ]
        for name, rows in sections.items()
    }
    path.write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    sys.exit(main())
