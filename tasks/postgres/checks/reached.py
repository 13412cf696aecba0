"""Did the copy stop where it was told to? From the server's log, from its state and from its data.

Separate from content: a copy that stopped at the wrong place is whole, plausible and wrong.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import psycopg

from recovery.check import Check, Finding
from recovery.point import lsn_number, lsn_text
from recovery.value import rfc3339
from tasks.postgres.checks.context import (
    CheckContext,
    Commit,
    Target,
    failed,
    judged,
    not_configured,
    passed,
    session,
    unproven,
)
from tasks.postgres.place import Place, place
from tasks.postgres.reading import Connection, only

LOG_BYTES = 8 * 1024 * 1024
_AT_TIME = re.compile(
    r"recovery stopping (before|after) (?:commit|abort)[a-z ]* transaction (\d+), time (\S+ \S+?)\s*$", re.MULTILINE
)
_AT_LSN = re.compile(r'recovery stopping (before|after) WAL location \(LSN\) "([0-9A-F]+/[0-9A-F]+)"')
_AT_OWN_END = "recovery stopping after reaching consistency"
_HINT = "the copy holds another moment than was asked for: don't use it; check backup, timeline, zone and WAL"


def target(context: CheckContext, name: str) -> Check:
    """The copy is of the right cluster and timeline, stands at its target, and the log says that it stopped there."""
    with session(context) as connection:
        stands = place(connection)
        state = (
            "" if not stands.in_recovery else only(connection, "select pg_catalog.pg_get_wal_replay_pause_state()")[0]
        )
    log = _tail(context.log)
    facts = [*_identity(context, stands, state), *_before_backup(context), *_place(context, stands, log)]
    unknown = [fact for fact in facts if fact.startswith("?")]
    wrong = [Finding(check=name, fact=fact, hint=_HINT) for fact in facts if not fact.startswith("?")]
    if wrong:
        return failed(name, wrong)
    if unknown:
        return unproven(name, unknown[0][1:].strip())
    return passed(name, f"recovered to {lsn_text(stands.lsn)} on timeline {stands.timeline}, as asked")


def boundary(context: CheckContext, name: str) -> Check:
    """Of a moment: the last commit before it is there, the first after it is not."""
    if context.target.kind != "time":
        return not_configured(name, "only a proof to a chosen moment has a boundary")
    if context.boundary is None:
        return unproven(name, "the commits around the target are not known")
    before, after = context.boundary.last_before, context.boundary.first_after
    found = []
    with session(context) as connection:
        stands = place(connection)
        if before is not None:
            found += [f"the last commit before the target {why}" for why in _not_there(connection, before, stands)]
        if after is not None and (stands.lsn > after.lsn or _status(connection, after.xid) == "committed"):
            found.append(f"the first commit after the target is there: transaction {after.xid} of {rfc3339(after.at)}")
    if (behind := context.boundary.behind) is not None:
        found.append(
            f"the source's clock was set back: transaction {behind.xid} of {rfc3339(behind.at)} lies behind the place "
            "where this moment ends in the WAL, so it is not restored"
        )
    known = f"transaction {before.xid} of {rfc3339(before.at)} is there" if before else "no commit before the target"
    if found or after is not None:
        absent = f"transaction {after.xid} of {rfc3339(after.at)} is not" if after else ""
        return judged(name, [Finding(check=name, fact=fact, hint=_HINT) for fact in found], f"{known}, {absent}")
    return unproven(name, f"{known}, and the WAL tells of none after it, so nothing shows where it ended")


def _identity(context: CheckContext, stands: Place, state: str) -> list[str]:
    facts = []
    if stands.system_id != context.backup.system_id:
        facts.append(f"the copy is of system {stands.system_id}, the backup of {context.backup.system_id}")
    timeline = context.backup.timeline if context.target.kind == "own-end" else context.timeline
    if stands.timeline != timeline:
        facts.append(f"the copy was recovered on timeline {stands.timeline} instead of {timeline}")
    if stands.in_recovery and context.promoted:
        facts.append("the copy was to be promoted and is still in recovery")
    if not stands.in_recovery and not context.promoted:
        facts.append("the copy promoted itself: it did not stop at its target")
    if stands.in_recovery and state != "paused":
        facts.append(f"the copy is {state}: it still replays")
    return facts


def _before_backup(context: CheckContext) -> list[str]:
    """A target inside or before the backup gives the backup's end, silently (hazard 1)."""
    wanted, backup = context.target, context.backup
    if wanted.kind == "time" and wanted.at is not None and wanted.at < backup.ended_at:
        return [f"the target {rfc3339(wanted.at)} is before the end of backup {backup.id} ({rfc3339(backup.ended_at)})"]
    if wanted.kind == "lsn" and wanted.lsn is not None and wanted.lsn < backup.end_lsn:
        return [
            f"the target {lsn_text(wanted.lsn)} is before the end of backup {backup.id} ({lsn_text(backup.end_lsn)})"
        ]
    return []


def _place(context: CheckContext, stands: Place, log: str) -> list[str]:
    wanted = context.target
    match wanted.kind:
        case "lsn":
            return _at_lsn(wanted, stands, log)
        case "time":
            return _at_time(wanted, stands, log)
        case "latest":
            return _at_latest(wanted, stands)
        case "own-end":
            return _at_own_end(wanted, stands, log, from_standby=_from_standby(context.data_dir))


