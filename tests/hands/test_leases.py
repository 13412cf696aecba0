"""Leases in a real bucket: one engine drives, another is refused, a dead or stale one is not in the way."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger_backends import TRUE_OF, Backend, running

from recovery.errors import Failed, Refused
from recovery.lease import Lease, Terms, lease_key
from recovery.value import canonical
from tasks import owner as owners
from tasks.dir_store import DirStore
from tasks.leases import Holding, Leases, wall_clock
from tasks.store import Changed, Store, Stored

TERMS = Terms(seconds=20, clock_bound=timedelta(seconds=2))


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backend]]:
    """Backends are started when a test asks, and ended with the module."""

    class Started(dict[str, Backend]):
        def __missing__(self, name: str) -> Backend:
            self[name] = stack.enter_context(running(name, tmp_path_factory.mktemp(name)))
            return self[name]

    with ExitStack() as stack:
        yield Started()


@pytest.fixture(params=sorted(TRUE_OF))
def store(request: pytest.FixtureRequest, backends: dict[str, Backend]) -> Store:
    return backends[request.param].leases(f"l-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def local(tmp_path: Path) -> DirStore:
    return DirStore(tmp_path / "leases")


def engine(store: Store, name: str, *, ahead_seconds: float = 0.0, terms: Terms = TERMS) -> Leases:
    """An engine called `name` whose clock is ahead by that much."""
    return Leases(store, terms, owner=name, clock=lambda: wall_clock() + timedelta(seconds=ahead_seconds))


def until(holds: Callable[[], object], patience_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + patience_seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true within the patience"
        time.sleep(0.01)


# -- every backend


def test_one_drives_and_the_other_is_refused_with_owner_and_run(store: Store) -> None:
    with engine(store, "alice@a").hold("shop", "run-one") as holding:
        assert holding.generation == 1
        holding.check()
        with pytest.raises(Refused, match=r"driven by alice@a in run run-one") as caught:
            engine(store, "bob@b").take("shop", "run-two")
        assert caught.value.exit_code == 4
        engine(store, "bob@b").take("bank", "run-three")
    taken = engine(store, "bob@b").take("shop", "run-two")
    assert taken.generation == 2, "a release keeps the generation growing"
    with pytest.raises(Refused, match="was released"):
        holding.check()


def test_of_many_engines_at_once_exactly_one_takes_it(store: Store) -> None:
    def take(n: int) -> int:
        try:
            engine(store, f"engine-{n}").take("shop", f"run-{n}")
        except Refused:
            return 0
        return 1

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1


def test_a_lapsed_lease_is_taken_over_and_its_old_owner_can_do_nothing(store: Store) -> None:
    short = Terms(seconds=0.5, clock_bound=timedelta())
    stale = engine(store, "alice@a", terms=short).take("shop", "run-one")
    with engine(store, "bob@b", terms=short).hold("shop", "run-two", patience_seconds=20) as taken:
        assert taken.generation == 2
        assert_lost(stale)
        stored = engine(store, "x").look("shop")
        assert stored is not None
        assert (stored.owner, stored.released) == ("bob@b", False)


@pytest.mark.parametrize("store", sorted(set(TRUE_OF) - {"directory"}), indirect=True)
def test_who_is_minutes_ahead_of_the_bucket_takes_no_lease_that_is_held(store: Store) -> None:
    with engine(store, "alice@a").hold("shop", "run-one") as holding:
        with pytest.raises(Refused, match="driven by alice@a"):
            engine(store, "bob@b", ahead_seconds=300).take("shop", "run-two")
        holding.renew()


@pytest.mark.parametrize("store", sorted(set(TRUE_OF) - {"directory"}), indirect=True)
def test_who_is_minutes_behind_the_bucket_holds_a_lease_that_nobody_takes(store: Store) -> None:
    with engine(store, "alice@a").hold("shop", "run-zero"):
        pass
    with engine(store, "alice@a", ahead_seconds=-300).hold("shop", "run-one") as holding:
        with pytest.raises(Refused, match="driven by alice@a"):
            engine(store, "bob@b").take("shop", "run-two")
        holding.renew()
        with pytest.raises(Refused, match="driven by alice@a"):
            engine(store, "bob@b").take("shop", "run-two")
        holding.check()


@pytest.mark.parametrize("store", sorted(set(TRUE_OF) - {"directory"}), indirect=True)
def test_a_wrong_clock_that_is_set_right_meanwhile_makes_no_lease_look_lapsed(store: Store) -> None:
    with engine(store, "alice@a").hold("shop", "run-zero"):
        pass
    ahead = [timedelta(seconds=300)]
    leases = Leases(store, TERMS, owner="alice@a", clock=lambda: wall_clock() + ahead[0])
    with leases.hold("shop", "run-one") as holding:
        ahead[0] = timedelta()
        holding.renew()
        holding.check()
        with pytest.raises(Refused, match="driven by alice@a"):
            engine(store, "bob@b").take("shop", "run-two")


def assert_lost(stale: Holding) -> None:
    with pytest.raises(Refused, match="taken by bob@b in run run-two"):
        stale.renew()
    with pytest.raises(Refused, match="is lost"):
        stale.check()
    stale.release()


# -- the rest, on a directory


def test_within_the_clock_bound_nobody_takes_over(local: DirStore) -> None:
    engine(local, "alice@a").take("shop", "run-one")
    with pytest.raises(Refused):
        engine(local, "bob@b", ahead_seconds=21).take("shop", "run-two")


def test_it_is_renewed_while_it_is_held(local: DirStore) -> None:
    short = Terms(seconds=0.6, clock_bound=timedelta())
    with engine(local, "alice@a", terms=short).hold("shop", "run-one") as holding:
        first = holding.lease.expires_at
        until(lambda: holding.lease.expires_at > first + timedelta(seconds=0.3))
        holding.check()
        assert holding.generation == 1


def test_a_holder_is_told_when_the_lease_was_lost(local: DirStore) -> None:
    short = Terms(seconds=0.6, clock_bound=timedelta())
    with engine(local, "alice@a", terms=short).hold("shop", "run-one") as holding:
        engine(local, "bob@b", ahead_seconds=60).take("shop", "run-two")
        until(lambda: holding.lost)
        with pytest.raises(Refused, match="taken by bob@b"):
            holding.check()
    stored = engine(local, "x").look("shop")
    assert stored is not None
    assert stored.owner == "bob@b"


def test_a_lease_whose_object_was_removed_is_lost(local: DirStore) -> None:
    holding = engine(local, "alice@a").take("shop", "run-one")
    local.delete(lease_key("shop"))
    with pytest.raises(Refused, match="its object was removed"):
        holding.renew()


def test_a_wall_clock_that_is_stepped_back_prolongs_nothing(local: DirStore) -> None:
    now = [wall_clock()]
    leases = Leases(local, Terms(seconds=0.05, clock_bound=timedelta()), owner="alice@a", clock=lambda: now[0])
    holding = leases.take("shop", "run-one")
    now[0] -= timedelta(hours=1)

    def refused() -> bool:
        try:
            holding.check()
        except Refused as refusal:
            return "stood still" in refusal.fact
        return False

    until(refused)


class Unreachable:
    """A store that falls silent; only what leases need."""

    def __init__(self, under: DirStore) -> None:
        self.under, self.silent, self.loses_answers, self.asked = under, False, False, 0
        self.late: Callable[[Callable[[], object]], object] | None = None

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        self.asked += 1
        if self.silent:
            raise Failed("the bucket is silent", hint="wait")
        if (late := self.late) is not None:
            self.late = None
            late(lambda: self.under.replace(key, body, etag))
            raise Failed("no answer within the patience", hint="wait")
        made = self.under.replace(key, body, etag)
        if self.loses_answers:
            self.loses_answers = False
            raise Changed(key)  # what a repeated compare-and-put meets: its own first try
        return made

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        return self.under.get(key)


def test_an_unreachable_bucket_is_asked_again_until_the_time_has_passed(local: DirStore) -> None:
    store = Unreachable(local)
    short = Terms(seconds=0.3, clock_bound=timedelta())
    with engine(store, "alice@a", terms=short).hold("shop", "run-one") as holding:  # type: ignore[arg-type]
        store.silent = True
        until(lambda: store.asked >= 3)

        def refused() -> bool:
            try:
                holding.check()
            except Refused:
                return True
            return False

        until(refused)
    store.silent = False
    assert engine(local, "bob@b", ahead_seconds=1, terms=short).take("shop", "run-two").generation == 2


@pytest.mark.parametrize("known", [True, False], ids=["known to be silent", "found silent"])
def test_a_lease_that_could_not_be_released_at_the_end_is_released_when_the_bucket_answers_again(
    local: DirStore, known: bool
) -> None:
    store = Unreachable(local)
    alice = Leases(store, Terms(seconds=60), owner="alice@a", reachable=lambda: not (known and store.silent))  # type: ignore[arg-type]
    with alice.hold("shop", "run-one"):
        store.silent = True
    asked = store.asked
    until(lambda: store.asked > asked)
    with pytest.raises(Refused, match="driven by alice@a"):
        engine(local, "bob@b").take("shop", "run-two")
    store.silent = False
    until(lambda: (lease := engine(local, "x").look("shop")) is not None and lease.released)
    assert engine(local, "bob@b").take("shop", "run-two").generation == 2


def test_a_late_release_leaves_a_lease_alone_that_the_same_process_has_taken_anew(local: DirStore) -> None:
    """The same run taken up again: owner, run and generation are those of the holding that was to be released."""
    first = engine(local, "alice@a").take("shop", "run-one")
    again = engine(local, "alice@a").take("shop", "run-one")
    assert again.generation == first.generation
    first.release_untouched()
    again.check()
    stored = engine(local, "x").look("shop")
    assert stored is not None
    assert not stored.released


@pytest.mark.parametrize("seconds", [0.0, 0.3], ids=["written already", "written later"])
def test_a_lease_that_was_written_without_an_answer_is_given_back(local: DirStore, seconds: float) -> None:
    """The run goes on at another place, or not at all; this process lives on, so that nobody could take the lease."""
    store = Unreachable(local)
    store.late = lambda write: threading.Timer(seconds, write).start() if seconds else write()
    alice = Leases(store, Terms(seconds=60), owner="alice@a")  # type: ignore[arg-type]
    with pytest.raises(Failed, match="no answer within"):
        alice.take("shop", "run-one")
    until(lambda: (lease := engine(local, "x").look("shop")) is not None and lease.released)
    assert engine(local, "bob@b").take("shop", "run-two").generation == 2


def standing_still(holding: Holding) -> None:
    """As behind a SIGSTOP of minutes, or as many of a bucket's silence."""
    holding._ends_at_seconds = 0.0
    holding._lease = holding._lease.model_copy(update={"expires_at": wall_clock() - timedelta(minutes=5)})


