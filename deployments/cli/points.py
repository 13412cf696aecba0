"""`dr points`: what each resource can be restored to, by site and timeline; gaps by file; what was proven last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.output import HomeOption, JsonOption, TimelineOption, emit, existing_home

if TYPE_CHECKING:
    from datetime import datetime

    from recovery.point import Backup
    from recovery.policy import BackupPolicy
    from recovery.proof import Proof
    from recovery.timeline import Hole, Timeline
    from tasks.home import Home
    from tasks.watching import Bucket


def points(
    resources: Annotated[
        list[str] | None, typer.Argument(metavar="[RESOURCE…]", help="All when none is named.")
    ] = None,
    timeline: TimelineOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every backup and window, not only the newest.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recovery points, marks, windows and their gaps. Exit code 1 when there are gaps, 3 when a bucket is silent."""
    from deployments.cli.points_drawn import drawn
    from tasks.home import open_home

    opened = open_home(existing_home(home))
    names = resources or sorted(opened.catalog.resources)
    for name in names:
        opened.resource(name)
    ledger, proven = proofs_by_backup(opened)
    now = opened.now()
    found = [place for name in names for place in _resource(opened, name, proven, now, timeline)]
    document = {"home": str(opened.folder), "at": _at(now), "ledger": ledger, "points": found}
    emit(as_json, document, lambda: drawn(document, every))
    raise typer.Exit(_code(found))


def proofs_by_backup(home: Home) -> tuple[dict[str, Any], dict[str, Proof]]:
    """The ledger's state, and for each backup its newest proof without a planted fault that was met."""
    from recovery.errors import DrError
    from recovery.past import proof_of
    from tasks.remembered import pasts_of

    try:
        found = pasts_of(home)
    except DrError as trouble:
        return {"state": "silent", "why": trouble.fact}, {}
    proven: dict[str, Proof] = {}
    for proof in (proof_of(each) for each in reversed(found.runs)):
        if proof is not None and proof.planted is None and proof.verdict.value == "met":
            proven |= {f"{proof.resource}/{backup}": proof for backup in proof.point.split(" + ")}
    return {"state": "answers", "place": found.place, "silent": found.silent}, proven


def _resource(
    home: Home, name: str, proven: Mapping[str, Proof], now: datetime, timeline: int | None
) -> list[dict[str, Any]]:
    from concurrent.futures import ThreadPoolExecutor

    from tasks import watching
    from tasks.postgres import looking

    resource = home.resource(name)
    servers = looking.members(resource)
    sites = watching.places(home, name)
    with ThreadPoolExecutor(max_workers=4) as pool:
        buckets = pool.map(
            lambda site: watching.bucket(home, name, site, servers, marked=False, timeline=timeline), sites
        )
        policy = home.catalog.backups[resource.backup] if resource.engine == "native" else None
        return [
            {**_place(name, each, proven, now, policy), "forecast": _forecast(home, name, each)} for each in buckets
        ]


def _forecast(home: Home, name: str, bucket: Bucket) -> dict[str, Any] | None:
    """What a restore to the latest moment would take at that site, and what says so; None where there is no point."""
    from recovery.choose import latest
    from recovery.errors import NoPoint
    from tasks import rated

    if bucket.points is None or bucket.points.doubt:
        return None
    try:
        point = rated.chosen(home, name, bucket.site, latest(bucket.points.end), bucket.points)
    except NoPoint:
        return None
    plain = point.model_dump(mode="json")
    return {key: plain[key] for key in ("backups", "forecast_seconds", "forecast_from")}


def _place(
    name: str, bucket: Bucket, proven: Mapping[str, Proof], now: datetime, policy: BackupPolicy | None
) -> dict[str, Any]:
    """`policy`: by which WAL is retired; None where a tool's own retention does that."""
    from recovery.timeline import moments, timelines
    from recovery.wal_kept import retired

    head: dict[str, Any] = {"resource": name, "site": bucket.site, "why": bucket.why or bucket.end_why}
    found = bucket.points
    if found is None:
        return {**head, "state": "silent", "backups": [], "timelines": []}
    end = found.end
    gone = retired(found.archive, found.backups, policy, now=now) if policy is not None else None
    known = moments(found.known, end, found.reached)
    lines = timelines(found.archive, found.backups, found.marks, known=known, retired=gone)
    return {
        **head,
        "state": "answers",
        "system_id": found.system_id,
        "timeline": found.timeline,
        "retired": gone and gone.why,
        "doubt": found.doubt,
        "segment_bytes": found.archive.segment_bytes,
        "archive_end": end and {"lsn": _lsn(end.lsn), "record_lsn": _lsn(end.record_lsn), "at": _at(end.at)},
        "strange": list(found.archive.strange),
        "damaged": list(found.damaged),
        "backups": [_backup(each, proven.get(f"{name}/{each.id}"), now) for each in found.backups],
        "timelines": [_timeline(each) for each in lines],
    }  # fmt: skip


def _backup(backup: Backup, proof: Proof | None, now: datetime) -> dict[str, Any]:
    return {
        "id": backup.id,
        "kind": backup.kind,
        "parent": backup.parent,
        "timeline": backup.timeline,
        "begun_at": _at(backup.begun_at),
        "ended_at": _at(backup.ended_at),
        "age_seconds": (now - backup.ended_at).total_seconds(),
        "taken_seconds": (backup.ended_at - backup.begun_at).total_seconds(),
        "begin_lsn": _lsn(backup.begin_lsn),
        "end_lsn": _lsn(backup.end_lsn),
        "size_bytes": backup.size_bytes,
        "stored_bytes": backup.stored_bytes,
        "encrypted_with": backup.encrypted_with,
        "hold": "held" if backup.hold else "none",
        "proven": None
        if proof is None
        else {
            "at": _at(proof.ended_at),
            "sort": proof.sort,
            "run": proof.run,
            "age_seconds": (now - proof.ended_at).total_seconds(),
        },
    }


def _timeline(line: Timeline) -> dict[str, Any]:
    return {
        "timeline": line.timeline,
        "why": line.why,
        "first_lsn": _lsn(line.first_lsn),
        "last_lsn": _lsn(line.last_lsn),
        "windows": [
            {
                "backup": each.backup,
                "from_at": _at(each.from_at),
                "to_at": _at(each.to_at),
                "from_lsn": _lsn(each.from_lsn),
                "to_lsn": _lsn(each.to_lsn),
                "stops": each.stops,
                "missing": each.missing,
            }
            for each in line.windows
        ],
        "gaps": [_hole(each) for each in line.gaps],
        "retired": [_hole(each) for each in line.retired],
        "marks": [_lsn(each) for each in line.marks],
    }


def _hole(hole: Hole) -> dict[str, Any]:
    return {**hole.model_dump(), "begin_lsn": _lsn(hole.begin_lsn), "end_lsn": _lsn(hole.end_lsn)}


def _code(found: Sequence[Mapping[str, Any]]) -> int:
    holes = any(line["gaps"] or any(w["stops"] == "unusable" for w in line["windows"])
                for place in found for line in place["timelines"])  # fmt: skip
    holes = holes or any(place.get("damaged") or place.get("doubt") for place in found)
    return 1 if holes else 3 if any(place["why"] for place in found) else 0


def _at(at: datetime | None) -> str | None:
    from recovery.value import rfc3339

    return None if at is None else rfc3339(at)


def _lsn(lsn: int | None) -> str | None:
    from recovery.point import lsn_text

    return None if lsn is None else lsn_text(lsn)
