"""Faults as values: names, ways, and the weather that several of them make together."""

from __future__ import annotations

import pytest

from deployments.lab import faults, layout
from deployments.lab.proxy.weather import both
from recovery.errors import BadInput

LINKS = list(layout.links("127.99.9", standbys=2, s3_ports=dict.fromkeys(layout.BUCKETS, 1)))
ALL = {link.name for link in LINKS}


def struck(*names_and_ways: tuple[str, str]) -> dict[str, object]:
    weather = faults.weather(LINKS, [faults.parse(name, how) for name, how in names_and_ways])
    return {name: each for name, each in weather.items() if each != both("pass")}


def test_every_path_has_an_address_of_its_own_and_no_two_doors_are_one():
    doors = [(link.address, link.port) for link in LINKS]
    assert len(doors) == len(set(doors))
    assert "engine-witness:postgres" not in ALL
    assert "engine-west:postgres-2" in ALL


@pytest.mark.parametrize("name", ["postgres:north", "disk:east", "", "network:east-north", "postgres"])
def test_a_fault_that_does_not_exist_is_refused_with_the_list(name: str):
    with pytest.raises(BadInput) as refusal:
        faults.parse(name, None)
    assert "site:east" in refusal.value.hint
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("how", ["kill", "stop", "blackhole"])
@pytest.mark.parametrize(
    "name",
    [*(f"{role}:east" for role in ("site", "postgres", "s3", "aws", "app", "agent")), "network:east-west", "witness",
     "arc:3", "dns"],
)  # fmt: skip
def test_whatever_can_be_lost_is_lost_in_each_of_the_three_ways(name: str, how: str):
    fault = faults.parse(name, how)
    struck_doors = faults.weather(LINKS, [fault]) != faults.weather(LINKS, [])
    silent = faults.sky("dns", [fault]).mode == "blackhole"
    assert struck_doors or silent or faults.processes(fault, members=["east", "west"]), "it would strike nothing"


@pytest.mark.parametrize(("name", "how"), [("postgres:east", "cut"), ("network:east-west", "small"), ("witness", "x")])
def test_a_way_that_makes_no_sense_is_refused(name: str, how: str):
    with pytest.raises(BadInput, match="cannot be broken by"):
        faults.parse(name, how)


@pytest.mark.parametrize("delay_ms", [0, -1, 1e9])
def test_a_senseless_delay_is_refused(delay_ms: float):
    with pytest.raises(BadInput, match="makes no sense"):
        faults.parse("network:east-west", "delay", delay_ms=delay_ms)


def test_a_network_fault_strikes_both_directions_and_all_roles_of_that_pair():
    hit = struck(("network:east-west", "cut"))
    assert {name.partition(":")[0] for name in hit} == {"east-west", "west-east"}
    assert set(hit.values()) == {both("cut")}


def test_killing_the_emulator_of_a_site_closes_its_doors_only():
    assert struck(("aws:east", "kill")) == {"engine-east:aws": both("cut"), "west-east:aws": both("cut")}
    assert faults.processes(faults.parse("aws:east", "kill"), members=["east", "west"]) == []


def test_losing_a_site_takes_its_database_objects_application_agent_and_control_plane():
    lost = faults.parse("site:west", None)
    assert set(faults.processes(lost, members=["east", "west", "west-2"])) == {
        "west.postgres", "west-2.postgres", "west.s3", "west.app", "west.agent", "west-2.agent",
    }  # fmt: skip
    assert set(struck(("site:west", "kill"))) == {"engine-west:aws", "east-west:aws"}


def test_a_black_hole_around_a_site_swallows_what_enters_and_what_leaves():
    assert set(struck(("site:west", "blackhole"))) == {name for name in ALL if "west" in name.partition(":")[0]}


def test_of_two_faults_on_a_door_the_worse_wins_and_healing_one_leaves_the_other():
    assert struck(("network:engine-east", "cut"), ("s3:east", "blackhole"))["engine-east:s3"] == both("blackhole")
    assert set(struck(("s3:east", "blackhole"))) == {"engine-east:s3", "user-east:s3", "west-east:s3"}


def test_every_fault_that_is_offered_can_be_parsed():
    for name in faults.names():
        assert faults.parse(name, None).name == name


def test_an_arc_endpoint_is_killed_stopped_or_hangs_behind_its_door_alone():
    for how in ("kill", "stop"):
        fault = faults.parse("arc:2", how)
        assert faults.processes(fault, members=["east", "west"]) == ["arc-2"]
        assert struck(("arc:2", how)) == {}
    assert struck(("arc:2", "blackhole")) == {"engine-arc-2:arc": both("blackhole")}


def test_a_name_server_has_no_door_and_its_weather_is_its_own():
    stand = [faults.parse("dns", "delay", delay_ms=300), faults.parse("resolver", "blackhole")]
    assert struck(("dns", "blackhole")) == {}
    assert (faults.sky("dns", stand).mode, faults.sky("dns", stand).delay_ms) == ("pass", 300)
    assert faults.sky("resolver", stand).mode == "blackhole"
    assert faults.sky("dns", []) == both("pass").forth
    assert faults.processes(faults.parse("dns", "stop"), members=[]) == ["dns"]


def test_a_small_site_is_struck_by_nothing_but_its_switch():
    fault = faults.parse("capacity:west", None)
    assert (fault.how, faults.processes(fault, members=["east", "west"])) == ("small", [])
    assert struck(("capacity:west", "small")) == {}
    assert (faults.small("west", [fault]), faults.small("east", [fault])) == ("small", "")
    assert faults.small("west", [faults.parse("capacity:west", "limited")]) == "limited"


def test_the_witness_is_a_bucket_and_a_vantage_point():
    assert set(faults.processes(faults.parse("witness", "kill"), members=[])) == {"witness.s3", "witness.probe"}
    assert set(struck(("witness", "blackhole"))) == {name for name in ALL if "witness" in name.partition(":")[0]}


def test_users_paths_are_cut_without_the_engines():
    assert set(struck(("network:user-east", "cut"))) == {"user-east:app", "user-east:s3"}