def test_a_lapsed_lease_that_nobody_took_is_prolonged_when_the_bucket_answers_again(local: DirStore) -> None:
    holding = engine(local, "alice@a").take("shop", "run-one")
    standing_still(holding)
    with pytest.raises(Refused):
        holding.check()
    holding.renew()
    holding.check()
    assert holding.generation == 1
    with pytest.raises(Refused, match="driven by alice@a"):
        engine(local, "bob@b").take("shop", "run-two")


def test_a_lapsed_lease_that_another_took_and_gave_back_is_lost(local: DirStore) -> None:
    holding = engine(local, "alice@a").take("shop", "run-one")
    standing_still(holding)
    with engine(local, "bob@b", ahead_seconds=300).hold("shop", "run-two"):
        pass
    with pytest.raises(Refused, match="taken by bob@b in run run-two"):
        holding.renew()
    with pytest.raises(Refused, match="is lost"):
        holding.check()


def test_who_holds_a_lapsed_lease_asks_on_until_the_bucket_tells_of_the_new_owner(local: DirStore) -> None:
    store = Unreachable(local)
    short = Terms(seconds=0.3, clock_bound=timedelta())
    with engine(store, "alice@a", terms=short).hold("shop", "run-one") as holding:  # type: ignore[arg-type]
        store.silent = True
        until(lambda: time.monotonic() > holding._ends_at_seconds)
        engine(local, "bob@b", ahead_seconds=60).take("shop", "run-two")
        asked = store.asked
        until(lambda: store.asked > asked)
        store.silent = False
        until(lambda: holding.lost)
        assert "bob@b" in holding.lost


