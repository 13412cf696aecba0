"""Record edits and weights: read, changed and written back whole, with the way home kept; and a control plane that is
busy, slow, gone or that refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from name_scene import EAST, WEST, Play, app, catalog, name_server, step
from site_scene import bare, closed_port, site

from recovery.errors import BadInput, Failed, Refused
from recovery.step import Mode

XMLNS = "https://route53.amazonaws.com/doc/2013-04-01/"


def record(name: str, at: str, value: str, **policy: Any) -> dict[str, Any]:
    return {
        "Name": f"{name}.lab.test.",
        "Type": "A",
        "SetIdentifier": f"{name}-{at}",
        "TTL": 1,
        "ResourceRecords": [{"Value": value}],
        **policy,
    }


class Zone:
    """A zone in moto, and what its name servers make of it: the heaviest weight, or the primary."""

    def __init__(self) -> None:
        self.client: Any = boto3.client("route53", region_name="us-east-1")
        self.id = self.client.create_hosted_zone(Name="lab.test", CallerReference="1")["HostedZone"]["Id"]
        self.frozen = False

    def put(self, *sets: dict[str, Any]) -> None:
        changes = [{"Action": "UPSERT", "ResourceRecordSet": each} for each in sets]
        self.client.change_resource_record_sets(HostedZoneId=self.id, ChangeBatch={"Changes": changes})

    def sets(self, name: str = "app") -> dict[str, dict[str, Any]]:
        found = self.client.list_resource_record_sets(HostedZoneId=self.id)["ResourceRecordSets"]
        return {each["SetIdentifier"]: each for each in found if each["Name"] == f"{name}.lab.test."}

    def values(self, name: str) -> list[str]:
        sets = list(self.sets(name.partition(".")[0]).values())
        chosen = max(sets, key=lambda each: (each.get("Weight", 0), each.get("Failover") == "PRIMARY"))
        return [str(each["Value"]) for each in chosen["ResourceRecords"]]


@pytest.fixture
def zone() -> Iterator[Zone]:
    with mock_aws():
        yield Zone()


def play(folder: Path, where: str, zone_id: str, way: str, **more: Any) -> Play:
    policy = more.pop("policy", "weighted")
    names = {"app": app(where, moved_by="record-edit", policy=policy, zone_id=zone_id.rpartition("/")[2])}
    shift = {"shift": more.pop("shift")} if "shift" in more else {}
    steps = (
        step("redirect", by=[way], patience_seconds=10, **shift),
        step("redirect", id="back", site="east", by=[way], patience_seconds=10),
    )
    found = catalog(dns=names, **{key: more.pop(key) for key in ("route53",) if key in more})
    return Play(catalog=found, folder=folder, steps=steps, **more)


def weighted(zone: Zone, east: int = 100, west: int = 0) -> None:
    zone.put(record("app", "east", EAST, Weight=east), record("app", "west", WEST, Weight=west))


def failover(zone: Zone) -> None:
    zone.put(record("app", "east", EAST, Failover="PRIMARY"), record("app", "west", WEST, Failover="SECONDARY"))


@pytest.mark.parametrize("way", ["weights", "record-edit"])
def test_weights_move_a_name_there_and_home_and_nothing_else_in_the_zone(tmp_path: Path, zone: Zone, way: str) -> None:
    weighted(zone)
    zone.put(record("other", "east", EAST, Weight=7), {**record("app-east", "x", EAST, Weight=1)})
    bystanders = zone.sets("other"), zone.sets("app-east")
    with name_server(zone.values) as server:
        run = play(tmp_path, server.where, zone.id, way)
        for _ in range(2):
            facts = run.perform("redirect")
            assert {name: each["Weight"] for name, each in zone.sets().items()} == {"app-east": 0, "app-west": 100}
        assert facts["changes"] == 0  # the second time nothing was left to change
        run.perform("back")
        assert {name: each["Weight"] for name, each in zone.sets().items()} == {"app-east": 100, "app-west": 0}
    assert (zone.sets("other"), zone.sets("app-east")) == bystanders
    assert zone.sets()["app-east"]["TTL"] == 1  # carried over: an UPSERT replaces the whole set


def test_the_way_home_is_kept_from_before_the_first_edit_and_is_a_batch_that_works(tmp_path: Path, zone: Zone) -> None:
    weighted(zone, east=80, west=20)
    before = zone.sets()
    with name_server(zone.values) as server:
        run = play(tmp_path, server.where, zone.id, "record-edit")
        first, again = run.perform("redirect"), run.perform("redirect")
    assert first["rollback"] == again["rollback"]  # also when a later attempt finds the zone changed already
    assert zone.sets() != before
    zone.client.change_resource_record_sets(HostedZoneId=zone.id, ChangeBatch=first["rollback"])
    assert zone.sets() == before
    (kept,) = (tmp_path / "zones").iterdir()
    assert json.loads(kept.read_text()) == first["rollback"]


def test_an_edit_of_failover_records_answers_the_site_whatever_a_health_check_chooses(
    tmp_path: Path, zone: Zone
) -> None:
    failover(zone)
    with name_server(zone.values) as server:
        run = play(tmp_path, server.where, zone.id, "record-edit", policy="failover")
        run.perform("redirect")
        assert {each["ResourceRecords"][0]["Value"] for each in zone.sets().values()} == {WEST}
        assert {each["Failover"] for each in zone.sets().values()} == {"PRIMARY", "SECONDARY"}
        run.perform("back")
        values = {name: each["ResourceRecords"][0]["Value"] for name, each in zone.sets().items()}
        assert values == {"app-east": EAST, "app-west": WEST}


def test_a_record_that_the_catalog_does_not_know_stops_the_edit_before_anything_changes(
    tmp_path: Path, zone: Zone
) -> None:
    weighted(zone)
    zone.put(record("app", "south", "192.0.2.30", Weight=5))
    before = zone.sets()
    with name_server(zone.values) as server:
        run = play(tmp_path, server.where, zone.id, "record-edit")
        with pytest.raises(BadInput, match=r"app-south of app\.lab\.test is not in the catalog"):
            run.perform("redirect")
    assert zone.sets() == before


@pytest.mark.parametrize("way", ["weights", "record-edit"])
def test_a_name_or_a_site_that_is_not_in_the_zone_is_refused(tmp_path: Path, zone: Zone, way: str) -> None:
    with name_server(lambda _name: [EAST]) as server:
        run = play(tmp_path, server.where, zone.id, way)
        with pytest.raises(BadInput, match=r"has no record app\.lab\.test of type A"):
            run.perform("redirect")
        zone.put(record("app", "east", EAST, Weight=100))
        with pytest.raises(BadInput, match="no record for west in the zone"):
            run.perform("redirect")
        assert list(zone.sets()) == ["app-east"]


def test_a_gradual_shift_goes_in_steps_and_holds_each_for_a_ttl(tmp_path: Path, zone: Zone) -> None:
    weighted(zone)
    seen: list[tuple[int, float]] = []

    def watching(_site: str) -> dict[str, Any]:
        seen.append((zone.sets()["app-west"]["Weight"], time.monotonic()))
        return {"serves": "passed"}

    with name_server(zone.values) as server:
        run = play(tmp_path, server.where, zone.id, "weights", shift=[50], mode=Mode.GRACEFUL, probes=watching)
        facts = run.perform("redirect")
    assert [each["percent"] for each in facts["shares"]] == [50, 100]  # type: ignore[call-overload,index,union-attr]
    half = [at for weight, at in seen if weight == 50]
    assert seen[0][0] == 0
    assert max(half) - min(half) > 0.8


def test_a_site_that_fails_under_its_share_gets_none(tmp_path: Path, zone: Zone) -> None:
    weighted(zone, east=90, west=10)
    before = zone.sets()

    def failing_at_half(_site: str) -> dict[str, Any]:
        return {"serves": "failed" if zone.sets()["app-west"]["Weight"] == 50 else "passed"}

    with name_server(zone.values) as server:
        run = play(
            tmp_path, server.where, zone.id, "weights", shift=[50, 75], mode=Mode.GRACEFUL, probes=failing_at_half
        )
        with pytest.raises(Refused, match="rule 3"):
            run.perform("redirect")
    assert zone.sets() == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_lease_that_is_lost_under_a_share_moves_nothing_more_and_nothing_back(
    tmp_path: Path, zone: Zone, fails: bool
) -> None:
    """Who drives the service now may have moved the name elsewhere meanwhile."""
    weighted(zone)

    def at_half(_site: str) -> dict[str, Any]:
        return {"serves": "failed" if fails and zone.sets()["app-west"]["Weight"] == 50 else "passed"}

    def may_act() -> None:
        if zone.sets()["app-west"]["Weight"]:
            raise Refused("the lease is lost", hint="act again")

    with name_server(zone.values) as server:
        run = play(
            tmp_path, server.where, zone.id, "weights", shift=[50], mode=Mode.GRACEFUL, probes=at_half, may_act=may_act
        )
        with pytest.raises(Refused, match="the lease is lost"):
            run.perform("redirect")
    assert (zone.sets()["app-east"]["Weight"], zone.sets()["app-west"]["Weight"]) == (50, 50)


def test_on_the_day_nothing_is_gradual(tmp_path: Path, zone: Zone) -> None:
    weighted(zone)
    with name_server(zone.values) as server:
        facts = play(tmp_path, server.where, zone.id, "weights", shift=[10, 50]).perform("redirect")
    assert [each["percent"] for each in facts["shares"]] == [100]  # type: ignore[call-overload,index,union-attr]


def test_a_name_that_still_answers_the_old_site_now_and_then_has_not_moved(tmp_path: Path, zone: Zone) -> None:
    """A weight that is left shows by chance: eight answers in a row are wanted."""
    weighted(zone)
    answers = 0

    def mostly(_name: str) -> list[str]:
        nonlocal answers
        answers += 1
        return [EAST] if answers % 6 == 0 else [WEST]

    with name_server(mostly) as server:
        run = play(tmp_path, server.where, zone.id, "record-edit")
        run.steps = (step("redirect", by="record-edit", patience_seconds=1.5),)
        with pytest.raises(Failed, match="don't answer west"):
            run.perform("redirect")


# A control plane that is not as it should be, over HTTP.


class Plane:
    """Route53's answers in its own words. `changing` gives a status and an error's name in the place of an answer."""

    def __init__(self) -> None:
        self.weights = {"app-east": 100, "app-west": 0}
        self.pending = 0
        self.changing: Callable[[], tuple[int, str] | None] = lambda: None
        self.page = 100
        self.calls: list[str] = []

    def __call__(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path.startswith("/2013-04-01/change/"):
            self.calls.append("get")
            self.pending -= 1
            return 200, self._change("GetChangeResponse", "PENDING" if self.pending >= 0 else "INSYNC")
        if method == "GET":
            self.calls.append("list")
            return 200, self._listed(path)
        self.calls.append("change")
        said = self.changing()
        if said is not None:
            error = f"<Error><Code>{said[1]}</Code><Message>no</Message></Error>"
            return said[0], f"<ErrorResponse xmlns='{XMLNS}'>{error}</ErrorResponse>".encode()
        self.weights = {"app-east": 0, "app-west": 100}
        return 200, self._change("ChangeResourceRecordSetsResponse", "PENDING")

    def _change(self, name: str, status: str) -> bytes:
        info = f"<Id>/change/C1</Id><Status>{status}</Status><SubmittedAt>2026-11-24T00:00:00Z</SubmittedAt>"
        return f"<{name} xmlns='{XMLNS}'><ChangeInfo>{info}</ChangeInfo></{name}>".encode()

    def _listed(self, path: str) -> bytes:
        names = sorted(self.weights)
        if "identifier=" in path:
            wanted = path.partition("identifier=")[2].partition("&")[0]
            names = [each for each in names if each >= wanted]
        here, more = names[: self.page], names[self.page :]
        sets = "".join(
            f"<ResourceRecordSet><Name>app.lab.test.</Name><Type>A</Type><SetIdentifier>{name}</SetIdentifier>"
            f"<Weight>{self.weights[name]}</Weight><TTL>1</TTL><ResourceRecords><ResourceRecord>"
            f"<Value>{EAST if name == 'app-east' else WEST}</Value></ResourceRecord></ResourceRecords>"
            "</ResourceRecordSet>"
            for name in here
        )
        next_one = (
            f"<NextRecordName>app.lab.test.</NextRecordName><NextRecordType>A</NextRecordType>"
            f"<NextRecordIdentifier>{more[0]}</NextRecordIdentifier>"
            if more
            else ""
        )
        return (
            f"<ListResourceRecordSetsResponse xmlns='{XMLNS}'><ResourceRecordSets>{sets}</ResourceRecordSets>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{next_one}<MaxItems>1</MaxItems>"
            "</ListResourceRecordSetsResponse>"
        ).encode()

    def values(self, _name: str) -> list[str]:
        return [WEST] if self.weights["app-west"] else [EAST]


@pytest.fixture
def credentials(tmp_path: Path) -> str:
    told = tmp_path / "aws.json"
    told.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "anything"}))
    return f"file:{told}"


@pytest.fixture
def moved(tmp_path: Path, credentials: str) -> Iterator[tuple[Plane, Play]]:
    plane = Plane()
    with name_server(plane.values) as server, site(plane) as at:
        route53 = {"endpoint_url": at.url, "credentials": credentials}
        yield plane, play(tmp_path, server.where, "Z0EXAMPLE", "record-edit", route53=route53)


def test_the_change_is_waited_for_until_it_is_in_sync(moved: tuple[Plane, Play]) -> None:
    plane, run = moved
    plane.pending = 3
    facts = run.perform("redirect")
    assert plane.calls == ["list", "change", "get", "get", "get", "get"]
    assert 0 < float(str(facts["insync_seconds"])) < 20
    assert facts["change"] == "/change/C1"


def test_a_group_that_is_cut_by_the_end_of_a_page_is_read_whole(moved: tuple[Plane, Play]) -> None:
    plane, run = moved
    plane.page = 1
    assert run.perform("redirect")["changes"] == 2
    assert plane.calls[:2] == ["list", "list"]


@pytest.mark.parametrize("busy", [(400, "PriorRequestNotComplete"), (400, "Throttling")])
def test_a_zone_that_is_busy_is_asked_again(moved: tuple[Plane, Play], busy: tuple[int, str]) -> None:
    plane, run = moved
    said = iter([busy, busy])
    plane.changing = lambda: next(said, None)
    run.perform("redirect")
    assert plane.calls.count("change") == 3


@pytest.mark.parametrize(
    ("status", "name", "kind", "fact"),
    [
        (400, "InvalidChangeBatch", Refused, "Route53 takes no such change"),  # also a record protection
        (404, "NoSuchHostedZone", BadInput, "Route53 doesn't know it"),
        (403, "AccessDenied", Refused, "refuses these credentials"),
        (500, "InternalFailure", Failed, "control plane does not answer as it should"),
    ],
)
def test_a_refusal_of_route53_is_told_and_asked_for_once(
    moved: tuple[Plane, Play], status: int, name: str, kind: type[Exception], fact: str
) -> None:
    plane, run = moved
    plane.changing = lambda: (status, name)
    with pytest.raises(kind, match=fact):
        run.perform("redirect")
    assert plane.calls.count("change") == 1


def test_a_control_plane_that_hangs_or_is_gone_is_not_waited_for(tmp_path: Path, credentials: str) -> None:
    with name_server(lambda _name: [EAST]) as server, bare(lambda link: link.recv(1) and time.sleep(30)) as hung:
        for url, most_seconds in ((f"http://{hung}", 10), (f"http://127.0.0.1:{closed_port()}", 10)):
            route53 = {"endpoint_url": url, "credentials": credentials}
            run = play(tmp_path, server.where, "Z0EXAMPLE", "weights", route53=route53)
            begin = time.monotonic()
            with pytest.raises(Failed, match="control plane does not answer") as caught:
                run.perform("redirect")
            assert time.monotonic() - begin < most_seconds
            assert "a way under `by` that does not need it" in caught.value.hint


def test_two_runs_at_once_leave_one_of_their_wishes_and_no_mixture(tmp_path: Path, zone: Zone) -> None:
    weighted(zone)
    with name_server(lambda _name: [WEST]) as server:
        runs = [play(tmp_path / str(number), server.where, zone.id, "record-edit") for number in range(2)]
        threads = [threading.Thread(target=run.perform, args=("redirect",)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(each["Weight"] for each in zone.sets().values()) == [0, 100]
