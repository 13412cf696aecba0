"""The peer barman-cloud: its commands in a virtual environment of its own (it is GPL, and never imported here)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deployments.lab.postgres import server
from tests.bench.measure import Contender
from tests.bench.ours import Ours, gone
from tests.bench.scene import BUCKET, Scene

VERSION = "3.19.1"  # 3.20 and later need Python 3.12
WHO = f"barman-cloud {VERSION}"
NEEDS = f"barman[cloud,lz4,zstandard]=={VERSION}"


@dataclass(frozen=True, kw_only=True)
class Barman:
    """The commands' folder and what they are pointed at."""

    bin_dir: Path
    scene: Scene

    def run(self, command: str, *arguments: str) -> str:
        """One command. Raises RuntimeError with its words."""
        argv = self.argv(command, *arguments)
        ran = subprocess.run(argv, env=self.scene.s3.environment(), capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{command}: {ran.stderr[-1500:]}")
        return ran.stdout

    def argv(self, command: str, *arguments: str) -> list[str]:
        """The command with the S3 server's options."""
        where = ["--endpoint-url", str(self.scene.s3.endpoint.endpoint_url), "--addressing-style", "path"]
        return [str(self.bin_dir / command), *where, *arguments]

    def backup(self, name: str) -> int:
        """A full backup under a server's name; gives its stored bytes."""
        there = ["-h", str(self.scene.source.socket_dir), "-p", "5432", "-U", "postgres", "--immediate-checkpoint"]
        self.run("barman-cloud-backup", *there, "--lz4", "-J", "2", f"s3://{BUCKET}/barman", name)
        return sum(each.size_bytes for each in self.scene.s3.store("barman").list(f"{name}/"))

    def newest(self, name: str) -> str:
        """The id of the newest backup."""
        told = json.loads(self.run("barman-cloud-backup-list", "--format", "json", f"s3://{BUCKET}/barman", name))
        return str(told["backups_list"][-1]["backup_id"])

    def archive(self, files: list[Path], name: str) -> int:
        """WAL files, one call after the other, as archive_command does it."""
        for file in files:
            self.run("barman-cloud-wal-archive", "--zstd", f"s3://{BUCKET}/barman", name, str(file))
        return sum(each.size_bytes for each in self.scene.s3.store("barman").list(f"{name}/"))

    def restore(self, name: str, backup: str, into: Path) -> int:
        """A backup's data."""
        self.run("barman-cloud-restore", f"s3://{BUCKET}/barman", name, backup, str(into))
        return 0


def install(folder: Path) -> tuple[Path | None, str]:
    """The commands' folder, made on demand; or None and the reason."""
    given = os.environ.get("BENCH_BARMAN_BIN")
    if given and (Path(given) / "barman-cloud-backup").exists():
        return Path(given), ""
    home = folder / "barman-venv"
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", NEEDS]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True)
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=600)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return None, f"pip install '{NEEDS}' failed: {said[-1][:200] if said else error}"
    return home / "bin", ""


def contenders(barman: Barman, ours: Ours, segments: list[Path]) -> dict[str, list[Contender]]:
    """Its rows by section. There is no incremental to S3 in barman-cloud-backup."""
    scene = barman.scene
    out = scene.folder / "barman-restored"
    base = barman.newest("pitr")
    return {
        "backup": [
            Contender(
                name="full backup (lz4, -J 2)", who=WHO, limit="tar | zstd -1", act=lambda: barman.backup(_name("b"))
            )
        ],
        "restore": [
            Contender(
                name="restore of a full",
                who=WHO,
                limit="cp -r",
                act=lambda: barman.restore("pitr", base, out),
                before=gone(out),
            )
        ],
        "wal": [
            Contender(
                name=f"archive {len(segments)} segments of WAL (zstd)",
                who=WHO,
                limit="raw PUTs of the packed segments, 4 at a time",
                act=lambda: barman.archive(segments, _name("w")),
            )
        ],
        "pitr": [],
    }


def recovery(barman: Barman, ours: Ours, files: list[Path]) -> Contender:
    """As its manual has it: restore the data, then WAL by restore_command."""
    out = barman.scene.folder / "barman-pitr"
    backup = barman.newest("pitr")
    barman.archive(files, "pitr")
    name = f"PITR: a full, {barman.scene.segments} segments of WAL, until it answers"
    return Contender(name=name, who=WHO, limit=name, act=lambda: _pitr(barman, ours, backup, out), before=gone(out))


def _pitr(barman: Barman, ours: Ours, backup: str, out: Path) -> int:
    out.mkdir()
    data = out / "data"
    barman.restore("pitr", backup, data)
    data.chmod(0o700)
    fetch = shlex.join(barman.argv("barman-cloud-wal-restore", f"s3://{BUCKET}/barman", "pitr"))
    assert ours.moment is not None
    recover(
        barman.scene.source.bin_dir,
        data,
        out,
        restore_command=f"{fetch} %f %p",
        moment=ours.moment,
        env=barman.scene.s3.environment(),
    )
    return 0


def recover(
    bin_dir: Path, data: Path, folder: Path, *, restore_command: str, moment: datetime, env: dict[str, str]
) -> None:
    """Start on restored files, wait until it is paused at the moment and answers rightly, stop. The settings are as
    quick as ours: no fsync, no archiving."""
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "archive_mode": "off",
        "fsync": "off",
        "full_page_writes": "off",
        "restore_command": restore_command,
        "recovery_target_time": moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00"),
        "recovery_target_action": "pause",
    }
    lines = "".join(f"{name} = {server.quoted(value)}\n" for name, value in settings.items())
    (data / "postgresql.auto.conf").write_text(lines)
    (data / "recovery.signal").touch()
    os.environ.update({name: value for name, value in env.items() if name.startswith("AWS_")})
    process = server.start(bin_dir, data, log=folder / "log")
    try:
        said = _paused(f"host={folder} port=5432 user=postgres dbname=postgres", lambda: process.poll() is None)
        assert said == ["before"], said
    except RuntimeError as error:
        raise RuntimeError(f"{error}: {(folder / 'log').read_text(errors='replace')[-1500:]}") from None
    finally:
        server.stop(process)


def _paused(dsn: str, alive: Callable[[], bool], patience_seconds: float = 900.0) -> list[str]:
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute("select pg_get_wal_replay_pause_state()").fetchone()
            if row and row[0] == "paused":
                rows = connection.execute("select said from moment order by at").fetchall()
                return [str(each[0]) for each in rows]
        if not alive():
            break
        time.sleep(0.05)
    raise RuntimeError("recovery did not reach the moment")


def _name(stem: str) -> str:
    return f"{stem}{datetime.now(UTC):%H%M%S%f}"
