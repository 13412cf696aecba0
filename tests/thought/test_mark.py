"""A mark names every difference, and only differences."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.mark import MOST_FINDINGS, DatabaseMark, Mark, TableMark, compare, mark_key, same_place

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


def mark(
    objects: dict[str, str] | None = None,
    tables: dict[str, TableMark] | None = None,
    shared: dict[str, str] | None = None,
    name: str = "shop",
) -> Mark:
    part = DatabaseMark(objects=objects or {}, tables=tables or {})
    return Mark(
        system_id="7",
        timeline=1,
        lsn=0x5000060,
        at=NOW,
        server_version=180006,
        segment_bytes=16 << 20,
        globals=shared or {},
        databases={name: part},
    )


def rows(count: int, content: str = "x") -> TableMark:
    return TableMark(rows=count, content=content)


@pytest.mark.parametrize(
    ("before", "after", "check", "fact"),
    [
        (mark({"index a.i": "1"}), mark({}), "catalog", "index a.i in database shop is missing"),
        (mark({}), mark({"index a.i": "1"}), "catalog", "index a.i in database shop was added"),
        (mark({"index a.i": "1"}), mark({"index a.i": "2"}), "catalog", "index a.i in database shop was changed"),
        (mark(shared={"role r": "1"}), mark(), "catalog", "role r is missing"),
        (
            mark(tables={"a.t": rows(5)}),
            mark(tables={"a.t": rows(3)}),
            "content",
            "table a.t in database shop: 2 rows missing (3 instead of 5)",
        ),
        (
            mark(tables={"a.t": rows(5)}),
            mark(tables={"a.t": rows(6)}),
            "content",
            "table a.t in database shop: 1 rows extra (6 instead of 5)",
        ),
        (
            mark(tables={"a.t": rows(5)}),
            mark(tables={"a.t": rows(5, "y")}),
            "content",
            "table a.t in database shop: content altered in 5 rows of the same count",
        ),
        (
            mark(tables={"a.t": rows(5)}),
            mark(tables={"a.t": TableMark(note="unlogged")}),
            "content",
            "table a.t in database shop: its content could be read on one side only (unlogged)",
        ),
    ],
)
def test_a_difference_is_named(before: Mark, after: Mark, check: str, fact: str) -> None:
    (finding,) = compare(before, after)
    assert (finding.check, finding.fact) == (check, fact)
    assert finding.hint


def test_what_cannot_be_compared_on_both_sides_is_no_difference() -> None:
    unlogged = {"a.t": TableMark(note="unlogged")}
    assert compare(mark(tables=unlogged), mark(tables=unlogged)) == ()


def test_a_table_of_one_side_only_is_said_once_as_an_object() -> None:
    before = mark({"table a.t": "1"}, {"a.t": rows(5)})
    assert [finding.fact for finding in compare(before, mark())] == ["table a.t in database shop is missing"]


def test_a_database_that_is_missing_or_extra_is_named() -> None:
    facts = [finding.fact for finding in compare(mark(name="old"), mark(name="new"))]
    assert facts == ["database new is there, but was not at the mark", "database old is missing"]


def test_findings_are_bounded_and_say_so() -> None:
    many = {f"index a.i{number}": "1" for number in range(MOST_FINDINGS + 50)}
    found = compare(mark(many), mark())
    assert len(found) == MOST_FINDINGS + 1
    assert "not listed" in found[-1].fact


objects = st.dictionaries(st.text(max_size=5), st.sampled_from("ab"), max_size=6)
tables = st.dictionaries(st.text(max_size=5), st.builds(rows, st.integers(0, 3), st.sampled_from("xy")), max_size=4)
some_marks = st.builds(mark, objects, tables, objects)


@given(some_marks, some_marks)
def test_no_finding_means_equal_and_equal_means_no_finding(one: Mark, other: Mark) -> None:
    assert compare(one, one) == ()
    same_tables = all(one.databases["shop"].tables.get(t) == other.databases["shop"].tables.get(t)
                      for t in {*one.databases["shop"].tables} & {*other.databases["shop"].tables})  # fmt: skip
    equal = (one.globals, one.databases["shop"].objects) == (other.globals, other.databases["shop"].objects)
    assert (compare(one, other) == ()) == (equal and same_tables)


@given(some_marks)
def test_a_mark_is_read_back_as_it_was_stored(one: Mark) -> None:
    assert Mark.model_validate_json(one.body) == one


@pytest.mark.parametrize(
    ("system_id", "timeline", "lsn", "why"),
    [
        ("7", 1, 0x5000060, ""),
        ("8", 1, 0x5000060, "the mark is of system 7, the copy of 8"),
        ("7", 2, 0x5000060, "the mark is on timeline 1, the copy was recovered on 2"),
        ("7", 1, 0x5000068, "the copy stands 8 bytes of WAL after the mark"),
        ("7", 1, 0x5000000, "the copy stands 96 bytes of WAL before the mark"),
    ],
)
def test_content_is_judged_only_at_the_mark_itself(system_id: str, timeline: int, lsn: int, why: str) -> None:
    assert same_place(mark(), system_id=system_id, timeline=timeline, lsn=lsn) == why


def test_keys_sort_by_timeline_and_lsn() -> None:
    keys = [mark_key("p", "7", timeline, lsn) for timeline, lsn in ((1, 9), (1, 0x10), (1, 1 << 40), (2, 1))]
    assert keys == sorted(keys)
    assert keys[0] == "p/mark/7/00000001/0000000000000009.json"
    assert mark_key("", "7", 1, 9) == "mark/7/00000001/0000000000000009.json"
