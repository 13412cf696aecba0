"""A base backup, full or incremental, from a running server into a bucket; visible only when it is complete.

Separate from the moving of bytes: here is the order of events that makes a killed backup invisible. The folder's name
is taken by a create-only `begun.json`; then the data, its index, the manifest; last, create-only, the commit marker.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import zstandard

from recovery.catalog import Member
from recovery.errors import BadInput, Failed, Refused
from recovery.point import Backup, lsn_number
from recovery.value import canonical, rfc3339
from tasks.host import Host
from tasks.postgres import base_index, source
from tasks.postgres.leftovers import Leftover, leftovers, sweep_leftovers
from tasks.postgres.pack import Packed, Progress, pack
from tasks.postgres.seal import Key
from tasks.postgres.tar_index import tar_index
from tasks.store import AlreadyThere, Store

__all__ = ["Leftover", "folder", "leftovers", "manifest_of", "sweep_leftovers", "take"]

_MANIFEST_LIMIT_BYTES = 4 << 30


def take(
    member: Member,
    store: Store,
    *,
    host: Host,
    resource: str,
    kind: Literal["full", "incremental"],
    parent: Backup | None = None,
    clock: Callable[[], datetime],
    key: Key | None = None,
    level: int = 1,
    stall_seconds: float = 300.0,
    progress: Progress | None = None,
) -> Backup:
    """Take a backup of `member` into `store` and give its marker. An incremental needs the full `parent`.

    Raises BadInput or Refused before anything is begun, Failed afterwards; then no marker exists, and what lies there
    is swept later. `begun_at` and `ended_at` are by the server's clock.
    """
    if (kind == "incremental") != (parent is not None):
        raise BadInput(f"a {kind} backup with parent {parent and parent.id}", hint="give a parent to incrementals only")
    with source.connected(member) as connection:
        server = source.look(connection)
        source.refuse_unfit(server, incremental=parent is not None)
        manifest = _parents_manifest(store, parent, server.system_id) if parent else None
        backup_id = _begin(store, server.system_id, kind, clock())
        where = f"base/{server.system_id}/{backup_id}"
        source.hold_wal(connection)
        packed = _stream(
            member, store, where, host=host, manifest=manifest, key=key, level=level, stall_seconds=stall_seconds,
            expected_bytes=server.size_bytes if parent is None else 0, progress=progress,
        )  # fmt: skip
        ended_at = source.clock_of(connection)
    backup = _described(packed, server, backup_id, resource=resource, parent=parent, ended_at=ended_at, key=key)
    return _commit(store, where, packed, backup)


def folder(backup: Backup) -> str:
    """The backup's folder in its store."""
    return f"base/{backup.system_id}/{backup.id}"


def manifest_of(store: Store, backup: Backup) -> bytes:
    """The backup's manifest as Postgres wrote it. Raises Failed when it is absent or not what the marker says."""
    found = store.get(f"{folder(backup)}/{base_index.MANIFEST}")
    if found is None or hashlib.sha256(found[0]).hexdigest() != backup.objects.get(base_index.MANIFEST):
        raise Failed(
            f"the manifest of backup {backup.id} is {'absent' if found is None else 'damaged'}",
            hint="use another backup, or repair this one from the other site's copy",
        )
    return zstandard.ZstdDecompressor().decompress(found[0], max_output_size=_MANIFEST_LIMIT_BYTES)


def _parents_manifest(store: Store, parent: Backup, system_id: str) -> bytes:
    if parent.kind != "full" or parent.system_id != system_id:
        raise Refused(
            f"{parent.id} is {parent.kind} of system {parent.system_id}; this server is system {system_id}",
            hint="take a full backup of this cluster first",
        )
    return manifest_of(store, parent)


def _begin(store: Store, system_id: str, kind: str, now: datetime) -> str:
    """Take a free id. Two engines that begin in the same second get two ids."""
    stem = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{'full' if kind == 'full' else 'incr'}"
    told = {"begun_at": rfc3339(now), "host": socket.gethostname(), "pid": os.getpid()}
    for number in range(1, 100):
        backup_id = stem if number == 1 else f"{stem}-{number}"
        try:
            store.put(f"base/{system_id}/{backup_id}/{base_index.BEGUN}", json.dumps(told).encode())
        except AlreadyThere:
            continue
        return backup_id
    raise Failed(
        f"99 backups named {stem} were begun already", hint="see what begins so many, and this machine's clock"
    )


