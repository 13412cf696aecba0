"""A pair of real servers, an archive in memory, and a stage on which verbs of roles act: for tests only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import zstandard

from deployments.lab import scratch_cluster
from deployments.lab.postgres import server
from deployments.lab.scratch_cluster import SETTINGS, Cluster, cluster
from recovery.catalog import Member, PostgresResource
from recovery.drive import Move
from recovery.plan import Plan
from recovery.step import Mode, Step
from recovery.wal import parse
from tasks.home import Home
from tasks.kind import Facts, Scene
from tasks.ledger_dir import DirectoryLedger
from tasks.postgres.archived import key_of
from tasks.postgres.run_as import give
from tasks.signatures import Signer
from tasks.stage import Stage
from tests.hands.memory_store import MemoryStore

DB = "orders-db"
STEPS = (
    Step(id="demote", verb="demote", resource=DB),
    Step(id="promote", verb="promote", resource=DB, needs=("demote",), patience_seconds=60),
)


@dataclass(kw_only=True)
class HomeOfTest:
    """As much of a home as the verbs ask for."""

    resource_: PostgresResource
    stores: dict[str, MemoryStore]
    folder: Path

    @property
    def catalog(self) -> Any:
        """Without a witness."""
        return SimpleNamespace(ledger=SimpleNamespace(home="directory:ledger"), sites={})

    def resource(self, name: str) -> PostgresResource:
        return self.resource_

    def backups(self, name: str, site: str) -> MemoryStore:
        return self.stores[site]

    def keys(self, name: str) -> Mapping[str, object]:
        return {}

    def ledger(self) -> DirectoryLedger:
        return DirectoryLedger(self.folder / "ledger")


@dataclass(kw_only=True)
class Pair:
    """`east` is the primary, `west` its standby; `archive` is what west's bucket holds."""

    east: Cluster
    west: Cluster
    archive: MemoryStore = field(default_factory=MemoryStore)
    others: dict[str, Member] = field(default_factory=dict)

    def member(self, which: Cluster) -> Member:
        return Member(dsn=which.dsn, data_dir=str(which.data_dir), bin_dir=str(which.bin_dir))

    def stage(self, plan: Plan) -> Stage:
        members = {"east": self.member(self.east), "west": self.member(self.west), **self.others}
        resource = PostgresResource(
            kind="postgres", objective="o", backup="b", proof="p", owner="t", members=members, bucket="b"
        )
        home = HomeOfTest(
            resource_=resource, stores={"west": self.archive, "east": MemoryStore()}, folder=self.east.data_dir.parent
        )
        return Stage(home=cast(Home, home), plan=plan, sign=cast(Signer, None))

    def plan(self, mode: Mode = Mode.UNGRACEFUL, steps: tuple[Step, ...] = STEPS[1:]) -> Plan:
        system, timeline = one(
            self.west.dsn,
            "select system_identifier::text, timeline_id from pg_control_system(), pg_control_checkpoint()",
        )
        steps = tuple(each.model_copy(update={"needs": ()}) for each in steps)
        return Plan(
            purpose="failover", runbook="failover", runbook_version="1", service="p",
            asked_at=datetime(2026, 11, 24, 3, tzinfo=UTC), mode=mode, steps=steps,
            pinned={
                "from": "east", "to": "west",
                "databases": {DB: {"system_id": system, "timeline": timeline, "candidates": ["west"]}},
            },
        )  # fmt: skip

    def keep(self, file: Path, name: str = "") -> None:
        """Put a WAL file into the archive, as the agent does."""
        raw = file.read_bytes()
        system = str(one(self.west.dsn, "select system_identifier::text from pg_control_system()")[0])
        name = name or file.name
        self.archive.put(
            key_of(system, parse(name), name),
            zstandard.compress(raw),
            {"sha256": hashlib.sha256(raw).hexdigest(), "size": str(len(raw))},
        )


def one(dsn: str, query: str) -> tuple[Any, ...]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def run(dsn: str, text: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(text.encode())


def wait_for(what: str, true: Any, patience_seconds: float = 20) -> None:
    end = time.monotonic() + patience_seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.01)


def caught_up(pair: Pair) -> None:
    there = one(pair.east.dsn, "select pg_current_wal_flush_lsn()::text")[0]
    wait_for("replay", lambda: one(pair.west.dsn, f"select pg_last_wal_replay_lsn() >= '{there}'")[0])


def scene_of(plan: Plan, results: Mapping[str, Facts] | None = None) -> Scene:
    return Scene(
        plan=plan, results=results or {}, attempts={}, now=lambda: datetime.now(UTC), say=lambda text, share: None,
        mode=plan.mode,
    )  # fmt: skip


def perform(verb: Any, plan: Plan, step: str, results: Mapping[str, Facts] | None = None, attempt: int = 1) -> Facts:
    move = Move(step=plan.step(step), attempt=attempt, last=attempt >= plan.step(step).tries)
    return cast(Facts, verb.perform(move, scene_of(plan, results)))


@contextmanager
def second_standby(two: Pair, folder: Path) -> Iterator[Cluster]:
    """One more, as the first: streaming from east."""
    copy = folder / "second"
    how = ["--checkpoint=fast", "--wal-method=stream", "--no-sync", "-R", "-C", "--slot=west_2"]
    server.tool(two.east.bin_dir, "pg_basebackup", "-d", two.east.dsn, "-D", str(copy), *how)
    give(copy)
    with ExitStack() as stack:
        yield scratch_cluster._run(stack, two.east.bin_dir, copy, None, {**SETTINGS, "archive_mode": "off"})


@contextmanager
def pair(folder: Path, *, standby_archives: bool = False, segment_mb: int = 1, **settings: str) -> Iterator[Pair]:
    chosen = {"wal_retrieve_retry_interval": "1s", "max_slot_wal_keep_size": "1GB", **settings}
    more = {"archive_mode": "on", "archive_command": "false"} if standby_archives else {}
    with cluster(
        folder / "pair", archive=True, settings=chosen, standby=True, standby_settings=more, segment_mb=segment_mb
    ) as east:
        assert east.standby is not None
        run(
            east.dsn,
            "create table rows (seq int primary key); insert into rows select generate_series(1, 100);"
            "create schema standfast; create table standfast.beat (id bigint generated always as identity primary key,"
            " at timestamptz not null default clock_timestamp(),"
            " lsn pg_lsn not null default pg_current_wal_insert_lsn());"
            "insert into standfast.beat default values",
        )
        found = Pair(east=east, west=east.standby)
        caught_up(found)
        yield found
