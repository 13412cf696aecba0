"""Names in the whole lab: they move by what stands at the standby's site, and live on without the control plane."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import boto3
import dns.exception
import dns.message
import dns.query
import pytest

from deployments.lab import breaking, faults, layout
from deployments.lab.app import part as app
from deployments.lab.arc import part as arc
from deployments.lab.aws import names as route53
from deployments.lab.aws import part as aws
from deployments.lab.dns import names
from deployments.lab.dns import part as name_server
from deployments.lab.part import Unwell
from deployments.lab.probe import part as probe
from deployments.lab.process import wait_until
from deployments.lab.resolver import part as resolver
from deployments.lab.s3.client import client
from deployments.lab.status import complete, status
from deployments.lab.world import World, down, up
from tasks.home import open_home
from tasks.runbook_file import library, load_all

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("names") / "home"
    yield up(home, without=frozenset({"agent"}))
    down(home, wipe=True)


def site(world: World, name: str, *, through: str = "dns") -> str:
    """Which site a name leads to now; `silent` when nobody says."""
    at = layout.hidden(world.block, through)
    try:
        told = dns.query.udp(dns.message.make_query(f"{name}.lab.test.", "A"), at, port=layout.DNS_PORT, timeout=3)
    except dns.exception.Timeout:
        return "silent"
    sites = {world.address(each, source="user"): each for each in layout.SITES}
    given = [sites[each.to_text()] for rrset in told.answer for each in rrset]
    return given[0] if given else "nowhere"


def leads(world: World, name: str, to: str, *, through: str = "dns") -> None:
    wait_until(
        lambda: site(world, name, through=through) == to,
        what=f"that {name} leads to {to}",
        patience_seconds=15,
        hint="see HOME/lab/log/dns.log",
    )


def test_every_part_is_used_and_the_status_says_where_it_is(world: World):
    for part in (name_server, resolver, probe):
        part.test(world)
    for number in layout.ARC:
        arc.test(world, number)
    told = status(world)
    assert {"address", "port", "resolver_address", "resolver_port", "zone", "name", "app_port", "health_path"} <= set(
        told["dns"]
    )
    check = told["health_checks"]["checks"]["east-answers"]
    assert (check["healthy"], check["interval_seconds"]) == (True, 10)
    assert check["lab_interval_seconds"] == 10 * told["health_checks"]["scale"] < 1
    assert len(told["arc"]["endpoints"]) == 5
    where = f"http://{told['dns']['answers']['east']}:{told['dns']['app_port']}"
    assert app.ask(where, "GET", told["dns"]["health_path"])[0] == 200


def test_the_catalog_of_the_lab_fits_every_runbook(world: World):
    books = library(None)
    assert set(load_all(list(books.files), books, open_home(world.home).catalog)) == set(books.files)


def test_the_marker_at_the_standby_moves_the_live_name_for_every_resolver(world: World):
    assert site(world, "app") == site(world, "app", through="resolver") == "east"
    s3, begun = client(world.s3("west")), time.monotonic()
    s3.put_object(Bucket=layout.DOORS, Key="east-is-out", Body=b"")
    leads(world, "app", "west")
    leads(world, "app", "west", through="resolver")
    assert time.monotonic() - begun < 6
    assert site(world, "rehearsal") == "east", "the other names stay"
    s3.delete_object(Bucket=layout.DOORS, Key="east-is-out")
    leads(world, "app", "east", through="resolver")


def test_with_the_control_plane_and_two_arc_endpoints_gone_names_still_answer_and_move(world: World):
    for name, how in (("aws:east", "kill"), ("arc:1", "stop"), ("arc:2", "kill"), ("arc:3", "blackhole")):
        breaking.begin(world, faults.parse(name, how))
    world.processes.kill("aws")
    assert site(world, "app") == "east"
    entries = [
        {"RoutingControlArn": names.CONTROLS[each], "RoutingControlState": state}
        for each, state in (("arc-east", "Off"), ("arc-west", "On"))
    ]
    cluster = boto3.client(
        "route53-recovery-cluster",
        endpoint_url=world.url("arc", "arc-4"),
        region_name=layout.ARC[4],
        aws_access_key_id="lab",
        aws_secret_access_key="lab",
    )
    cluster.update_routing_control_states(UpdateRoutingControlStateEntries=entries)
    leads(world, "app-arc", "west")
    with pytest.raises(Unwell):
        arc.test(world, 3)
    breaking.end(world)
    aws.start(world)
    kept = route53.client(world).list_resource_record_sets(HostedZoneId=route53.zone_id(names.ZONE))
    assert f"app.{names.ZONE}." in {each["Name"] for each in kept["ResourceRecordSets"]}
    arc.test(world, 2)
    assert site(world, "app-arc") == "west"


def test_weights_move_by_the_control_plane_and_raising_the_lab_again_leaves_them(world: World):
    records = [each for each in names.records(world) if each["Name"].startswith("app-weighted")]
    for each in records:
        each["Weight"] = 100 - each["Weight"]
    changes = [{"Action": "UPSERT", "ResourceRecordSet": each} for each in records]
    client_ = route53.client(world)
    client_.change_resource_record_sets(HostedZoneId=route53.zone_id(names.ZONE), ChangeBatch={"Changes": changes})
    leads(world, "app-weighted", "west")
    route53.provide(world)
    assert site(world, "app-weighted") == "west"


def test_a_platform_that_does_not_answer_moves_the_name_that_its_health_check_watches(world: World):
    breaking.begin(world, faults.parse("app:east", "stop"))
    leads(world, "app-auto", "west")
    breaking.end(world)
    leads(world, "app-auto", "east")


def test_the_name_server_may_be_slow_silent_or_killed_and_comes_back_with_its_zone(world: World):
    breaking.begin(world, faults.parse("dns", "delay", delay_ms=250))
    begun = time.monotonic()
    assert site(world, "app") == "east"
    assert time.monotonic() - begun > 0.24
    breaking.begin(world, faults.parse("dns", "kill"))
    with suppress(OSError):
        assert site(world, "app") == "silent"
    assert status(world)["health_checks"]["checks"]["east-serves"]["healthy"] is None
    assert breaking.end(world) == ["dns"]
    assert site(world, "app") == "east"


def test_a_site_that_is_too_small_says_so_until_it_is_healed(world: World):
    breaking.begin(world, faults.parse("capacity:west", None))
    assert app.ask(world.url("app", "west"), "GET", probe.READY_PATH)[0] == 503
    breaking.end(world)
    assert app.ask(world.url("app", "west"), "GET", probe.READY_PATH)[0] == 200
    assert complete(world)
