"""A copy of the ledger that is silent or hangs keeps nobody waiting; nothing is lost, and it is caught up later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recovery.check import Outcome
from recovery.errors import BadInput, Failed, Refused
from recovery.evidence import Signature, manifest_key, record_key
from recovery.verification import Report
from tasks.circuit import Circuit
from tasks.evidence import compared, verify
from tasks.journal import Damaged, Journal, read_records
from tasks.ledger import Ledger
from tasks.ledger_dir import DirectoryLedger
from tasks.ledger_mirrored import MirroredLedger, silent_of
from tasks.signatures import make_private_pem, signer

RUN = "a" * 64


class Place:
    """A copy of the ledger that can fall silent, hang until it is let go, or refuse the credentials."""

    def __init__(self, folder: Path) -> None:
        self.under = DirectoryLedger(folder)
        self.raises: Callable[[], None] = lambda: None
        self.goes_on = threading.Event()
        self.goes_on.set()

    @property
    def place(self) -> str:
        return self.under.place

    def silent(self) -> None:
        def fail() -> None:
            raise Failed(f"{self.place} is silent", hint="wait")

        self.raises = fail

    def answers(self) -> None:
        self.raises = lambda: None
        self.goes_on.set()

    def _asked(self) -> None:
        self.goes_on.wait(30)
        self.raises()

    def put(self, key: str, body: bytes) -> None:
        self._asked()
        self.under.put(key, body)

    def get(self, key: str) -> bytes | None:
        self._asked()
        return self.under.get(key)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        self._asked()
        yield from self.under.list(prefix, after)


class Sites:
    def __init__(self, folder: Path) -> None:
        self.home, self.west, self.east = (Place(folder / name) for name in ("home", "west", "east"))
        self.seconds = 0.0
        self.ledger = self.opened()

    def opened(self) -> MirroredLedger:
        """As another process opens it."""
        return MirroredLedger(self.home, [self.west, self.east], now_seconds=lambda: self.seconds)

    def rested(self) -> None:
        self.seconds += 31


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites(tmp_path)
    yield made
    for place in (made.home, made.west, made.east):
        place.answers()


def journal(ledger: Ledger, generation: int = 1) -> Journal:
    return Journal(ledger, RUN, who="me", generation=generation, clock=lambda: datetime.now(UTC))


def keys(place: Place) -> list[str]:
    return list(place.under.list("runs/"))


def test_a_mirror_that_hangs_costs_a_moment_once_and_is_caught_up_when_it_goes_on(sites: Sites) -> None:
    book = journal(sites.ledger)
    sites.east.goes_on.clear()
    begun = time.monotonic()
    for _ in range(20):
        book.append("step.begun", "db")
    assert time.monotonic() - begun < 1.5, "one moment, not one for each record"
    assert len(keys(sites.home)) == len(keys(sites.west)) == 20
    assert len(sites.ledger.behind[sites.east.place]) == 20
    sites.east.answers()
    assert sites.ledger.settle(10) == {}
    assert keys(sites.east) == keys(sites.home)


def test_a_home_that_comes_back_gets_all_that_it_missed_before_the_next_record(sites: Sites) -> None:
    book = journal(sites.ledger)
    sites.home.silent()
    for _ in range(3):
        book.append("step.begun", "db")
    assert (len(keys(sites.home)), len(keys(sites.west))) == (0, 3)
    assert list(silent_of(sites.ledger)) == [sites.home.place]
    sites.home.answers()
    sites.rested()
    book.append("step.begun", "db")
    assert keys(sites.home) == [record_key(RUN, number) for number in range(4)]
    assert (sites.ledger.degraded, sites.ledger.behind) == ("", {})


def test_a_home_that_hangs_on_is_scouted_beside_the_run_not_by_a_record(sites: Sites) -> None:
    book = journal(sites.ledger)
    sites.home.silent()
    book.append("step.begun", "db")
    sites.home.goes_on.clear()
    sites.rested()
    begun = time.monotonic()
    book.append("step.begun", "db")
    book.append("step.begun", "db")
    assert time.monotonic() - begun < 1.5
    assert len(keys(sites.west)) == 3


def test_what_a_killed_process_left_at_a_mirror_is_carried_home_by_the_next_one(sites: Sites) -> None:
    sites.home.silent()
    journal(sites.ledger).append("step.begun", "db")
    sites.home.answers()
    later = sites.opened()
    again = journal(later, generation=2)
    assert len(again.records()) == 1
    again.append("step.begun", "db")
    assert len(keys(sites.home)) == 2
    assert later.sync().conflicts == ()
    assert keys(sites.home) == keys(sites.west) == keys(sites.east)


def test_an_older_owner_at_a_mirror_meets_the_newer_ones_records(sites: Sites) -> None:
    """The older one has found the home silent; the newer one has not, and wrote home and to the mirrors."""
    older, newer = sites.opened(), sites.opened()
    book = journal(older)
    sites.home.silent()
    book.append("step.begun", "db")
    sites.home.answers()
    journal(newer, generation=2).append("step.begun", "db")
    newer.settle(10)
    with pytest.raises(Refused, match="taken over"):
        book.append("step.begun", "db")
    assert [each.generation for each in read_records(newer, RUN)] == [1, 2]


def test_a_record_whose_answer_was_lost_everywhere_is_on_record_once(sites: Sites) -> None:
    """Taken by a mirror behind a silent home, and asked again when nobody had answered: it is the same record."""
    book = journal(sites.ledger)
    sites.home.silent()
    sites.east.silent()
    put, lost = sites.west.under.put, [True]

    def answer_lost(key: str, body: bytes) -> None:
        put(key, body)
        if lost:
            lost.clear()
            raise Failed("no answer in time", hint="wait")

    sites.west.put = answer_lost  # type: ignore[method-assign]
    assert book.append("order.retried", "db", facts={"step": "s"}).sequence == 0
    lost.append(True)
    book.end("held", lambda body: Signature(who="me", key="k", ed25519="0" * 128))
    assert [each.kind for each in read_records(sites.ledger, RUN)] == ["order.retried", "run.ended"]


def test_a_driver_writes_nothing_behind_a_record_that_does_not_follow_its_own(tmp_path: Path) -> None:
    here, elsewhere = DirectoryLedger(tmp_path / "here"), DirectoryLedger(tmp_path / "elsewhere")
    book, other = journal(here), journal(elsewhere)
    book.append("step.begun", "db", facts={"by": "one"})
    for _ in range(2):
        other.append("step.begun", "db", facts={"by": "other"})
    here.put(record_key(RUN, 1), elsewhere.get(record_key(RUN, 1)) or b"")
    with pytest.raises(Damaged, match="does not follow the record before it"):
        book.append("step.begun", "db")
    assert here.get(record_key(RUN, 2)) is None


def forked(sites: Sites) -> tuple[str, str, str]:
    """Two drivers of one run in a partition: the home's has ended it in three records, the other's four lie west."""
    sign = signer("engine", make_private_pem())
    first = journal(sites.home.under)
    first.append("step.begun", "db")
    for place in (sites.west, sites.east):
        place.under.put(record_key(RUN, 0), sites.home.under.get(record_key(RUN, 0)) or b"")
    other = journal(sites.west.under)
    for number in range(3):
        other.append("step.begun", "db", facts={"by": "west", "number": number})
    first.append("step.begun", "db", facts={"by": "home"})
    first.end("held", sign)
    return record_key(RUN, 1), record_key(RUN, 3), sign.fingerprint


def test_a_merge_puts_no_record_behind_another_chain_and_names_the_fork(sites: Sites) -> None:
    """What is in a ledger can never be taken out again: a copy that is whole and signed stays so."""
    _, tail, key = forked(sites)
    copied = sites.ledger.sync()
    assert tail in copied.conflicts
    assert tail not in keys(sites.home)
    assert manifest_key(RUN) not in keys(sites.west)
    assert verify(sites.home.under, trusted=[key]).outcome is Outcome.PASSED
    assert not verify(sites.west.under).runs[0].troubles, "open, and whole"
    report = compared(verify(sites.ledger, runs=[RUN]), sites.ledger)
    assert report.outcome is Outcome.FAILED
    assert any(record_key(RUN, 1) in each.fact for each in report.troubles)


def test_nothing_more_is_written_to_where_a_fork_was_met(sites: Sites) -> None:
    """The home comes back with fewer records of another driver than were written to a mirror meanwhile."""
    book = journal(sites.ledger)
    sites.home.silent()
    for _ in range(3):
        book.append("step.begun", "db", facts={"by": "older"})
    journal(sites.home.under).append("step.begun", "db", facts={"by": "newer"})
    sites.home.answers()
    sites.rested()
    with pytest.raises(Refused, match="holds other documents there"):
        book.append("step.begun", "db")
    assert keys(sites.home) == [record_key(RUN, 0)]


def test_what_is_wrong_with_a_mirror_is_no_reason_to_stop_and_what_is_wrong_at_home_is(sites: Sites) -> None:
    def refuse() -> None:
        raise BadInput("the credentials are refused", hint="correct them")

    sites.east.raises = refuse
    journal(sites.ledger).append("step.begun", "db")
    assert silent_of(sites.ledger) == {sites.east.place: "the credentials are refused"}
    sites.home.raises = refuse
    with pytest.raises(BadInput):
        journal(sites.opened()).append("step.begun", "db")


def test_a_copy_that_was_not_compared_leaves_the_verification_unproven(sites: Sites) -> None:
    journal(sites.ledger).append("step.begun", "db")
    sites.home.silent()
    ledger = sites.opened()
    report = compared(verify(ledger, runs=[RUN]), ledger)
    assert list(report.silent) == [sites.home.place]
    assert Report(place="p", silent=report.silent).outcome is Outcome.UNPROVEN


def test_a_circuit_rests_after_a_silence_and_wakes_with_an_answer() -> None:
    now = [0.0]
    circuit = Circuit(rest_seconds=30, now_seconds=lambda: now[0])

    def fail() -> int:
        raise Failed("silent", hint="wait")

    assert circuit.ask(fail) is None
    assert (circuit.rests, circuit.trouble) == (True, "silent")
    now[0] = 31
    assert not circuit.rests
    assert circuit.ask(lambda: 1) == (1,)
    assert circuit.trouble == ""
    circuit.ask(fail)
    circuit.wake()
    assert not circuit.rests


def test_the_records_of_a_run_are_read_side_by_side_so_that_a_far_home_costs_no_seconds(tmp_path: Path) -> None:
    ledger = DirectoryLedger(tmp_path)
    book = journal(ledger)
    for _ in range(6):
        book.append("step.begun", "db")
    both = threading.Barrier(2)

    class Far(DirectoryLedger):
        def get(self, key: str) -> bytes | None:
            both.wait(20)  # answers only once another question has come, too
            return super().get(key)

    assert [each.sequence for each in read_records(Far(tmp_path), RUN)] == list(range(6))
