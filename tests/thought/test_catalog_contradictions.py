"""A catalog whose words are all allowed is still refused where it contradicts itself, and only there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.catalog import Catalog
from recovery.contradictions import contradictions, schedules

GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "good",
    "sites": {
        "east": {"role": "primary", "region": "us-east-1"},
        "west": {"role": "recovery", "region": "us-west-2"},
        "third": {"role": "witness", "region": "us-east-2"},
    },
    "ledger": {"home": "third", "mirrors": ["west"]},
    "objectives": {"critical": {"category": "critical", "rpo": "15 min", "rto": "30 min"}},
    "backups": {
        "daily": {
            "full": {"schedule": {"cron": "0 3 * * *"}, "keep": "30 days"},
            "incremental": {"schedule": {"cron": "30 * * * *"}, "keep": "2 days"},
            "marks": {"cron": "15 * * * *"},
            "copies": ["east", "west"],
        }
    },
    "proofs": {"daily": {"schedule": {"cron": "0 5 * * *"}, "deep": {"cron": "0 6 * * 0"}, "site": "west"}},
    "services": {"core": {"owner": "team", "resources": ["db"]}},
    "resources": {
        "db": {
            "kind": "postgres",
            "objective": "critical",
            "backup": "daily",
            "proof": "daily",
            "owner": "team",
            "bucket": "backups",
            "members": {"east": {"dsn": "host=d", "data_dir": "/d", "bin_dir": "/b"}},
        }
    },
    "operations": {
        "zones": {"a": {"role": "primary", "site": "east", "runs": ["x"], "capacity": "70 %"}},
        "scaling": {"policed": {"replicas": {"at_least": 2, "at_most": 8}}},
        "drills": {"full": {"what": "all of it", "schedule": {"cron": "0 9 1 * *"}}},
    },
}


def changed(path: str, value: object) -> Catalog:
    """GOOD with the value at a dotted path replaced (None: removed)."""
    data = copy.deepcopy(GOOD)
    *above, last = path.split("/")
    here = data
    for part in above:
        here = here.setdefault(part, {})
    if value is None:
        del here[last]
    else:
        here[last] = value
    return Catalog.model_validate(data)


def other(**differences: object) -> dict[str, Any]:
    return {**GOOD["resources"]["db"], **differences}


def test_a_good_catalog_has_none() -> None:
    assert contradictions(Catalog.model_validate(GOOD)) == ()


@pytest.mark.parametrize(
    ("path", "value", "where", "fact"),
    [
        ("sites/east/role", "recovery", "sites", "no site is primary"),
        (
            "services/core/compute",
            {"web": {"sites": {"west": {"group": "w"}}}},
            "services/core/compute/web",
            "nothing says how many instances of `web` carry all users",
        ),
        (
            "services/core/compute",
            {"web": {"full_load": 3, "sites": {"west": {"group": "w", "url": "http://w"}}}},
            "services/core/compute/web/sites/west",
            "the instances at west are counted by one thing",
        ),
        (
            "services/core/compute",
            {"web": {"full_load": 3, "sites": {"west": {"url": "w"}}}},
            "services/core/compute/web/sites/west/url",
            "'w' is no http or https URL",
        ),
        (
            "services/core/compute",
            {"web": {"full_load": 3, "sites": {"mars": {"group": "w"}}}},
            "services/core/compute/web/sites/mars",
            "there is no site `mars`",
        ),
        (
            "services/core",
            {
                "owner": "team",
                "resources": ["db"],
                "compute": {"policed": {"full_load": 9, "sites": {"west": {"group": "w"}}}},
            },
            "services/core/compute/policed/full_load",
            "9 instances carry all users, but its policy allows 8",
        ),
        ("sites/west/compute", {"credentials": "hush"}, "sites/west/compute/credentials", "is not a reference"),
        ("sites/west/role", "primary", "sites/west/role", "`west` is a second primary beside `east`"),
        ("ledger/home", "mars", "ledger/home", "there is no site `mars`"),
        ("ledger/mirrors", ["west", "mars"], "ledger/mirrors/1", "there is no site `mars`"),
        ("backups/daily/copies", ["west", "mars"], "backups/daily/copies/1", "there is no site `mars`"),
        ("proofs/daily/site", "mars", "proofs/daily/site", "there is no site `mars`"),
        ("operations/zones/a/site", "mars", "operations/zones/a/site", "there is no site `mars`"),
        ("services/core/resources", ["db", "nodb"], "services/core/resources/1", "there is no resource `nodb`"),
        ("resources/db/objective", "fine", "resources/db/objective", "there is no objective `fine`"),
        ("resources/db/backup", "fine", "resources/db/backup", "there is no backup policy `fine`"),
        ("resources/db/proof", "fine", "resources/db/proof", "there is no proof policy `fine`"),
        (
            "resources/db/members/mars",
            {"dsn": "host=d", "data_dir": "/d", "bin_dir": "/b"},
            "resources/db/members/mars",
            "there is no site `mars`",
        ),
        (
            "resources/db/members/third",
            {"dsn": "host=d", "data_dir": "/d", "bin_dir": "/b"},
            "resources/db/members/third",
            "`third` is a witness and cannot hold a member of `db`",
        ),
        (
            "services/video",
            {"owner": "others", "resources": ["db"]},
            "services/video/resources/0",
            "`db` has two owners: team by service `core` and others by service `video`",
        ),
        ("backups/daily/full/schedule/cron", "61 3 * * *", "backups/daily/full/schedule/cron", "outside the minute"),
        ("backups/daily/marks/cron", "now", "backups/daily/marks/cron", "has 1 fields"),
        ("proofs/daily/schedule/cron", "0 25 * * *", "proofs/daily/schedule/cron", "outside the hour"),
        ("proofs/daily/deep/cron", "0 5 * * moon", "proofs/daily/deep/cron", "is not a day of week"),
        ("operations/drills/full/schedule/cron", "x", "operations/drills/full/schedule/cron", "has 1 fields"),
        ("sites/west/s3", {"credentials": "AKIA123"}, "sites/west/s3/credentials", "is not a reference"),
        ("sites/west/s3", {"credentials": "file:"}, "sites/west/s3/credentials", "is not a reference"),
        ("backups/daily/encryption", "hunter2", "backups/daily/encryption", "is not a reference"),
        ("backups/daily/encryption", "default", "backups/daily/encryption", "is not a reference"),
        ("ledger/leases", "standfast-evidence", "ledger/leases", "leases and evidence share a bucket"),
        ("resources/again", other(prefix="/"), "resources/again/bucket", "keep their backups in the same place"),
        ("backups/daily/full/keep", "3 days", "backups/daily/full/keep", "full backups are kept for 3 days, shorter"),
        ("backups/daily/wal", {"keep": "1 day"}, "backups/daily/wal/keep", "WAL is kept for 1 day, shorter than"),
        ("backups/daily/incremental/keep", "31 days", "backups/daily/incremental/keep", "longer than the fulls"),
        ("backups/daily/wal", {"archive_timeout": "1 h"}, "backups/daily/wal/archive_timeout", "slower than the RPO"),
        (
            "backups/daily/wal",
            {"keep": "0 s"},
            "backups/daily/incremental/schedule/cron",
            "without WAL, backups are up",
        ),
        ("proofs/daily/site", "third", "proofs/daily/site", "`db` is proven at `third`, where its backups have no"),
        ("proofs/daily/schedule/cron", "0 5 * * 0", "proofs/daily/schedule/cron", "proofs are up to 7 days apart"),
        ("objectives/critical/rpo", "30 s", "backups/daily/wal/archive_timeout", "slower than the RPO of `db` (30 s)"),
        ("services/core/side_effects", {"mars": "http://m/x"}, "services/core/side_effects/mars", "no site `mars`"),
        ("services/core/drain", {"mars": "http://m"}, "services/core/drain/mars", "there is no site `mars`"),
        ("services/core/drain", {"west": "m/x"}, "services/core/drain/west", "'m/x' is no http or https URL"),
        ("services/core/vantage", {"v": "tcp://m:1"}, "services/core/vantage/v", "'tcp://m:1' is no http or https"),
        ("services/core/vantage", {"machine": "http://m"}, "services/core/vantage/machine", "already a vantage point"),
        ("services/core/notify", {"ops": "slack://AKIA123"}, "services/core/notify/ops", "`ops` is no reference"),
        ("services/core/probes", {"p": {"site": "west", "url": "tcp://m"}}, "services/core/probes/p/url", "be probed"),
        (
            "services/core/probes",
            {"p": {"site": "west", "url": "http://m:x"}},
            "services/core/probes/p/url",
            "be probed",
        ),
    ],
)
def test_one_contradiction_is_told_where_it_stands_and_alone(path: str, value: object, where: str, fact: str) -> None:
    found = contradictions(changed(path, value))
    assert ["/".join(map(str, each.path)) for each in found] == [where]
    assert fact in found[0].fact
    assert found[0].hint
    assert "hunter2" not in str(found)
    assert "AKIA123" not in str(found)


def test_without_wal_and_incrementals_the_full_schedule_is_too_slow() -> None:
    data = copy.deepcopy(GOOD)
    del data["backups"]["daily"]["incremental"]
    data["backups"]["daily"]["wal"] = {"keep": "0 s"}
    (found,) = contradictions(Catalog.model_validate(data))
    assert found.path == ("backups", "daily", "full", "schedule", "cron")
    assert "up to 1 day apart, slower than the RPO of `db` (15 min)" in found.fact


def test_without_wal_a_wrong_line_is_told_once() -> None:
    data = copy.deepcopy(GOOD)
    del data["backups"]["daily"]["incremental"]
    data["backups"]["daily"]["wal"] = {"keep": "0 s"}
    data["backups"]["daily"]["full"]["schedule"]["cron"] = "0 3 * *"
    assert len(contradictions(Catalog.model_validate(data))) == 1


def test_a_ledger_in_a_directory_needs_no_site() -> None:
    assert contradictions(changed("ledger/home", "directory:ledger")) == ()


@pytest.mark.parametrize("reference", ["file:/etc/key.json", "env:EAST", "profile:east", "default"])
def test_every_form_of_a_reference_will_do(reference: str) -> None:
    assert contradictions(changed("sites/west/s3", {"credentials": reference})) == ()


def test_one_owner_may_have_two_services_on_one_resource() -> None:
    assert contradictions(changed("services/video", {"owner": "team", "resources": ["db"]})) == ()


def test_a_policy_without_deep_proofs_or_incrementals_is_fine() -> None:
    data = copy.deepcopy(GOOD)
    del data["proofs"]["daily"]["deep"], data["backups"]["daily"]["incremental"]
    catalog = Catalog.model_validate(data)
    assert contradictions(catalog) == ()
    assert len(list(schedules(catalog))) == 4


WRONG = {
    "ledger/home": "mars",
    "objectives/critical/rpo": "30 s",
    "services/video": {"owner": "others", "resources": ["db"]},
    "backups/daily/full/keep": "3 days",
    "proofs/daily/schedule/cron": "0 5 * * 0",
}


@settings(max_examples=32)  # there are no more of them
@given(chosen=st.sets(st.sampled_from(sorted(WRONG))))
def test_contradictions_that_have_nothing_to_do_with_each_other_are_all_told_at_once(chosen: set[str]) -> None:
    data = copy.deepcopy(GOOD)
    for path in chosen:
        *above, last = path.split("/")
        here = data
        for part in above:
            here = here[part]
        here[last] = WRONG[path]
    assert len(contradictions(Catalog.model_validate(data))) == len(chosen)


def test_a_quorum_that_a_lost_site_leaves_no_room_for_is_told() -> None:
    probes = {"p": {"site": "east", "url": "http://east"}}
    with_agents = copy.deepcopy(GOOD["resources"]["db"])
    with_agents["members"]["east"]["agent"] = "http://agent.east"
    data = {**GOOD, "resources": {"db": with_agents}}

    def told(quorum: int, **vantage: str) -> list[str]:
        core = {**GOOD["services"]["core"], "probes": probes, "quorum": quorum, "vantage": vantage}
        return [each.fact for each in contradictions(Catalog.model_validate({**data, "services": {"core": core}}))]

    assert told(2) == ["2 vantage points must agree, but when east is lost 1 are left"]
    assert told(2, third="http://third") == []
    assert told(2, east="http://east") == ["`east` is already a vantage point", *told(2)]


def test_a_site_with_two_servers_is_one_site() -> None:
    database = copy.deepcopy(GOOD["resources"]["db"])
    database["members"]["east-2"] = {**database["members"]["east"], "site": "east", "data_dir": "/other"}
    found = Catalog.model_validate({**GOOD, "resources": {"db": database}}).resources["db"]
    assert found.sites == ("east",)
    assert [name for name, _ in found.at("east")] == ["east", "east-2"]
