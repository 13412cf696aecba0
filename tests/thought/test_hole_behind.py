"""Where WAL is archived that no backup leads to: up to where one does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recovery.point import SEGMENT_BYTES as S
from recovery.point import Backup
from recovery.timeline import hole_behind
from recovery.wal import Archive, Stretch, Switch

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def backup(number: int, *, system: str = "7") -> Backup:
    return Backup(
        id=f"at-{number}",
        resource="db",
        kind="full",
        system_id=system,
        timeline=1,
        begin_lsn=number * S,
        end_lsn=number * S + 100,
        begun_at=NOW,
        ended_at=NOW + timedelta(seconds=1),
        server_version=180006,
        size_bytes=1,
        stored_bytes=1,
    )


def archive(*stretches: tuple[int, int, int], **more: object) -> Archive:
    mine = tuple(Stretch(timeline=timeline, first=first, last=last) for timeline, first, last in stretches)
    return Archive.model_validate({"system_id": "7", "stretches": mine, **more})


def test_without_a_hole_there_is_none() -> None:
    assert hole_behind(archive((1, 1, 9)), [backup(2), backup(5)], 1) is None


def test_the_newest_backup_that_leads_anywhere_says_where_it_ends() -> None:
    found = hole_behind(archive((1, 1, 6), (1, 8, 9)), [backup(2), backup(5)], 1)
    assert found is not None
    assert (found.to_lsn, found.missing) == (7 * S, "000000010000000000000007")


def test_a_hole_before_the_newest_backup_hides_nothing() -> None:
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [backup(2), backup(6)], 1) is None


def test_a_backup_that_is_not_consistent_yet_leads_nowhere() -> None:
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [backup(4)], 1) is None
    found = hole_behind(archive((1, 1, 3), (1, 5, 9)), [backup(2), backup(4)], 1)
    assert found is not None
    assert found.backup == "at-2"


def test_along_a_change_of_timeline_it_is_found_too() -> None:
    ways = archive((1, 1, 6), (2, 8, 9), histories={2: (Switch(timeline=1, lsn=7 * S + 50),)})
    found = hole_behind(ways, [backup(2)], 2)
    assert found is not None
    assert (found.to_lsn, found.missing) == (7 * S, "000000020000000000000007")


def test_without_a_backup_or_a_history_there_is_nothing_to_say() -> None:
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [], 1) is None
    assert hole_behind(archive((1, 1, 9)), [backup(2)], 2) is None
    assert hole_behind(archive((1, 1, 3), (1, 5, 9)), [backup(2, system="8")], 1) is None
