"""What pgBackRest says as JSON, as our values: backups from `info`, WAL file names from `repo-ls`. No process is run.

Separate from the adapter because this is pgBackRest's format (doc/xml/reference.xml, `info` and `repo-ls`) and can be
tested from text. Names in its archive are NAME-SHA1OFTHERAWFILE.EXT; history and backup files carry neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from recovery.errors import Failed, Unproven
from recovery.point import Backup, lsn_number

_FILE = re.compile(r"([0-9A-F]{24}(?:\.partial)?)-([0-9a-f]{40})(?:\.(?:gz|bz2|lz4|zst))?")
_OTHER = re.compile(r"([0-9A-F]{8}\.history|[0-9A-F]{24}\.[0-9A-F]{8}\.backup)(?:\.(?:gz|bz2|lz4|zst))?")
_LATER = timedelta(seconds=1)


def stanza_of(told: Any, stanza: str) -> Mapping[str, Any]:
    """The stanza's part of `info --output=json`. Raises Failed when it is not there or not in order."""
    found = next((each for each in told if each.get("name") == stanza), None)
    status = (found or {}).get("status", {})
    # 0: in order; 2: no backup yet, which is an answer too.
    if found is None or status.get("code") not in {0, 2}:
        said = status.get("message", "no such stanza")
        raise Failed(
            f"pgbackrest says of stanza {stanza}: {said}", hint="`pgbackrest info` by hand; is the stanza's name right?"
        )
    return dict(found)


def backups(stanza: Mapping[str, Any], resource: str, segment_bytes: int) -> tuple[Backup, ...]:
    """Every complete backup, oldest first. Raises Unproven when this version doesn't tell LSNs."""
    systems = {(db["repo-key"], db["id"]): db for db in stanza.get("db", ())}
    found = [_backup(each, systems, resource, segment_bytes) for each in stanza.get("backup", ())]
    return tuple(sorted(found, key=lambda each: (each.ended_at, each.id)))


def _backup(told: Mapping[str, Any], systems: Mapping[Any, Any], resource: str, segment_bytes: int) -> Backup:
    if "lsn" not in told:
        raise Unproven(
            f"this pgbackrest tells no LSNs of backup {told['label']}", hint="install pgbackrest 2.37 or younger"
        )
    db = systems[told["database"]["repo-key"], told["database"]["id"]]
    label = str(told["label"])
    full = told["type"] == "full"
    return Backup(
        id=label,
        resource=resource,
        system_id=str(db["system-id"]),
        timeline=int(told["archive"]["start"][:8], 16),
        kind="full" if full else "incremental",
        parent=None if full else label.partition("_")[0],
        begin_lsn=lsn_number(told["lsn"]["start"]),
        end_lsn=lsn_number(told["lsn"]["stop"]),
        begun_at=datetime.fromtimestamp(told["timestamp"]["start"], UTC),
        # Whole seconds, rounded down: it surely had ended a second later.
        ended_at=datetime.fromtimestamp(told["timestamp"]["stop"], UTC) + _LATER,
        server_version=_version(str(db["version"])),
        segment_bytes=segment_bytes,
        size_bytes=int(told["info"]["delta"]),  # what is in it: of a differential not what its full holds
        stored_bytes=int(told["info"].get("repository", {}).get("delta") or 0),
    )


def _version(text: str) -> int:
    major, _, minor = text.partition(".")
    return int(major) * 10000 + (int(minor) * 100 if int(major) < 10 and minor.isdigit() else 0)


def error_of(stanza: Mapping[str, Any], label: str) -> bool | None:
    """Whether pgBackRest met broken page checksums while it took that backup; None when it doesn't say."""
    told: Mapping[str, Any] = next((each for each in stanza.get("backup", ()) if each["label"] == label), {})
    said = told.get("error")
    return bool(said) if said is not None else None


def archive_ids(stanza: Mapping[str, Any], system_id: str) -> tuple[str, ...]:
    """The folders of the archive that hold a system's WAL, like `15-1`."""
    mine = {(db["repo-key"], db["id"]) for db in stanza.get("db", ()) if str(db["system-id"]) == system_id}
    found = (
        str(each["id"])
        for each in stanza.get("archive", ())
        if (each["database"]["repo-key"], each["database"]["id"]) in mine
    )
    return tuple(dict.fromkeys(found))


def wal_files(listed: Mapping[str, Any], ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, SHA-1 or empty) of each WAL file in `repo-ls --recurse` of a stanza's archive; (path, "-") for others."""
    for path, told in listed.items():
        if told.get("type") != "file" or not path.startswith(tuple(f"{each}/" for each in ids)):
            continue
        file = path.rpartition("/")[2]
        if (match := _FILE.fullmatch(file)) is not None:
            yield match[1], match[2]
        elif (match := _OTHER.fullmatch(file)) is not None:
            yield match[1], ""
        else:
            yield path, "-"
