"""WAL names, contiguity and timelines, in thought."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.errors import NoPoint
from recovery.wal import (
    Archive,
    Gap,
    HistoryFile,
    Label,
    Leg,
    Partial,
    Segment,
    Stretch,
    Switch,
    contiguous,
    files_for,
    following,
    gaps,
    name_of,
    parse,
    parse_history,
    path_to,
    preceding,
)

SIZES = st.sampled_from([1 << power for power in range(20, 31)])
TIMELINES = st.integers(1, 0xFFFFFFFF)


@given(TIMELINES, st.integers(0, 1 << 40), SIZES)
def test_a_name_says_what_made_it(timeline: int, lsn: int, size: int) -> None:
    number = lsn // size
    name = name_of(timeline, number, size)
    assert parse(name, size) == Segment(timeline=timeline, number=number)
    assert parse(f"{name}.partial", size) == Partial(timeline=timeline, number=number)
    assert parse(f"{name}.00000028.backup", size) == Label(timeline=timeline, number=number, offset=0x28)


@given(TIMELINES, st.integers(0, 1 << 40), SIZES)
def test_following_and_preceding_undo_each_other(timeline: int, lsn: int, size: int) -> None:
    name = name_of(timeline, lsn // size, size)
    assert preceding(following(name, size), size) == name
    assert following(name, size) > name


@pytest.mark.parametrize(
    ("name", "size", "after"),
    [
        ("0000000100000000000000FF", 16 << 20, "000000010000000100000000"),
        ("0000000100000000000000FE", 16 << 20, "0000000100000000000000FF"),
        ("00000001000000090000003F", 64 << 20, "000000010000000A00000000"),
        ("000000010000000000000FFF", 1 << 20, "000000010000000100000000"),
        ("000000020000000000000003", 1 << 30, "000000020000000100000000"),
    ],
)
def test_the_next_log_begins_where_the_segments_of_a_log_end(name: str, size: int, after: str) -> None:
    assert following(name, size) == after
    assert preceding(after, size) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0000000100000000000000",
        "00000000000000000000000A",
        "00000001000000000000000a",
        "000000010000000000000100",
        "00000001.histor",
        "00000001000000000000000A.partial.zst",
        "00000001000000000000000A.28.backup",
        "archive_status",
        "../000000010000000000000001",
        "000000010000000000000001\n",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"name of a WAL file|beyond its log"):
        parse(name)


def test_a_history_file_has_a_timeline_and_no_neighbour() -> None:
    assert parse("0000000B.history") == HistoryFile(timeline=11)
    with pytest.raises(ValueError, match="no neighbour"):
        following("0000000B.history")
    with pytest.raises(ValueError, match="no neighbour"):
        preceding("000000010000000000000000")


@given(st.sets(st.tuples(st.integers(1, 3), st.integers(250, 270))), SIZES)
def test_stretches_and_gaps_partition_what_lies_between(present: set[tuple[int, int]], size: int) -> None:
    names = [name_of(timeline, number, size) for timeline, number in present]
    stretches = contiguous(names, size)
    covered = {(each.timeline, n) for each in stretches for n in range(each.first, each.last + 1)}
    holes = {(each.timeline, n) for each in gaps(stretches) for n in range(each.first, each.last + 1)}
    assert covered == present
    expected = {
        (timeline, n)
        for timeline in {t for t, _ in present}
        for n in range(min(n for t, n in present if t == timeline), max(n for t, n in present if t == timeline))
    }
    assert holes == expected - present


def test_contiguity_goes_over_the_end_of_a_log_and_passes_over_other_files() -> None:
    names = [
        "0000000100000000000000FF",
        "000000010000000100000000",
        "00000002.history",
        "x",
        "000000010000000100000002",
    ]
    assert contiguous(names) == (
        Stretch(timeline=1, first=255, last=256),
        Stretch(timeline=1, first=258, last=258),
    )
    assert gaps(contiguous(names)) == (Gap(timeline=1, first=257, last=257),)


HISTORY = '1\t0/3000158\tno recovery target specified\n\n# a note\n2\t0/5000000\tat restore point "x"\n'


def test_a_history_tells_the_path() -> None:
    switches = parse_history(HISTORY)
    assert switches == (
        Switch(timeline=1, lsn=0x3000158, reason="no recovery target specified"),
        Switch(timeline=2, lsn=0x5000000, reason='at restore point "x"'),
    )
    path = path_to({3: switches}, 3)
    assert path == (
        Leg(timeline=1, begin_lsn=0, end_lsn=0x3000158),
        Leg(timeline=2, begin_lsn=0x3000158, end_lsn=0x5000000),
        Leg(timeline=3, begin_lsn=0x5000000),
    )
    assert path_to({}, 1) == (Leg(timeline=1, begin_lsn=0),)
    assert files_for(path, 0x2000028, 0x6000000) == (
        "000000010000000000000002",
        "000000020000000000000003",
        "000000020000000000000004",
        "000000030000000000000005",
    )
    assert files_for(path, 0x2000028, 0x2000028) == ("000000010000000000000002",)


def test_an_unknown_timeline_is_no_point() -> None:
    with pytest.raises(NoPoint, match="no history of timeline 4"):
        path_to({}, 4)


@pytest.mark.parametrize("text", ["1 zero", "x\t0/1\ty", "2\t0/1\ta\n1\t0/2\tb", "1\t0/9\ta\n2\t0/2\tb"])
def test_a_malformed_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="history"):
        parse_history(text)


def test_an_empty_archive_knows_nothing() -> None:
    empty = Archive(system_id="7")
    assert (empty.newest_timeline(), empty.last(1), empty.gaps()) == (None, None, ())
