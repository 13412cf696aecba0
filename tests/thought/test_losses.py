"""What a failover gave up, from records as values: nothing is left out, and each transaction has its class."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recovery.losses import (
    Change,
    Class,
    Commit,
    Losses,
    Relation,
    Row,
    Running,
    Seen,
    class_of,
    counted,
    furthest,
    listed,
    losses_key,
)

AT = datetime(2026, 11, 24, 3, tzinfo=UTC)
ROWS = Relation(database="app", schema_name="public", name="rows")
BEAT = Relation(database="app", schema_name="standfast", name="beat")
TOAST = Relation(database="app", schema_name="pg_toast", name="pg_toast_1")
CLASS = Relation(database="app", schema_name="pg_catalog", name="pg_class")
STATISTIC = Relation(database="app", schema_name="pg_catalog", name="pg_statistic")


def commit(xid: int, lsn: int, *subxids: int) -> Commit:
    return Commit(xid=xid, lsn=lsn, at=AT + timedelta(seconds=lsn), subxids=subxids)


def test_only_where_the_commit_lies_decides_and_changes_before_the_promotion_belong_to_it() -> None:
    seen = Seen(100)
    seen.take(Change(xid=5, file="1/2", op="insert", block=0))
    seen.take(Change(xid=6, file="1/2", op="insert", block=7))
    seen.take(commit(5, 99))
    seen.take(Change(xid=6, file="1/2", op="delete", block=3))
    seen.take(Change(xid=8, file="1/2", op="insert", block=9))
    seen.take(commit(6, 100))
    found = listed(seen, {"1/2": ROWS})
    assert [(each.xid, each.lsn, each.klass) for each in found] == [(6, 100, "rows")]
    assert found[0].changes == {"app.public.rows": {"insert": 1, "delete": 1}}
    assert seen.files() == ("1/2",)
    assert seen.blocks("1/2") == (0, 3, 7, 9)
    assert seen.blocks("1/3") == ()


def test_subtransactions_belong_to_their_transaction_with_their_changes_and_rows() -> None:
    seen = Seen(1)
    seen.take(Change(xid=7, file="1/2", op="insert", block=0, rows=10))
    seen.take(Change(xid=8, file="1/2", op="insert", block=0))
    seen.take(Change(xid=8, file="1/9", op="update", block=0))
    seen.take(commit(7, 2, 8))
    seen.take(commit(3, 4))
    row = Row(relation=ROWS.text, xid=8, row={"seq": 1})
    found = listed(seen, {"1/2": ROWS}, [row])
    assert found[0].changes == {"app.public.rows": {"insert": 11}, "file 1/9": {"update": 1}}
    assert found[0].rows == (row,)
    assert found[1].klass == "other"


@pytest.mark.parametrize(
    ("changed", "klass"),
    [
        ([], "other"),
        ([ROWS], "rows"),
        ([ROWS, BEAT], "rows"),
        ([BEAT], "heartbeat"),
        ([BEAT, TOAST], "heartbeat"),
        ([None], "rows"),
        ([CLASS, None], "rows"),
        ([TOAST], "other"),
        ([CLASS], "schema"),
        ([CLASS, STATISTIC], "maintenance"),
        ([STATISTIC, ROWS], "rows"),
    ],
)
def test_the_class_is_that_of_what_was_changed_and_the_unknown_counts_as_users(
    changed: list[Relation | None], klass: Class
) -> None:
    assert class_of(changed) == klass
    if klass == "maintenance":  # else what was read counts by itself
        klass = "other"
    assert class_of(changed, whole=False) == klass


def test_who_ran_when_reading_began_or_committed_before_anything_told_was_not_read_whole() -> None:
    seen = Seen(1)
    early, running, late = commit(5, 2), commit(6, 8), commit(9, 9)
    seen.take(early)
    assert not seen.whole(early)
    seen.take(Running(xids=(6, 7)))
    seen.take(running)
    seen.take(late)
    seen.take(Running(xids=(9,)))
    assert [seen.whole(each) for each in (early, running, late)] == [False, False, True]


def test_the_count_is_of_users_transactions_and_every_other_is_listed_too() -> None:
    seen = Seen(0)
    seen.take(Running(xids=()))
    for xid, file in ((1, "1/1"), (2, "1/2"), (3, "1/3"), (4, "1/4")):
        seen.take(Change(xid=xid, file=file, op="insert", block=0))
        seen.take(commit(xid, xid))
    names = {"1/1": ROWS, "1/2": BEAT, "1/3": CLASS, "1/4": STATISTIC}
    made = Losses(
        resource="db", site="east", system_id="7", timeline=1, from_lsn=0, to_lsn=9, transactions=listed(seen, names)
    )
    assert made.count == 2
    assert made.by_class() == {"rows": 1, "heartbeat": 1, "schema": 1, "maintenance": 1}
    assert losses_key("abc", "db") == "losses/abc/db.json"


def listed_of(resource: str, to_lsn: int, *, site: str = "east", lost: int = 0, unread: str = "") -> Losses:
    seen = Seen(0)
    for xid in range(lost):
        seen.take(commit(xid, xid))
    return Losses(
        resource=resource, site=site, system_id="7", timeline=1, from_lsn=0, to_lsn=to_lsn,
        transactions=listed(seen, {}), unread={unread: "why"} if unread else {},
    )  # fmt: skip


def test_a_count_is_of_every_database_and_of_no_list_twice_or_not_said() -> None:
    first, again, other = listed_of("a", 5, lost=1), listed_of("a", 9, lost=3), listed_of("b", 4, lost=2)
    assert furthest([first, again, first]) == (again,)
    assert counted([first, again, other], {"a", "b"}) == 5
    assert counted([first, listed_of("a", 5, site="west", lost=2)], {"a"}) == 3
    assert counted([first], {"a", "b"}) is None
    assert counted([first, listed_of("b", 4, unread="WAL")], {"a", "b"}) is None
    assert counted([first, listed_of("b", 4, unread="app.public.rows")], {"a", "b"}) == 1
