"""A segment is ended when it is older than promised and holds a transaction; never for nothing, and not twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recovery.open_segment import GRACE_SECONDS, OpenSegment, ended, is_overdue, looked

TIMEOUT = 5.0


def after(*looks: tuple[str, int, float]) -> OpenSegment:
    segment: OpenSegment | None = None
    for name, xid, at in looks:
        segment = looked(segment, name=name, xid=xid, at_seconds=at)
    assert segment is not None
    return segment


def test_it_is_overdue_behind_the_timeout_and_a_grace_only() -> None:
    segment = after(("6", 10, 0.0), ("7", 11, 1.0), ("7", 12, 2.0))
    assert not is_overdue(segment, at_seconds=1.0 + TIMEOUT + GRACE_SECONDS, timeout_seconds=TIMEOUT)
    assert is_overdue(segment, at_seconds=1.1 + TIMEOUT + GRACE_SECONDS, timeout_seconds=TIMEOUT)


def test_a_timeout_of_nought_bounds_nothing() -> None:
    assert not is_overdue(after(("6", 10, 0.0), ("6", 20, 1.0)), at_seconds=1e6, timeout_seconds=0.0)


def test_without_a_transaction_it_may_stay_open_for_ever() -> None:
    segment = after(("6", 10, 0.0), ("7", 10, 1.0), ("7", 10, 2.0))
    assert not is_overdue(segment, at_seconds=1e6, timeout_seconds=TIMEOUT)


def test_a_transaction_between_the_last_look_at_one_and_the_first_at_the_next_counts_for_the_next() -> None:
    assert is_overdue(after(("6", 10, 0.0), ("7", 11, 1.0)), at_seconds=60.0, timeout_seconds=TIMEOUT)


def test_what_was_written_before_anybody_looked_counts() -> None:
    assert is_overdue(after(("6", 10, 0.0)), at_seconds=60.0, timeout_seconds=TIMEOUT)


@given(st.lists(st.tuples(st.sampled_from("678"), st.integers(0, 2), st.floats(0.1, 4.0)), min_size=1, max_size=40))
def test_no_transaction_waits_longer_than_timeout_grace_and_a_look_and_nothing_is_ended_for_nothing(
    steps: list[tuple[str, int, float]],
) -> None:
    """Looks at most four seconds apart at a server that ends segments when it likes, or when it is told to."""
    segment: OpenSegment | None = None
    xid, at, name, oldest = 10, 0.0, 6, 0.0
    waiting = True  # before the first look nobody knows
    for moved, more, pause in steps:
        at, name = at + pause, name + (moved == "8")
        if moved == "8":  # it ended one: only what came since then waits
            waiting = False
        if more and not waiting:
            waiting, oldest = True, at
        xid += more
        segment = looked(segment, name=str(name), xid=xid, at_seconds=at)
        if is_overdue(segment, at_seconds=at, timeout_seconds=TIMEOUT):
            assert waiting
            segment, waiting = ended(segment, at_seconds=at), False
            assert not is_overdue(segment, at_seconds=at + 1e6, timeout_seconds=TIMEOUT)
        elif waiting:
            assert at - oldest <= TIMEOUT + GRACE_SECONDS + 4.0
