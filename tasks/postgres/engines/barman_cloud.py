"""barman-cloud behind the port: its commands against the site's bucket, and nothing of its code in this process.

Its commands list no WAL, so the names are read from the bucket (SERVER/wals/…); the content always comes by
barman-cloud-wal-restore. It keeps no checksums: what is short or foreign shows in the WAL check, what is damaged in the
page checksums. Credentials go through the environment only.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from recovery.check import Check
from recovery.engine_options import BarmanCloudOptions
from recovery.errors import BadInput, Failed, Unproven
from recovery.point import SEGMENT_BYTES, Backup, lsn_number
from recovery.wal import (
    Archive,
    HistoryFile,
    Label,
    Partial,
    Segment,
    Switch,
    WalName,
    contiguous,
    parse,
    parse_history,
)
from tasks.postgres.engines.port import Expired, Progress, Restored, Wanted
from tasks.postgres.engines.tool import (
    DATA_SECONDS,
    LOOK_SECONDS,
    Tool,
    WalCommand,
    fetch_each,
    on_the_tools_word,
    refuse_unfit,
)
from tasks.store import Store

INSTALL = (
    "install barman-cloud in an environment of its own (pip install 'barman[cloud]'), and name its bin folder in "
    "engine_options.bin_dir"
)
LISTED_SECONDS = 20.0
_PACKED = re.compile(r"\.(?:gz|bz2|snappy|lz4|zst|xz)$")
_LIBPQ = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD",
    "passfile": "PGPASSFILE", "service": "PGSERVICE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "connect_timeout": "PGCONNECT_TIMEOUT",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class BarmanCloud:
    """One server's backups in one bucket. `place` are the arguments that name it; `store` reads names only."""

    tool: Tool
    options: BarmanCloudOptions
    resource: str
    place: tuple[str, ...]
    source_url: str
    store: Store
    _seen: dict[str, tuple[float, list[dict[str, Any]]]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """See Engine.name."""
        return "barman-cloud"

    def version(self) -> str:
        """See Engine.version."""
        return self.tool.version("barman-cloud-backup-list", ["--version"])

    def backups(self) -> tuple[Backup, ...]:
        """See Engine.backups. Those that were never finished, and snapshots of disks, are none."""
        told = self._listed()
        whole = [each for each in told if each.get("status") == "DONE" and not each.get("snapshots_info")]
        found = [self._backup(each) for each in whole if not each.get("parent_backup_id")]
        return tuple(sorted(found, key=lambda each: (each.ended_at, each.id)))

    def archive(self, system_id: str) -> Archive:
        """See Engine.archive. barman's layout knows no system: a segment of another one shows in the WAL check."""
        size = self._segment_bytes()
        kinds: dict[str, WalName] = {}
        strange: list[str] = []
        for each in self.store.list(f"{self.options.server}/wals/"):
            file = _PACKED.sub("", each.key.rpartition("/")[2])
            try:
                name = parse(file, size)
            except ValueError:
                strange.append(each.key)
                continue
            strange += [each.key] if file in kinds else []
            kinds[file] = name
        return Archive(
            system_id=system_id,
            segment_bytes=size,
            stretches=contiguous((name for name, kind in kinds.items() if isinstance(kind, Segment)), size),
            histories=self._histories([name for name, kind in kinds.items() if isinstance(kind, HistoryFile)]),
            partials=tuple(name for name, kind in kinds.items() if isinstance(kind, Partial)),
            labels=tuple(name for name, kind in kinds.items() if isinstance(kind, Label)),
            strange=tuple(strange),
        )

    def take(self, wanted: Wanted) -> Backup:
        """See Engine.take."""
        if wanted.kind != "full":
            raise BadInput(
                "barman-cloud-backup takes full backups only", hint="leave `incremental` out of the backup policy"
            )
        before = {each["backup_id"] for each in self._listed(fresh=True)}
        packed = [] if self.options.compression == "none" else [f"--{self.options.compression}"]
        how = ["--immediate-checkpoint", f"--jobs={self.options.jobs}", *packed]
        database, env = libpq(wanted.member.dsn)
        self._must("barman-cloud-backup", [*how, f"--dbname={database}"], [], patience=DATA_SECONDS, env=env)
        self._seen.clear()
        fresh = [each for each in self.backups() if each.id not in before]
        if not fresh:
            raise Failed("barman-cloud-backup ended well but lists no new backup", hint="see barman-cloud-backup-list")
        return fresh[-1]

    def fetch_data(self, chain: Sequence[Backup], into: Path, progress: Progress) -> Restored:
        """See Engine.fetch_data. Tablespaces go beside the folder, never to where the source has them."""
        last = chain[-1]
        refuse_unfit(self.tool.host, into, last.size_bytes)
        begun = time.monotonic()
        progress(0, last.size_bytes)
        told = next((each for each in self._listed() if each["backup_id"] == last.id), {})
        spaces = [str(each[0] if isinstance(each, list) else each["name"]) for each in told.get("tablespaces") or ()]
        moved = [f"--tablespace={name}:{into.parent / 'tablespaces' / name}" for name in spaces]
        self._must("barman-cloud-restore", moved, [last.id, str(into)], patience=DATA_SECONDS)
        progress(last.size_bytes, last.size_bytes)
        return Restored(seconds=time.monotonic() - begun, size_bytes=last.size_bytes)

    def fetch_wal(self, system_id: str, names: Sequence[str], into: Path) -> int:  # noqa: ARG002 -- the layout knows no system
        """See Engine.fetch_wal."""
        get = (*self.place, self.source_url, self.options.server)
        arguments = {name: (*get, name, str(into / name)) for name in names}
        command = WalCommand(program="barman-cloud-wal-restore", arguments=arguments)
        return fetch_each(self.tool, command, into, self._segment_bytes())

    def stored(self, backup: Backup) -> Check:
        """See Engine.stored."""
        return on_the_tools_word(
            "backup objects", f"barman-cloud keeps no checksums of {backup.id}'s objects; the restored pages decide"
        )

    def without_manifest(self) -> str | None:
        """See Engine.without_manifest."""
        return (
            "barman-cloud leaves no backup_manifest in the data directory, so pg_verifybackup cannot look; "
            "amcheck and the page checksums decide"
        )

    def expire(self, policy_days: int, *, really: bool) -> Expired:
        """barman-cloud-backup-delete by `retention`, or by the policy's days; ours is never applied to its objects."""
        rule = self.options.retention or f"RECOVERY WINDOW OF {max(1, policy_days)} DAYS"
        self._seen.clear()
        before = [each.id for each in self.backups()]
        how = [f"--retention-policy={rule}", *([] if really else ["--dry-run", "-v"])]
        ran = self._must("barman-cloud-backup-delete", how, [], patience=DATA_SECONDS)
        said = f"{ran.out}\n{ran.err}"
        gone = [each for each in before if each in said and f"/base/{each}/" in said]
        if really:
            self._seen.clear()
            left = {each.id for each in self.backups()}
            gone = [each for each in before if each not in left]
        return Expired(backups=tuple(gone), others=(), notes=(f"retention by barman-cloud: {rule}",))

    def _must(
        self,
        program: str,
        options: Sequence[str],
        behind: Sequence[str],
        *,
        patience: float,
        env: Mapping[str, str] | None = None,
    ) -> Any:
        arguments = [*options, *self.place, self.source_url, self.options.server, *behind]
        return self.tool.must(program, arguments, patience_seconds=patience, env=env)

    def _listed(self, *, fresh: bool = False) -> list[dict[str, Any]]:
        """What barman-cloud-backup-list says, or said a moment ago: each call costs it a second of start-up."""
        at, found = self._seen.get("list", (0.0, []))
        if fresh or "list" not in self._seen or time.monotonic() - at > LISTED_SECONDS:
            ran = self._must("barman-cloud-backup-list", ["--format=json"], [], patience=LOOK_SECONDS)
            found = list(json.loads(ran.out)["backups_list"])
            self._seen["list"] = (time.monotonic(), found)
        return found

    def _backup(self, told: Mapping[str, Any]) -> Backup:
        if "end_time_iso" not in told:
            raise Unproven(
                f"this barman-cloud tells no zone with the times of {told['backup_id']}",
                hint="install barman 3.13 or younger",
            )
        where = f"{self.options.server}/base/{told['backup_id']}/"
        return Backup(
            id=str(told["backup_id"]),
            resource=self.resource,
            system_id=str(told["systemid"]),
            timeline=int(told["timeline"]),
            kind="full",
            begin_lsn=lsn_number(told["begin_xlog"]),
            end_lsn=lsn_number(told["end_xlog"]),
            begun_at=datetime.fromisoformat(told["begin_time_iso"]),
            ended_at=datetime.fromisoformat(told["end_time_iso"]),
            server_version=int(told["version"]),
            segment_bytes=int(told.get("xlog_segment_size") or SEGMENT_BYTES),
            size_bytes=int(told.get("cluster_size") or 0),
            stored_bytes=sum(each.size_bytes for each in self.store.list(where)),
        )

    def _segment_bytes(self) -> int:
        sizes = {int(each["xlog_segment_size"]) for each in self._listed() if each.get("xlog_segment_size")}
        if len(sizes) > 1:
            raise Unproven(
                "the backups of this server have WAL segments of several sizes, so names in its archive are ambiguous",
                hint="give each cluster a server name of its own",
            )
        return sizes.pop() if sizes else SEGMENT_BYTES

    def _histories(self, names: Sequence[str]) -> dict[int, tuple[Switch, ...]]:
        if not names:
            return {}
        with tempfile.TemporaryDirectory(prefix="standfast-") as folder:
            self.fetch_wal("", names, Path(folder))
            return {int(name[:8], 16): parse_history((Path(folder) / name).read_text()) for name in names}


def libpq(dsn: str) -> tuple[str, dict[str, str]]:
    """(database, environment) of a DSN: a password in it must never be seen on a command line."""
    told = psycopg.conninfo.conninfo_to_dict(dsn)
    env = {_LIBPQ[name]: str(value) for name, value in told.items() if name in _LIBPQ and value is not None}
    return str(told.get("dbname") or "postgres"), env
