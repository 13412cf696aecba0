"""When only the archive tells of a newer timeline, nobody is left to guess which one is ours."""

from __future__ import annotations

from recovery.timeline import doubt
from recovery.wal import Archive, Stretch, Switch

SIZE = 16 * 1024 * 1024


def archive(**more: object) -> Archive:
    return Archive.model_validate({"system_id": "7", "stretches": (Stretch(timeline=1, first=1, last=9),), **more})


def test_there_is_no_doubt_without_a_newer_timeline() -> None:
    assert doubt(archive(), 1) == ""
    assert doubt(archive(histories={2: (Switch(timeline=1, lsn=5),)}), 2) == ""


def test_a_newer_one_is_told_with_where_it_left_and_how_far_it_reaches() -> None:
    held = archive(
        histories={2: (Switch(timeline=1, lsn=5 * SIZE + 32),)},
        stretches=(Stretch(timeline=1, first=1, last=9), Stretch(timeline=2, first=5, last=6)),
    )
    assert doubt(held, 1) == (
        "the archive also holds timeline 2, which left timeline 1 at 0/5000020 and reaches 000000020000000000000006: "
        "no server, backup, mark or change of roles tells whether it or timeline 1 is ours"
    )


def test_one_without_a_history_or_without_a_segment_is_told_too() -> None:
    held = archive(stretches=(Stretch(timeline=3, first=1, last=2),), histories={4: (Switch(timeline=2, lsn=32),)})
    assert "timeline 4 and has no segment; timeline 3 and reaches 000000030000000000000002" in doubt(held, 1)