def _stream(
    member: Member,
    store: Store,
    where: str,
    *,
    host: Host,
    manifest: bytes | None,
    key: Key | None,
    level: int,
    stall_seconds: float,
    expected_bytes: int,
    progress: Progress | None,
) -> Packed:
    upload = store.upload(f"{where}/{base_index.SEALED if key else base_index.BASE}")
    index = tar_index("backup_manifest", "backup_label")
    try:
        with tempfile.TemporaryDirectory(prefix="standfast-manifest-") as scratch:
            path = None
            if manifest is not None:
                path = Path(scratch) / "backup_manifest"
                path.write_bytes(manifest)
            with source.base_stream(member, host, label=f"standfast {where.rpartition('/')[2]}", manifest=path) as tar:
                packed = pack(
                    tar, upload, index, key=key, level=level, stall_seconds=stall_seconds,
                    expected_bytes=expected_bytes, progress=progress,
                )  # fmt: skip
        _refuse_torn(packed, ended=index.ended)
        upload.complete()
    except AlreadyThere:
        upload.abort()
        raise Failed(f"someone else wrote into {where}", hint="run it again; it gets another id") from None
    except BaseException:
        _abort(upload)
        raise
    return packed


def _refuse_torn(packed: Packed, *, ended: bool) -> None:
    if not ended or not {"backup_manifest", "backup_label"} <= packed.kept.keys():
        raise Failed(
            "pg_basebackup's stream had no end, no manifest or no label", hint="see the server's log of this time"
        )


def _abort(upload: Any) -> None:
    """Forget the parts; when that fails too, the first error matters and the sweep finds the rest."""
    from contextlib import suppress

    from recovery.errors import DrError

    with suppress(DrError):
        upload.abort()


def _described(
    packed: Packed,
    server: source.Server,
    backup_id: str,
    *,
    resource: str,
    parent: Backup | None,
    ended_at: datetime,
    key: Key | None,
) -> Backup:
    ranges = json.loads(packed.kept["backup_manifest"])["WAL-Ranges"]
    begin_lsn = lsn_number(ranges[0]["Start-LSN"])
    if parent is not None and f"INCREMENTAL FROM LSN: {_lsn(parent)}" not in packed.kept["backup_label"].decode():
        raise Failed(f"the server took no incremental against {parent.id}", hint="take a full backup")
    return Backup(
        id=backup_id,
        resource=resource,
        system_id=server.system_id,
        timeline=ranges[-1]["Timeline"],
        kind="incremental" if parent else "full",
        parent=parent.id if parent else None,
        begin_lsn=begin_lsn,
        end_lsn=lsn_number(ranges[-1]["End-LSN"]),
        begun_at=server.clock,
        ended_at=ended_at,
        server_version=server.version,
        segment_bytes=server.segment_bytes,
        size_bytes=sum(member.size_bytes for member in packed.members),
        stored_bytes=packed.stored_bytes,
        objects={base_index.SEALED if key else base_index.BASE: packed.sha256},
        encrypted_with=key.fingerprint if key else None,
    )


def _lsn(parent: Backup) -> str:
    from recovery.point import lsn_text

    return lsn_text(parent.begin_lsn)


def _commit(store: Store, where: str, packed: Packed, backup: Backup) -> Backup:
    """Index and manifest, then the marker, unless a sweep took the folder away meanwhile."""
    small = {
        base_index.INDEX: base_index.encoded(packed),
        base_index.MANIFEST: zstandard.ZstdCompressor(level=9).compress(packed.kept["backup_manifest"]),
    }
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in small.items()}
    backup = backup.model_copy(
        update={
            "objects": {**backup.objects, **hashes},
            "stored_bytes": backup.stored_bytes + sum(map(len, small.values())),
        }
    )
    try:
        for name, body in small.items():
            store.put(f"{where}/{name}", body)
        if store.head(f"{where}/{base_index.BEGUN}") is None:
            raise Failed(f"{where} was swept as a leftover while it was written", hint="run it again")
        store.put(f"{where}/{base_index.MARKER}", canonical(backup))
    except AlreadyThere as error:
        raise Failed(f"someone else wrote {error.key}", hint="run it again; it gets another id") from None
    return backup