def _at_lsn(wanted: Target, stands: Place, log: str) -> list[str]:
    if wanted.lsn is None:
        return ["? the target's LSN is not known"]
    facts = []
    said = [(how, lsn_number(lsn)) for how, lsn in _AT_LSN.findall(log)]
    # The log names the record that it stopped before: it begins behind a page header if the target lies before one.
    if not any(lsn >= wanted.lsn for _, lsn in said):
        facts.append(f"the server's log does not say that recovery stopped at {lsn_text(wanted.lsn)}")
    exclusive = any(how == "before" for how, _ in said)
    if stands.lsn < wanted.lsn or (exclusive and stands.lsn != wanted.lsn):
        facts.append(f"the copy stands at {lsn_text(stands.lsn)} instead of {lsn_text(wanted.lsn)}")
    return facts


def _at_time(wanted: Target, stands: Place, log: str) -> list[str]:
    if wanted.at is None:
        return ["? the target's time is not known"]
    stops = _AT_TIME.findall(log)
    if not stops:
        return [f"the server's log does not say that recovery stopped at {rfc3339(wanted.at)}"]
    how, xid, text = stops[-1]
    stopped = _instant(text)
    facts = []
    beyond = stopped > wanted.at if wanted.inclusive else stopped >= wanted.at
    if not beyond or how != "before":
        facts.append(f"recovery stopped {how} transaction {xid} of {rfc3339(stopped)}, not at {rfc3339(wanted.at)}")
    last = stands.committed_at
    if last is not None and not (last <= wanted.at if wanted.inclusive else last < wanted.at):
        facts.append(f"the copy holds a commit of {rfc3339(last)}, after the target {rfc3339(wanted.at)}")
    return facts


def _at_latest(wanted: Target, stands: Place) -> list[str]:
    if wanted.lsn is None:
        return ["? the end of the stored WAL is not known"]
    if stands.lsn < wanted.lsn:
        gap = wanted.lsn - stands.lsn
        end = lsn_text(wanted.lsn)
        return [f"the copy stands at {lsn_text(stands.lsn)}, {gap} bytes before the end of the stored WAL {end}"]
    return []


def _at_own_end(wanted: Target, stands: Place, log: str, *, from_standby: bool) -> list[str]:
    """A primary writes a record of a backup's end, at which the copy then stands exactly. A standby's is consistent at
    the LSN that its control file had when it was copied, last of all: at the backup's end or shortly before."""
    if wanted.lsn is None:
        return ["? the backup's end is not known"]
    facts = []
    if _AT_OWN_END not in log:
        facts.append("the server's log does not say that recovery stopped where the backup is consistent")
    if stands.lsn > wanted.lsn or (stands.lsn < wanted.lsn and not from_standby):
        facts.append(f"the copy stands at {lsn_text(stands.lsn)} instead of the backup's end {lsn_text(wanted.lsn)}")
    return facts


def _from_standby(data_dir: Path) -> bool:
    """Whether the backup was taken on a standby, as its label says; the server renames it when it starts."""
    labels = [each for each in (data_dir / "backup_label", data_dir / "backup_label.old") if each.exists()]
    return any("BACKUP FROM: standby" in each.read_text(errors="replace") for each in labels)


def _not_there(connection: Connection, commit: Commit, stands: Place) -> list[str]:
    if stands.lsn <= commit.lsn:
        where = f"transaction {commit.xid}, {lsn_text(commit.lsn)}"
        return [f"({where}) was not replayed: the copy stands at {lsn_text(stands.lsn)}"]
    status = _status(connection, commit.xid)
    if status != "committed":
        return [f"(transaction {commit.xid} of {rfc3339(commit.at)}) is {status or 'unknown'} in the copy"]
    if only(connection, "select pg_catalog.current_setting('track_commit_timestamp')")[0] == "on":
        at = only(connection, f"select pg_catalog.pg_xact_commit_timestamp('{commit.xid}'::xid)")[0]
        if at is not None and at != commit.at:
            return [f"(transaction {commit.xid}) has the commit time {rfc3339(at)} instead of {rfc3339(commit.at)}"]
    return []


def _status(connection: Connection, xid: int) -> str:
    """committed, aborted, in progress; empty for a transaction that this copy has not seen yet or no longer knows."""
    newest = int(only(connection, "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text")[0])
    full = (newest & ~0xFFFFFFFF) | xid
    full -= 0x100000000 if full > newest + 0x80000000 else 0
    try:
        return str(only(connection, f"select coalesce(pg_catalog.pg_xact_status('{full}'::xid8), '')")[0])
    except psycopg.errors.InvalidParameterValue:
        return ""


def _instant(text: str) -> datetime:
    """Postgres's own form, `2026-11-24 15:38:34.34+00`, which may have fewer digits than ISO 8601 readers take."""
    match = re.match(r"(\d+-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,6}))?([+-]\d\d)(?::?(\d\d))?", text)
    if match is None:
        raise ValueError(f"not a time of the server's log: {text}")
    return datetime.fromisoformat(f"{match[1]}.{(match[2] or '').ljust(6, '0')}{match[3]}:{match[4] or '00'}")


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LOG_BYTES))
        return file.read().decode(errors="replace")
