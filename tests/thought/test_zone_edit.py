"""An edit changes what it says and carries over all else; weights stay percentages; strangers stop it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.doors import DnsName, DnsRecord
from recovery.errors import BadInput
from recovery.zone_edit import RecordSet, batch, of_name, pointed, shifted, sites

VALUES = {"east": "192.0.2.1", "west": "192.0.2.2", "south": "192.0.2.3"}
DNS = DnsName(
    name="app.example.com",
    zone="example.com",
    zone_id="Z0",
    moved_by="record-edit",
    records={site: DnsRecord(value=value, set_identifier=f"app-{site}") for site, value in VALUES.items()},
)


def record(site: str, **policy: Any) -> RecordSet:
    given = {"Name": "app.example.com.", "Type": "A", "SetIdentifier": f"app-{site}", "TTL": 60, **policy}
    return {"ResourceRecords": [{"Value": VALUES.get(site, "192.0.2.9")}], "HealthCheckId": f"h-{site}", **given}


def weighted(weights: list[int]) -> list[RecordSet]:
    return [record(site, Weight=weight) for site, weight in zip(VALUES, weights, strict=False)]


def failover(primary: str = "east") -> list[RecordSet]:
    return [record(each, Failover="PRIMARY" if each == primary else "SECONDARY") for each in ("east", "west")]


WEIGHTS = st.lists(st.integers(0, 255), min_size=2, max_size=3)


@given(weights=WEIGHTS, share=st.integers(0, 100), to=st.sampled_from(["east", "west"]))
def test_a_shift_gives_the_site_its_share_and_the_weights_add_up(weights: list[int], share: int, to: str) -> None:
    after = shifted(weighted(weights), DNS, to, share)
    assert sum(each["Weight"] for each in after) == 100
    assert {each["SetIdentifier"]: each["Weight"] for each in after}[f"app-{to}"] == share
    assert all(0 <= each["Weight"] <= 100 for each in after)


@given(weights=WEIGHTS, share=st.integers(0, 100))
def test_a_shift_changes_nothing_but_weights_and_does_so_once(weights: list[int], share: int) -> None:
    before = weighted(weights)
    after = shifted(before, DNS, "west", share)
    assert [{**each, "Weight": 0} for each in after] == [{**each, "Weight": 0} for each in before]
    assert shifted(after, DNS, "west", share) == after
    assert batch(after, shifted(after, DNS, "west", share), "again") is None


@given(weights=WEIGHTS, share=st.integers(0, 100))
def test_the_batch_that_goes_back_makes_what_was(weights: list[int], share: int) -> None:
    before = weighted(weights)
    after = shifted(before, DNS, "west", share)
    undone = {each["SetIdentifier"]: each for each in after}
    for change in (batch(after, before, "back") or {"Changes": []})["Changes"]:
        assert change["Action"] == "UPSERT"
        undone[change["ResourceRecordSet"]["SetIdentifier"]] = change["ResourceRecordSet"]
    assert list(undone.values()) == before


def test_the_others_keep_their_proportion() -> None:
    after = shifted(weighted([60, 0, 30]), DNS, "west", 70)
    assert [each["Weight"] for each in after] == [20, 70, 10]


def test_a_site_alone_has_what_it_is_given() -> None:
    assert [each["Weight"] for each in shifted(weighted([7]), DNS, "east", 100)] == [100]


def test_a_stranger_with_a_weight_stops_a_shift_and_one_without_does_not() -> None:
    for weight in (0, 1):
        sets = [*weighted([100, 0]), record("north", Weight=weight)]
        if weight:
            with pytest.raises(BadInput, match=r"app-north of app\.example\.com is not in the catalog"):
                shifted(sets, DNS, "west", 100)
        else:
            assert [each["Weight"] for each in shifted(sets, DNS, "west", 100)] == [0, 100, 0]


def test_failover_records_all_point_to_the_secondary_s_site_and_home_each_to_its_own() -> None:
    away = pointed(failover(), DNS, "west")
    assert {each["ResourceRecords"][0]["Value"] for each in away} == {VALUES["west"]}
    assert [each["HealthCheckId"] for each in away] == ["h-east", "h-west"]
    assert pointed(away, DNS, "east") == failover()
    assert pointed(away, DNS, "west") == away


def test_a_simple_record_is_pointed_and_an_alias_refused() -> None:
    simple = {key: value for key, value in record("east").items() if key not in ("SetIdentifier", "HealthCheckId")}
    assert pointed([simple], DNS, "west")[0]["ResourceRecords"] == [{"Value": VALUES["west"]}]
    alias = {"Name": "app.example.com.", "Type": "A", "AliasTarget": {"DNSName": "lb."}}
    with pytest.raises(BadInput, match="is an alias"):
        pointed([alias], DNS, "west")


@pytest.mark.parametrize("share", [-1, 101])
def test_a_share_beyond_the_whole_is_refused(share: int) -> None:
    with pytest.raises(BadInput, match="percent"):
        shifted(weighted([100, 0]), DNS, "west", share)


def test_what_is_not_there_or_not_weighted_is_refused() -> None:
    with pytest.raises(BadInput, match="no record for south in the zone"):
        shifted(weighted([100, 0]), DNS, "south", 100)
    with pytest.raises(BadInput, match="has no weight"):
        shifted(failover(), DNS, "west", 100)
    with pytest.raises(BadInput, match="app-north"):
        pointed([*failover(), record("north", Failover="SECONDARY")], DNS, "west")


def test_only_the_name_s_own_sets_of_its_type_are_looked_at_however_they_are_spelled() -> None:
    others = [record("east", Name="app.example.com.other."), record("east", Type="AAAA"), record("east", Name="x.")]
    mine = [record("west", Name="APP.example.com"), record("east")]
    assert of_name([*others, *mine], DNS) == [mine[1], mine[0]]
    assert sites(mine, DNS) == ("east", "west")
    assert sites([], DNS) == ()