def test_a_lease_of_the_same_owner_and_generation_in_another_run_is_not_released(local: DirStore) -> None:
    holding = engine(local, "alice@a").take("shop", "run-one")
    local.delete(lease_key("shop"))
    engine(local, "alice@a").take("shop", "run-two", least=holding.generation)
    holding.release()
    stored = engine(local, "x").look("shop")
    assert stored is not None
    assert (stored.run, stored.released) == ("run-two", False)


def test_an_answer_that_was_lost_loses_no_lease(local: DirStore) -> None:
    store = Unreachable(local)
    store.loses_answers = True
    holding = engine(store, "alice@a").take("shop", "run-one")  # type: ignore[arg-type]
    assert holding.generation == 1
    store.loses_answers = True
    holding.renew()
    holding.check()
    holding.release()


def test_patience_waits_for_a_release(local: DirStore) -> None:
    first = engine(local, "alice@a", terms=Terms(seconds=2)).take("shop", "run-one")
    with ThreadPoolExecutor(1) as pool:

        def second() -> int:
            with engine(local, "bob@b", terms=Terms(seconds=0.5)).hold("shop", "r2", patience_seconds=20) as held:
                return held.generation

        waiting = pool.submit(second)
        first.release()
        assert waiting.result(timeout=20) == 2


