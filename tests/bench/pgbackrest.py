"""The peer pgBackRest, as the distribution packages it, on a cluster of the newest Postgres that it supports.

Debian 12 has 2.45, which knows Postgres up to 15, so it backs up a PG 15 cluster of the same generated data; its S3
repository needs TLS, which the same S3 server speaks with a certificate of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from deployments.lab.postgres import server
from tasks.postgres.run_as import server_argv
from tests.bench import scene as making
from tests.bench.barman import recover
from tests.bench.measure import Contender
from tests.bench.ours import gone
from tests.bench.scene import BUCKET, REGION, Scene

STANZA = "bench"
MAIN, BESIDE = "pgbackrest", "pgbackrest-beside"
"""Repositories: BESIDE keeps one full, so that every round's differential has the same changes to find."""
PG15 = Path("/usr/lib/postgresql/15/bin")


@dataclass(kw_only=True)
class PgBackRest:
    """A configured stanza over a running PG 15 cluster."""

    scene: Scene
    version: str
    folder: Path
    data: Path
    socket_dir: Path
    pid: int
    moment: datetime | None = None
    size_bytes: int = 0
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def copies(self) -> Path:
        """Every archived segment once more."""
        return self.folder / "copies"

    @property
    def who(self) -> str:
        """For the table."""
        return f"pgBackRest {self.version} (PG 15)"

    @property
    def dsn(self) -> str:
        """How to connect."""
        return f"host={self.socket_dir} port=5432 user=postgres dbname=postgres"

    def run(self, command: str, *options: str) -> str:
        """One command. Raises RuntimeError with its words."""
        argv = self.argv(command, *options)
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"pgbackrest {command}: {(ran.stdout + ran.stderr)[-1500:]}")
        return ran.stdout

    def argv(self, command: str, *options: str) -> list[str]:
        """The command with its configuration; options come before it in pgBackRest's own grammar, or after."""
        name, *rest = command.split(" ")
        config = f"--config={self.folder / 'pgbackrest.conf'}"
        return ["pgbackrest", config, f"--stanza={STANZA}", *options, name, *rest]

    def take(self, kind: str, repo: str = MAIN) -> int:
        """A backup; stored bytes are what the repository grew by. Archiving goes to the main repository only."""
        before = self._stored(repo)
        self.run("backup", f"--type={kind}", f"--repo1-path=/{repo}", *([] if repo == MAIN else ["--no-archive-check"]))
        return self._stored(repo) - before

    def newest(self, kind: str) -> str:
        """The label of the newest backup of that kind in the main repository."""
        return next(each for each in reversed(self.run("info").splitlines()) if f"{kind} backup:" in each).split()[-1]

    def make(self, repo: str) -> None:
        """Another repository."""
        self.run("stanza-create", f"--repo1-path=/{repo}")

    def _stored(self, repo: str) -> int:
        return sum(each.size_bytes for each in self.scene.s3.store(repo).list(f"backup/{STANZA}/"))


def missing() -> str:
    """Why it can't be had, or nothing."""
    if shutil.which("pgbackrest") is None:
        return "pgbackrest is not installed (apt-get install pgbackrest)"
    if not (PG15 / "postgres").exists():
        return "no Postgres 15 (apt-get install postgresql-15); this pgBackRest supports none younger"
    return ""


