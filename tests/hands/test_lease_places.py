"""Leases at the witness and at the recovery site: whoever shares a place is excluded, whatever is silent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recovery.errors import BadInput, Failed, Refused
from recovery.lease import Lease, Terms, lease_key
from tasks.circuit import Circuit
from tasks.dir_store import DirStore
from tasks.lease_places import LeasePlace, PlacedLeases
from tasks.leases import Leases, wall_clock
from tasks.store import Stored

TERMS = Terms(seconds=20, clock_bound=timedelta(seconds=2))


class Bucket:
    """A bucket of leases as one engine reaches it."""

    def __init__(self, folder: Path) -> None:
        self.under = DirStore(folder)
        self.raises: Callable[[], None] = lambda: None
        self.full = False

    def cut(self, trouble: type[Failed | BadInput] = Failed) -> None:
        def fail() -> None:
            raise trouble("it is silent", hint="wait")

        self.raises = fail

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        self.raises()
        return self.under.get(key)

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        self.raises()
        if self.full:
            raise Failed("its disk is full", hint="free space there")
        return self.under.replace(key, body, etag)


class Engine:
    """An engine with its own ways to the two places."""

    def __init__(self, folder: Path, name: str) -> None:
        self.witness, self.west = Bucket(folder / "witness"), Bucket(folder / "west")
        self.name, self.second = name, 3
        self.leases = self.made()
        self.live = self.made(need_home=True)

    def made(self, *, need_home: bool = False) -> PlacedLeases:
        places = [("witness", self.witness), ("west", self.west)]
        return PlacedLeases(
            [
                LeasePlace(name=name, leases=Leases(bucket, TERMS, owner=self.name), circuit=Circuit())  # type: ignore[arg-type]
                for name, bucket in places
            ],
            clock=lambda: datetime.fromtimestamp(self.second, UTC),
            need_home=lambda: need_home,
        )


def stored(folder: Path, place: str) -> Lease | None:
    found = DirStore(folder / place).get(lease_key("shop"))
    return None if found is None else Lease.model_validate_json(found[0])


def test_a_lease_is_taken_at_both_places_in_one_generation_and_released_at_both(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    with Leases(alice.west.under, TERMS, owner="before").hold("shop", "old", least=6):
        pass
    with alice.leases.hold("shop", "run") as held:
        assert (held.generation, held.silent) == (7, "")
        for place in ("witness", "west"):
            lease = stored(tmp_path, place)
            assert lease is not None
            assert (lease.generation, lease.released) == (7, False)
        held.check()
    assert all((lease := stored(tmp_path, place)) is not None and lease.released for place in ("witness", "west"))


@pytest.mark.parametrize("reached", ["witness", "west", "both"])
def test_whoever_shares_a_place_with_the_owner_is_refused_and_leaves_nothing(tmp_path: Path, reached: str) -> None:
    alice, bob = Engine(tmp_path, "alice"), Engine(tmp_path, "bob")
    if reached == "witness":
        bob.west.cut()
    if reached == "west":
        bob.witness.cut()
    with alice.leases.hold("shop", "run") as held:
        with pytest.raises(Refused, match="driven by alice"), bob.leases.hold("shop", "other"):
            pass
        held.check()
    with bob.leases.hold("shop", "other"):
        pass


def test_an_owner_that_holds_one_place_only_excludes_who_reaches_both(tmp_path: Path) -> None:
    alice, bob = Engine(tmp_path, "alice"), Engine(tmp_path, "bob")
    alice.witness.cut()
    with alice.leases.hold("shop", "run") as held:
        assert held.silent == "it is silent"
        with pytest.raises(Refused, match="driven by alice"), bob.leases.hold("shop", "other"):
            pass
    lease = stored(tmp_path, "witness")
    assert lease is None or lease.released, "what was taken before the refusal is given back"


def test_a_live_change_needs_the_home_and_says_how_to_go_without(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    alice.witness.cut()
    with pytest.raises(Refused, match="cannot be taken at witness") as caught, alice.live.hold("shop", "run"):
        pass
    assert "ledger-degraded" in caught.value.hint
    assert stored(tmp_path, "west") is None


def test_a_live_change_needs_a_home_that_takes_the_lease_not_only_one_that_shows_it(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    with alice.live.hold("shop", "before"):
        pass
    alice.witness.full = True
    with pytest.raises(Refused, match="cannot be taken at witness: its disk is full"), alice.live.hold("shop", "run"):
        pass
    west = stored(tmp_path, "west")
    assert west is not None
    assert (west.run, west.released) == ("before", True)
    with alice.leases.hold("shop", "run") as held:
        assert held.silent == "its disk is full"


def test_a_recovery_site_without_such_a_bucket_is_no_reason_to_stop(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    alice.west.cut(BadInput)
    with alice.live.hold("shop", "run") as held:
        held.check()
    alice.witness.cut()
    with pytest.raises(Failed, match="no place that keeps leases"):
        alice.leases.look("shop")


def test_a_lease_outlives_the_silence_of_one_place_and_ends_with_another_owner(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    with alice.leases.hold("shop", "run") as held:
        alice.witness.cut()
        for each in held._held[:1]:
            each._ends_at_seconds = 0  # its time has passed there
        held.check()
        each = held._held[1]
        taken = each.lease.model_copy(update={"owner": "bob", "generation": 9, "expires_at": wall_clock()})
        found = alice.west.under.get(lease_key("shop"))
        assert found is not None
        alice.west.under.replace(lease_key("shop"), taken.model_dump_json().encode(), found[1].etag)
        with pytest.raises(Refused, match="taken by bob"):
            each.renew()
        with pytest.raises(Refused, match="is lost"):
            held.check()


def test_the_generation_is_newer_than_the_records_that_another_places_lease_wrote(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    alice.witness.cut()
    with alice.leases.hold("shop", "run", least=12) as held:
        assert held.generation == 12


def test_a_lease_that_was_lost_with_its_places_begins_behind_what_agents_remember(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    alice.second = 1_795_000_000
    for _ in range(5):
        with alice.leases.hold("shop", "run") as held:
            remembered = held.generation
    assert remembered == 1_795_000_004
    later = Engine(tmp_path / "made anew", "alice")
    later.second = alice.second + 60
    with later.leases.hold("shop", "run") as held:
        assert held.generation > remembered


def test_a_generation_that_only_a_silent_place_knows_is_passed_all_the_same(tmp_path: Path) -> None:
    """The recovery site was away while the witness counted on; then the witness is lost in the disaster."""
    alice = Engine(tmp_path, "alice")
    alice.second = 1_795_000_000
    with alice.leases.hold("shop", "before"):
        pass
    alice.west.cut()
    for number in range(5):
        with alice.leases.hold("shop", f"run-{number}") as held:
            remembered = held.generation
    later = Engine(tmp_path, "alice")
    later.second = alice.second + 3600
    later.witness.cut()
    with later.leases.hold("shop", "failover") as held:
        assert held.generation > remembered


def test_a_place_that_lost_its_lease_gets_the_generation_of_the_other(tmp_path: Path) -> None:
    alice = Engine(tmp_path, "alice")
    with Leases(alice.west.under, TERMS, owner="before").hold("shop", "old", least=1_795_000_000):
        pass
    with alice.leases.hold("shop", "run"):
        assert [lease.generation for place in ("witness", "west") if (lease := stored(tmp_path, place))] == [
            1_795_000_001, 1_795_000_001,
        ]  # fmt: skip
