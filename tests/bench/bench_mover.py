"""How fast the mover is, as ratios of interleaved runs on this machine: `python -m tests.bench.bench_mover --mb 2000`.

Against the limits (`cp -r` without and with `sync`, `tar | zstd -1`) and against Postgres's own tool piped into zstd.
Every round runs every contender once; the table gives medians over the rounds, processor seconds (ours with our
children; server side separately), the peak of our memory and the bytes stored. See TRUTH.md, noise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from deployments.lab.scratch_cluster import Cluster, cluster
from recovery.catalog import Member
from recovery.point import Backup
from tasks.host import LocalHost
from tasks.postgres import basebackup, unpack, unpack_chain
from tasks.s3_store import S3Store
from tests.hands.store_backends import endpoint, store_at

EVENTS = """
create table events (id bigint, account int, at timestamptz, kind text, payload text);
insert into events select i, (random() * 100000)::int, now() - i * interval '1 s', 'kind ' || i % 17,
  md5(i::text) || repeat('.', (i % 60)::int) || md5((i * 7)::text) from generate_series(1, {rows}) i;
create index on events (id); create index on events (account, at);
"""
CHANGES = (
    "update pgbench_accounts set abalance = abalance + 1 where aid % 400 = 0; delete from events where id % 1000 = 0"
)


@dataclass
class Contender:
    """One thing that is measured; `limit` names the contender whose wall is its unit."""

    name: str
    act: Callable[[], int]
    limit: str
    before: Callable[[], None] = lambda: None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)
    stored: int = 0


@dataclass(frozen=True, kw_only=True)
class World:
    """The servers and folders of one bench."""

    source: Cluster
    member: Member
    store: S3Store
    folder: Path
    servers: list[psutil.Process]

    def take(self, kind: str, parent: Backup | None = None) -> Backup:
        return basebackup.take(
            self.member,
            self.store,
            host=LocalHost(),
            resource="bench",
            kind="full" if kind == "full" else "incremental",
            parent=parent,
            clock=lambda: datetime.now(UTC),
        )


def main() -> None:
    asked = _arguments()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-mover-", dir=asked.folder)))
        world = _world(stack, folder, asked.mb)
        full = world.take("full")
        with psycopg.connect(world.source.dsn, autocommit=True) as connection:
            for statement in CHANGES.split(";"):
                connection.execute(statement.encode())
        incremental = world.take("incremental", full)
        unpack.restore(world.store, full, folder / "reference")
        unpack_chain.restore_chain(world.store, full, incremental, folder / "chain reference")
        contenders = [*_backups(world, full), *_restores(world, full, incremental)]
        for number in range(asked.rounds):
            for one in contenders:
                _measure(one, world)
            print(f"round {number + 1} of {asked.rounds}", file=sys.stderr)
        _print(contenders, full, incremental, asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=2000, help="size of the generated database")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where to work (default: the temporary folder)")
    parser.add_argument("--json", type=Path, default=None, help="also write the raw figures here")
    return parser.parse_args()


def _world(stack: ExitStack, folder: Path, mb: int) -> World:
    settings = {"shared_buffers": "256MB", "max_wal_size": "8GB"}
    source = stack.enter_context(cluster(folder / "source", settings=settings))
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    at = stack.enter_context(endpoint("weed", folder))
    weed = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    scale = max(1, mb // 30)  # half of it pgbench (15 MB a unit), half events, which compress like real rows
    tool = [str(source.bin_dir / "pgbench"), "-i", "-q", "-s", str(scale), source.dsn]
    subprocess.run(tool, check=True, capture_output=True)
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        for statement in EVENTS.format(rows=mb * 2600).split(";"):
            if statement.strip():
                connection.execute(statement.encode())
        connection.execute(b"vacuum analyze")
        connection.execute(b"checkpoint")
    member = Member(dsn=source.dsn, data_dir=str(source.data_dir), bin_dir=str(source.bin_dir))
    return World(source=source, member=member, store=store_at(at), folder=folder, servers=weed)


def _backups(world: World, full: Backup) -> list[Contender]:
    data, out = world.source.data_dir, world.folder / "out"
    dump = (
        f"{shlex.quote(str(world.source.bin_dir))}/pg_basebackup -d {shlex.quote(world.source.dsn)} -Ft -D - -X fetch"
    )
    level = f"zstd -q -1 -T0 -c > {shlex.quote(str(out))}"
    limit = "tar | zstd -1"
    return [
        Contender(limit, _shell(f"tar -C {shlex.quote(str(data))} -c . | {level}", out), limit, _gone(out)),
        Contender("pg_basebackup | zstd", _shell(f"{dump} -c fast | {level}", out), limit, _gone(out)),
        Contender("full backup", lambda: world.take("full").stored_bytes, limit),
        Contender("incremental backup", lambda: world.take("incremental", full).stored_bytes, limit),
    ]


def _restores(world: World, full: Backup, incremental: Backup) -> list[Contender]:
    out, reference = world.folder / "restored", world.folder / "reference"
    chain = world.folder / "chain reference"
    quoted, target = shlex.quote(str(reference)), shlex.quote(str(out))
    limit, limit_chain = "cp -r", "cp -r (of the chain)"
    store = world.store
    return [
        Contender(limit, _shell(f"cp -r {quoted} {target}", None), limit, _gone(out)),
        Contender("cp -r, sync", _shell(f"cp -r {quoted} {target}; sync -f {target}", None), limit, _gone(out)),
        Contender("restore", lambda: unpack.restore(store, full, out).fetched_bytes, limit, _gone(out)),
        Contender("restore, sync", lambda: _synced(store, full, out), limit, _gone(out)),
        Contender(limit_chain, _shell(f"cp -r {shlex.quote(str(chain))} {target}", None), limit_chain, _gone(out)),
        Contender(
            "restore of full + incremental",
            lambda: unpack_chain.restore_chain(store, full, incremental, out).fetched_bytes,
            limit_chain,
            _gone(out),
        ),
    ]


def _synced(store: S3Store, full: Backup, out: Path) -> int:
    fetched = unpack.restore(store, full, out).fetched_bytes
    subprocess.run(["sync", "-f", str(out)], check=True)
    return fetched


def _shell(line: str, out: Path | None) -> Callable[[], int]:
    def act() -> int:
        subprocess.run(["/bin/sh", "-c", line], check=True, stderr=subprocess.DEVNULL)
        return out.stat().st_size if out else 0

    return act


def _gone(path: Path) -> Callable[[], None]:
    def act() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)

    return act


def _measure(one: Contender, world: World) -> None:
    one.before()
    servers = [*world.servers, *_tree(world.source.pid)]
    ours, theirs, all_ = _ours(), _cpu(servers), _machine()
    begun = datetime.now(UTC)
    one.stored = one.act()
    one.seconds.append((datetime.now(UTC) - begun).total_seconds())
    one.cpu.append(_ours() - ours)
    one.server_cpu.append(max(0.0, _cpu([*world.servers, *_tree(world.source.pid)]) - theirs))
    one.foreign.append(max(0.0, _machine() - all_ - one.cpu[-1] - one.server_cpu[-1]))


def _tree(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def _ours() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cpu(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            told = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += told.user + told.system + told.children_user + told.children_system
    return total


def _machine() -> float:
    told = psutil.cpu_times()
    return float(told.user + told.system + told.nice)


def _print(contenders: list[Contender], full: Backup, incremental: Backup, asked: argparse.Namespace) -> None:
    walls = {one.name: median(one.seconds) for one in contenders}
    title = (
        f"{full.size_bytes / 1e6:.0f} MB database, {full.stored_bytes / 1e6:.0f} MB stored; incremental "
        f"{incremental.stored_bytes / 1e6:.1f} MB; {os.cpu_count()} cores; medians of {asked.rounds}; our memory peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    table = Table("what", "s", "best s", "ratio", "to", "CPU s", "servers' CPU s", "foreign CPU s", "MB", title=title)
    for one in contenders:
        table.add_row(
            one.name,
            f"{median(one.seconds):.2f}",
            f"{min(one.seconds):.2f}",
            f"{walls[one.name] / walls[one.limit]:.2f}",
            one.limit,
            f"{median(one.cpu):.2f}",
            f"{median(one.server_cpu):.2f}",
            f"{median(one.foreign):.2f}",
            f"{one.stored / 1e6:.1f}",
        )
    Console(width=140).print(table)
    if asked.json:
        raw = {one.name: {"seconds": one.seconds, "cpu": one.cpu, "server_cpu": one.server_cpu} for one in contenders}
        asked.json.write_text(json.dumps({"title": title, "runs": raw}, indent=1))


if __name__ == "__main__":
    main()