@contextmanager
def pgbackrest(scene: Scene) -> Iterator[PgBackRest]:
    """PG 15 with the same data, archiving through pgBackRest, with a full and a differential backup."""
    version = subprocess.run(["pgbackrest", "version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    folder = scene.folder / "pg15"
    folder.mkdir()
    data = folder / "data"
    argv, _ = server_argv(
        [str(PG15 / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-k"], isolated=False
    )
    subprocess.run([*argv, "--locale=C", "-E", "UTF8"], check=True, capture_output=True)
    with tempfile.TemporaryDirectory(prefix="standfast-") as short:
        made = PgBackRest(scene=scene, version=version, folder=folder, data=data, socket_dir=Path(short), pid=0)
        _configure(made)
        log = folder / "log"
        process = server.start(PG15, data, log=log)
        made.pid = process.pid
        try:
            server.wait_for_status(data, log=log, alive=lambda: process.poll() is None)
            made.make(MAIN)
            made.make(BESIDE)
            made.size_bytes = _fill(made)
            _archive_through_it(made)
            made.take("full")
            made.take("full", BESIDE)
            making.change(made.dsn)
            made.labels["full"] = made.newest("full")
            made.take("diff")
            made.labels["diff"] = made.newest("diff")
            yield made
        finally:
            process.kill()
            server.stop(process)


def _archive_through_it(made: PgBackRest) -> None:
    """From here on; the WAL of filling the database is nobody's business."""
    config = f"--config={made.folder / 'pgbackrest.conf'}"
    push = f"cp %p {made.copies}/%f && pgbackrest {config} --stanza={STANZA} archive-push %p"
    with psycopg.connect(made.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("alter system set archive_command = {}").format(push))
        connection.execute("select pg_reload_conf()")
        connection.execute("select pg_switch_wal()")


def _fill(made: PgBackRest) -> int:
    making.fill(made.dsn, [str(PG15 / "pgbench")], made.scene.mb)
    with psycopg.connect(made.dsn) as connection:
        row = connection.execute("select sum(pg_database_size(oid))::bigint from pg_database").fetchone()
    return int(row[0]) if row else 0


def _configure(made: PgBackRest) -> None:
    s3, folder = made.scene.s3, made.folder
    for name in ("log-files", "lock", "spool", "copies"):
        (folder / name).mkdir()
    options = {
        "repo1-type": "s3",
        "repo1-path": "/pgbackrest",
        "repo1-s3-endpoint": "localhost",
        "repo1-storage-host": s3.host,
        "repo1-storage-port": str(s3.tls_port),
        "repo1-storage-verify-tls": "n",
        "repo1-s3-uri-style": "path",
        "repo1-s3-bucket": BUCKET,
        "repo1-s3-region": REGION,
        "repo1-s3-key": s3.access_key,
        "repo1-s3-key-secret": s3.secret_key,
        "process-max": "2",
        "compress-type": "zst",
        "compress-level": "1",
        "start-fast": "y",
        "log-path": str(folder / "log-files"),
        "lock-path": str(folder / "lock"),
        "spool-path": str(folder / "spool"),
        "log-level-file": "off",
        "repo1-retention-full": "99",
    }
    stanza = {"pg1-path": str(made.data), "pg1-socket-path": str(made.socket_dir), "pg1-user": "postgres"}
    text = "[global]\n" + "".join(f"{name}={value}\n" for name, value in options.items())
    text += f"[{STANZA}]\n" + "".join(f"{name}={value}\n" for name, value in stanza.items())
    path = folder / "pgbackrest.conf"
    path.touch(mode=0o600)
    path.write_text(text)
    settings = {
        **making.SETTINGS,
        "listen_addresses": "",
        "unix_socket_directories": str(made.socket_dir),
        "port": "5432",
        "fsync": "off",
        "wal_level": "replica",
        "wal_compression": "pglz",
        "max_wal_senders": "5",
        "archive_mode": "on",
        "archive_command": "true",
        "timezone": "UTC",
    }
    server.configure(made.data, settings, file="bench.conf")


def contenders(made: PgBackRest, reference_bytes: int) -> dict[str, list[Contender]]:
    """Its rows by section."""
    out, who = made.folder / "restored", made.who
    scale = reference_bytes / made.size_bytes if made.size_bytes else 1.0

    def restore(label: str) -> int:
        made.run("restore", f"--pg1-path={out}", f"--set={label}", "--type=none", "--archive-mode=off")
        return 0

    state = {"round": 0}

    def another() -> None:
        state["round"] += 1
        made.make(f"pgbackrest-full{state['round']}")

    fresh = _fresh(out)
    return {
        "backup": [
            Contender(
                name="full backup (zstd 1, 2 processes)",
                who=who,
                limit="tar | zstd -1",
                act=lambda: made.take("full", f"pgbackrest-full{state['round']}"),
                before=another,
                scale=scale,
            ),
            Contender(
                name="differential (same changes)",
                who=who,
                limit="tar | zstd -1",
                act=lambda: made.take("diff", BESIDE),
                scale=scale,
            ),
        ],
        "restore": [
            Contender(
                name="restore of a full",
                who=who,
                limit="cp -r",
                act=lambda: restore(made.labels["full"]),
                before=fresh,
                scale=scale,
            ),
            Contender(
                name="restore of a differential",
                who=who,
                limit="cp -r (of the chain)",
                act=lambda: restore(made.labels["diff"]),
                before=fresh,
                scale=scale,
            ),
        ],
    }


def _fresh(out: Path) -> Callable[[], None]:
    def act() -> None:
        gone(out)()
        out.mkdir(mode=0o700)

    return act


def recovery(made: PgBackRest, name: str, scale: float) -> Contender:
    """Restore to a moment; WAL by its archive-get."""
    out = made.folder / "pitr"

    def act() -> int:
        (out / "data").mkdir(parents=True, mode=0o700)
        made.run(
            "restore", f"--pg1-path={out / 'data'}", f"--set={made.labels['pitr']}", "--type=none", "--archive-mode=off"
        )
        fetch = " ".join(["pgbackrest", f"--config={made.folder / 'pgbackrest.conf'}", f"--stanza={STANZA}"])
        fetch += f" --pg1-path={out / 'data'} archive-get %f %p"
        assert made.moment is not None
        recover(PG15, out / "data", out, restore_command=fetch, moment=made.moment, env={})
        return 0

    return Contender(name=name, who=made.who, limit=name, act=act, before=gone(out), scale=scale)


def archiving(made: PgBackRest, segments: list[Path], count: int) -> list[Contender]:
    """archive-push of segments that wait in pg_wal, synchronous, each round into a repository of its own."""
    state = {"round": 0}

    def fresh() -> None:
        state["round"] += 1
        made.make(f"pgbackrest-wal{state['round']}")

    def act() -> int:
        for segment in segments:
            made.run(f"archive-push {segment}", f"--repo1-path=/pgbackrest-wal{state['round']}")
        return 0

    return [
        Contender(
            name=f"archive {len(segments)} segments of WAL (zstd 1, one by one)",
            who=made.who,
            limit="raw PUTs of the packed segments, 4 at a time",
            act=act,
            before=fresh,
            scale=count / len(segments),
        )
    ]
