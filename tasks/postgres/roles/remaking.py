"""Making a server's data another's follower: rewound or copied anew, with its own configuration, and a standby's.

Separate from returning.py, which decides in what order: here is each act by itself, and what has to be on the disk when
it is done, since a power cut may follow any of them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recovery.errors import Failed, Refused
from tasks.host import LocalHost
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.orders import Work, write_durably
from tasks.postgres.run_as import give, server_argv
from tasks.postgres.stopping import servers_in

REWIND_SECONDS = 3600.0
BACKUP_SECONDS = 8 * 3600.0
STRIPPED = (
    "default_transaction_read_only", "restore_command", "primary_conninfo", "primary_slot_name", "recovery_target",
    "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name",
    "recovery_target_timeline", "recovery_target_action", "recovery_target_inclusive",
)  # fmt: skip
"""What postgresql.auto.conf of a standby must not say from its earlier life."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """The new primary as this server reaches it. `dsn` may read everything there; `conninfo` streams."""

    site: str
    dsn: str
    conninfo: str
    slot: str


def rewinding(config: AgentConfig) -> Path:
    """There while a rewind is underway: after a kill in its midst the data is of no server any more."""
    return config.state_dir / "rewinding"


def own_configuration(config: AgentConfig) -> Path:
    """Where the server's own configuration lies: its data directory, but for a rewind that was killed, which may have
    put the other server's there."""
    return config.state_dir / "configuration" if rewinding(config).exists() else config.data_dir


def rewind(config: AgentConfig, upstream: Upstream, work: Work) -> None:
    """Bring the data back to where the new timeline left it. Its own configuration survives."""
    work.say(f"rewinding to where {upstream.site} took over", None)
    kept = config.state_dir / "configuration"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    keep_configuration(config.data_dir, kept)
    write_durably(rewinding(config), b"")
    _run(
        config, upstream.dsn, "pg_rewind", f"--target-pgdata={config.data_dir}", "--source-server={dsn}",
        patience_seconds=REWIND_SECONDS,
    )  # fmt: skip
    keep_configuration(kept, config.data_dir)
    give(config.data_dir)


def base_backup(config: AgentConfig, upstream: Upstream, into: Path) -> None:
    """A whole copy of the new primary, with all WAL that it needs."""
    _run(
        config, upstream.conninfo, "pg_basebackup", "-d", "{dsn}", "-D", str(into), "--checkpoint=fast",
        "--wal-method=stream", f"--slot={upstream.slot}", "--no-password", patience_seconds=BACKUP_SECONDS,
    )  # fmt: skip
    give(into)


def keep_configuration(source: Path, into: Path) -> None:
    """Every .conf file of a data directory's top."""
    for path in source.glob("*.conf"):
        if path.is_file():
            shutil.copy2(path, into / path.name)
            to_disk(into / path.name)
    to_disk(into)


def as_standby(data: Path, upstream: Upstream) -> None:
    """standby.signal, and postgresql.auto.conf says whom it follows and nothing of its earlier life."""
    auto = data / "postgresql.auto.conf"
    lines = auto.read_text().splitlines() if auto.exists() else []
    kept = [line for line in lines if line.split("=")[0].strip().lower() not in STRIPPED]
    said = {"primary_conninfo": upstream.conninfo, "primary_slot_name": upstream.slot}
    kept += ["{} = '{}'".format(name, value.replace("\\", "\\\\").replace("'", "''")) for name, value in said.items()]
    write_durably(auto, "".join(f"{line}\n" for line in kept).encode())
    (data / "recovery.signal").unlink(missing_ok=True)
    (data / "standby.signal").touch()
    to_disk(data / "standby.signal")
    to_disk(data)
    give(data)


def swap(fresh: Path, data: Path, aside: Path) -> None:
    """Put the fresh data into the place of the old, which is kept aside. After a kill in between: only the rest."""
    if data.exists() and not aside.exists():
        data.rename(aside)
    fresh.rename(data)
    to_disk(data.parent)


def to_disk(path: Path) -> None:
    """A file, or a folder's list of files, survives a power cut from now on."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _run(config: AgentConfig, dsn: str, tool: str, *words: str, patience_seconds: float) -> None:
    """A tool of Postgres with a DSN among its words (`{dsn}`); its password, if it has one, goes by the environment."""
    if tool == "pg_rewind" and servers_in(config.data_dir):
        raise Refused("a server runs on the old data", hint="stop it first; nothing was touched")
    parts = conninfo_to_dict(dsn)
    password = parts.pop("password", None)
    clean = make_conninfo("", **parts)
    argv, _ = server_argv(
        [str(config.bin_dir / tool), *(word.replace("{dsn}", clean) for word in words)], isolated=False
    )
    env = {name: "" for name in os.environ if name.startswith("PG")} | {"LC_ALL": "C", "TZ": "UTC"}
    if password:
        env["PGPASSWORD"] = str(password)
    ran = LocalHost().run(argv, env=env, patience_seconds=patience_seconds)
    if ran.code:
        raise Failed(
            f"{tool} failed: {' '.join((ran.err or ran.out).split())[-300:]}",
            hint="see both servers' logs; the old data is as it was, or is rebuilt next",
        )