def test_a_body_that_fails_still_releases(local: DirStore) -> None:
    with pytest.raises(RuntimeError), engine(local, "alice@a").hold("shop", "run-one"):
        raise RuntimeError
    stored = engine(local, "x").look("shop")
    assert stored is not None
    assert stored.released


def test_an_object_that_is_no_lease_is_not_overwritten(local: DirStore) -> None:
    local.put(lease_key("shop"), b'{"schema_version":2}')
    with pytest.raises(Failed, match="not a lease of a known schema"):
        engine(local, "alice@a").take("shop", "run-one")


def test_the_owner_that_was_killed_on_this_machine_is_not_waited_for(local: DirStore, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tasks.dir_store import DirStore;"
        "from recovery.lease import Terms; from tasks.leases import Leases;"
        "Leases(DirStore(Path(sys.argv[1])), Terms()).take('shop', 'run-one');"
        "print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "leases")], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(Refused):
            Leases(local, TERMS).take("shop", "run-one")
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    assert Leases(local, TERMS).take("shop", "run-one").generation == 2


def test_silence_of_an_owner_elsewhere_proves_nothing() -> None:
    here = owners.owner_here("alice")
    assert here.startswith("alice@")
    assert not owners.ended(here)
    assert not owners.ended("alice@far [000000000000:1:1]")
    assert not owners.ended("alice@far [-:1:1]")
    assert not owners.ended("somebody")
    view = here.rpartition("[")[2].split(":")[0]
    if view != "-":
        assert owners.ended(f"alice@here [{view}:{2**22 + 1}:1]")


def test_an_owner_whom_proc_hides_from_this_user_is_not_called_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """hidepid=2: another user's process has no folder in /proc."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        view, start = owners._view(), owners._start(child.pid)
        alive = f"bob@here [{view}:{child.pid}:{start}]"
        if view == "-":
            pytest.skip("this system tells nothing of its processes")
        assert not owners.ended(alive)
        read = Path.read_text

        def hidden(self: Path, *words: str) -> str:
            if str(self) == f"/proc/{child.pid}/stat":
                raise FileNotFoundError(self)
            return read(self, *words)

        monkeypatch.setattr(Path, "read_text", hidden)
        assert not owners.ended(alive)
    assert owners.ended(alive)


def test_a_lease_reads_back_as_it_was_written() -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    lease = Lease(service="shop", owner="a", run="r", generation=3, expires_at=at)
    assert Lease.model_validate_json(canonical(lease)) == lease
