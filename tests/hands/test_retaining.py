"""A sweep over all sites of a resource, on real stores: nothing that anybody needs goes, nothing comes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recovery.errors import Failed
from recovery.point import SEGMENT_BYTES, Backup
from recovery.policy import BackupPolicy, Kept, Schedule
from recovery.value import canonical
from recovery.wal import name_of
from tasks import retaining
from tasks.dir_store import DirStore
from tasks.postgres.looking import backups
from tasks.postgres.ship_base import ship_backup, unshipped
from tasks.store import Stored

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAILY = Schedule(cron="0 3 * * *")
POLICY = BackupPolicy(full=Kept(schedule=DAILY, keep=timedelta(days=30)), marks=DAILY)


def put(store: DirStore, days: int, *, number: int) -> Backup:
    at = NOW - timedelta(days=days)
    made = Backup(
        id=f"{at:%Y%m%dT%H%M%SZ}-full", resource="db", system_id="7", timeline=1, kind="full",
        begin_lsn=number * SEGMENT_BYTES, end_lsn=number * SEGMENT_BYTES + 100, begun_at=at, ended_at=at,
        server_version=180006, size_bytes=4, stored_bytes=4,
    )  # fmt: skip
    store.put(f"base/7/{made.id}/base.tar.zst", b"data")
    store.put(f"base/7/{made.id}/backup.json", canonical(made))
    return made


def names(store: DirStore, prefix: str) -> set[str]:
    return {each.key.rpartition("/")[2] for each in store.list(prefix)}


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, DirStore]:
    made = {site: DirStore(tmp_path / site) for site in ("east", "west")}
    for store in made.values():
        for days, number in ((40, 10), (20, 20), (1, 30)):
            put(store, days, number=number)
        for number in (9, 10, 19, 20, 31):
            store.put(f"wal/7/00000001/{name_of(1, number)}.zst", b"wal")
        store.put(f"wal/7/00000001/{name_of(1, 10)}.00000028.backup.zst", b"label")
        store.put("wal/7/00000002/00000002.history.zst", b"history")
        for number in (11, 21):
            store.put(f"mark/7/00000001/{number * SEGMENT_BYTES:016X}.json", b"{}")
    return made


def swept(sites: retaining.Sites, *, really: bool = True) -> tuple[retaining.Swept, ...]:
    return retaining.sweep(sites, POLICY, proven=frozenset(), now=NOW, really=really)


def test_all_sites_cut_at_the_same_place_and_a_second_sweep_finds_nothing(sites: dict[str, DirStore]) -> None:
    told = swept(sites, really=False)
    assert len(backups(sites["east"])) == 3
    done = swept(sites)
    assert [each.removed for each in done] == [each.removed for each in told]
    assert set(done[0].reasons) == set(done[0].removed)
    assert "full, 40.0 days old" in done[0].reasons.values()
    assert done[0].reasons[name_of(1, 9)].startswith("before 2026")
    for store in sites.values():
        assert [each.begin_lsn // SEGMENT_BYTES for each in backups(store)] == [20, 30]
        assert names(store, "wal/") == {f"{name_of(1, 20)}.zst", f"{name_of(1, 31)}.zst", "00000002.history.zst"}
        assert names(store, "mark/") == {f"{21 * SEGMENT_BYTES:016X}.json"}
        assert not [each for each in store.list("base/") if "20261015" in each.key]
    assert all(not each.removed for each in swept(sites))


def test_what_a_lagging_copy_would_delete_stays_while_the_other_site_keeps_it(sites: dict[str, DirStore]) -> None:
    old = next(each for each in backups(sites["east"]) if each.begin_lsn == 10 * SEGMENT_BYTES)
    child = old.but(id="20261120T120000Z-incr", kind="incremental", parent=old.id, begun_at=NOW, ended_at=NOW)
    sites["east"].put(f"base/7/{child.id}/backup.json", canonical(child))
    swept(sites)
    assert all(old.id in {each.id for each in backups(store)} for store in sites.values())
    assert f"{name_of(1, 10)}.zst" in names(sites["west"], "wal/")


class Broken(DirStore):
    """Fails at its n-th deletion, as if the process died there."""

    left: int

    def delete(self, key: str) -> None:
        if not self.left:
            raise Failed("killed here", hint="test")
        self.left -= 1
        super().delete(key)


@pytest.mark.parametrize("at", range(6))
def test_killed_anywhere_the_next_sweep_ends_the_same(sites: dict[str, DirStore], at: int) -> None:
    broken = Broken(Path(sites["east"].place))
    broken.left = at
    with pytest.raises(Failed):
        swept({"east": broken, "west": sites["west"]})
    for here, there in (("east", "west"), ("west", "east")):  # the shippers go on meanwhile
        for folder in list(unshipped(sites[here], sites[there])):
            assert ship_backup(sites[here], sites[there], folder, go_on=lambda: True)
    for store in sites.values():
        for each in backups(store):
            assert store.head(f"base/7/{each.id}/base.tar.zst") is not None, "a marker without its backup"
    swept(sites)
    for store in sites.values():
        assert len(backups(store)) == 2
        assert len(names(store, "base/")) == 2


def test_a_site_that_does_not_answer_stops_the_sweep_while_all_is_whole(
    sites: dict[str, DirStore], tmp_path: Path
) -> None:
    class Silent(DirStore):
        def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
            raise Failed("it does not answer", hint="test")

    before = [each.key for each in sites["east"].list("")]
    with pytest.raises(Failed):
        swept({"east": sites["east"], "west": Silent(tmp_path / "west")})
    assert [each.key for each in sites["east"].list("")] == before


def test_a_copy_that_lost_a_body_to_a_sweep_gets_no_marker_and_is_copied_again(
    sites: dict[str, DirStore], tmp_path: Path
) -> None:
    """A sweep there takes the half copy of an old backup for a leftover, in the very moment before the marker."""

    class SweptUnderway(DirStore):
        swept = False

        def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
            bodies = [each.key for each in super().list("base/") if each.key.endswith("base.tar.zst")]
            if not self.swept and bodies:
                self.swept = True
                self.delete(bodies[0])
            return super().list(prefix, after)

    there = SweptUnderway(tmp_path / "third")
    (folder, *_) = unshipped(sites["east"], there)
    with pytest.raises(Failed, match="vanished at the other site"):
        ship_backup(sites["east"], there, folder, go_on=lambda: True)
    assert backups(there) == ()
    assert ship_backup(sites["east"], there, folder, go_on=lambda: True)
    assert len(backups(there)) == 1


def test_a_hold_at_one_site_keeps_all_copies_and_what_they_need(sites: dict[str, DirStore]) -> None:
    old = backups(sites["east"])[0]
    sites["west"].put(f"base/7/{old.id}/hold.json", b"{}")
    (east, west) = swept(sites)
    for store, told in ((sites["east"], east), (sites["west"], west)):
        assert old.id in {each.id for each in backups(store)}
        assert f"{old.id}: under hold" in told.kept
        assert f"{name_of(1, 10)}.zst" in names(store, "wal/")
    sites["west"].delete(f"base/7/{old.id}/hold.json")
    assert all(old.id in each.removed for each in swept(sites))
