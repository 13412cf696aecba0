"""A scratch server's configuration: quiet, with one target, and nothing of the source's.

Separate from the server's life because each setting guards against a hazard (facts: Postgres, section 7) and is read on
its own: no setting of the source travels, one target, an explicit timeline, archiving off, no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime

from recovery.choose import Target
from recovery.errors import Failed
from recovery.point import lsn_text
from tasks.postgres import run_as
from tasks.postgres.scratch import PORT, Scratch

_NEEDED_AS_LARGE = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
"""Hot standby refuses to start with less than the primary had; pg_controldata tells what it had."""

QUIET: Mapping[str, str] = {
    "archive_mode": "off",
    "archive_command": "",
    "archive_library": "",
    "restore_command": "ln ../spool/%f %p",
    "primary_conninfo": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "max_logical_replication_workers": "0",
    "autovacuum": "off",
    "event_triggers": "off",
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_directories": "../socket",
    "hot_standby": "on",
    "ssl": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_min_messages": "info",
    "shared_buffers": "128MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "wal_level": "replica",
    "max_standby_archive_delay": "-1",
    "recovery_target_action": "pause",
}


def configure(scratch: Scratch, target: Target, timeline: int, *, durable: bool) -> None:
    """Write the configuration of the attempt, replacing all that the source's had to say."""
    settings = {**QUIET, **_as_large_as_before(scratch), **target_settings(target)}
    settings["recovery_target_timeline"] = str(timeline)
    settings["fsync"] = settings["full_page_writes"] = "on" if durable else "off"
    _write(scratch, settings)
    (scratch.data / "recovery.signal").touch()
    scratch.data.chmod(0o700)


def configure_copy(scratch: Scratch) -> None:
    """For a copy of a server's own data: it recovers its own WAL, opens, and lets nobody write."""
    settings = {**QUIET, **_as_large_as_before(scratch), "default_transaction_read_only": "on", "fsync": "off"}
    _write(scratch, settings)
    (scratch.data / "recovery.signal").unlink(missing_ok=True)
    scratch.data.chmod(0o700)


def _write(scratch: Scratch, settings: Mapping[str, str]) -> None:
    settings = {name: value for name, value in settings.items() if _known(scratch, name)}
    (scratch.folder / "socket").mkdir(mode=0o700, exist_ok=True)
    (scratch.folder / "postgresql.conf").write_text(conf_text(settings))
    (scratch.folder / "hba.conf").write_text("local all all trust\n")
    (scratch.folder / "ident.conf").write_text("")
    auto = scratch.data / "postgresql.auto.conf"
    if auto.exists():
        shutil.copyfile(auto, scratch.folder / "source.auto.conf")
    auto.write_text("")
    for name in ("standby.signal", "postmaster.pid", "postmaster.opts"):
        (scratch.data / name).unlink(missing_ok=True)


def target_settings(target: Target) -> dict[str, str]:
    """The one target, never two. Times carry their offset: a naive one would be read in the server's own zone."""
    match target.kind:
        case "time":
            at = (target.at or datetime.now(UTC)).astimezone(UTC)
            return {"recovery_target_time": at.strftime("%Y-%m-%d %H:%M:%S.%f+00"), "recovery_target_inclusive": "on"}
        case "lsn":
            return {"recovery_target_lsn": lsn_text(target.lsn or 0), "recovery_target_inclusive": "off"}
        case "latest":
            return {"recovery_target_lsn": lsn_text(target.lsn or 0), "recovery_target_inclusive": "on"}
        case "own-end":  # no LSN: a backup of a standby may be consistent before the end that its marker tells
            return {"recovery_target": "immediate"}


def conf_text(settings: Mapping[str, str]) -> str:
    """A postgresql.conf; quotes are doubled as its syntax asks."""
    return "".join("{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in sorted(settings.items()))


def _as_large_as_before(scratch: Scratch) -> dict[str, str]:
    argv, _ = run_as.server_argv([str(scratch.bin_dir / "pg_controldata"), str(scratch.data)], isolated=False)
    ran = subprocess.run(
        argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if ran.returncode != 0:
        raise Failed(
            f"the restored control file cannot be read: {ran.stderr.strip()[:200]}",
            hint="the backup is damaged, or bin_dir is of another major version than the backup",
        )
    lines = (line.partition(":") for line in ran.stdout.splitlines())
    return {
        _NEEDED_AS_LARGE[name.strip()]: value.strip() for name, _, value in lines if name.strip() in _NEEDED_AS_LARGE
    }


def _known(scratch: Scratch, name: str) -> bool:
    """Settings that younger versions brought: left out for older ones."""
    since = {"archive_library": 15, "event_triggers": 17}
    version = int((scratch.data / "PG_VERSION").read_text().strip())
    return version >= since.get(name, 0)
