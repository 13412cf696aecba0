"""A name has moved when its name servers answer the site: by a marker, by ARC, by itself; never to a failing site."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from memory_store import MemoryStore
from name_scene import EAST, WEST, Play, always, app, catalog, name_server, step
from site_scene import bare, closed_port, plain, site, until
from store_backends import endpoint, make_bucket

from recovery.catalog import S3Endpoint
from recovery.drive import Truth
from recovery.errors import BadInput, Failed, Refused
from recovery.step import Mode
from tasks.home import Home
from tasks.route53.redirect import WAYS, shares
from tasks.s3_store import S3Store, open_store

ACCOUNT = "arn:aws:route53-recovery-control::123456789012:controlpanel/0f1e2d3c4b5a69788796a5b4c3d2e1f0/routingcontrol"
CONTROLS = {"app-east": f"{ACCOUNT}/aa11bb22cc33dd44", "app-west": f"{ACCOUNT}/ee55ff6600771188"}


class Marked:
    """The west's bucket and what a health checker makes of it."""

    def __init__(self, store: MemoryStore | S3Store, bucket: str = "doors", at: S3Endpoint | None = None) -> None:
        self.store, self.bucket, self.at = store, bucket, at or S3Endpoint()

    def values(self, _name: str) -> list[str]:
        return [WEST] if self.store.head("east-is-out") else [EAST]

    def check(self, key: str = "east-is-out", **more: Any) -> dict[str, Any]:
        marker = f"s3://{self.bucket}/{key}"
        return {"id": "h-1", "site": "west", "watches": "http://x/", "inverted": True, "marker": marker, **more}


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Marked:
    store = MemoryStore()
    asked = {("west", "doors"): store}
    monkeypatch.setattr(Home, "store", lambda _home, at, bucket, patience_seconds: asked[at, bucket])
    return Marked(store)


def by_marker(folder: Path, where: str, marked: Marked, **more: Any) -> Play:
    names = {"app": app(where, moved_by="inverted-health-check", check="east-serves")}
    found = catalog(dns=names, health_checks={"east-serves": marked.check()}, s3=marked.at.model_dump())
    return Play(catalog=found, folder=folder, **{"steps": (step("redirect", by=["inverted-health-check"]),), **more})


def back(run: Play) -> Play:
    run.steps = (*run.steps, step("redirect", site="east", id="back", by=["inverted-health-check"]))
    return run


def test_a_marker_moves_a_name_and_its_removal_moves_it_home_any_number_of_times(tmp_path: Path) -> None:
    with ExitStack() as stack:
        at = stack.enter_context(endpoint("moto", tmp_path))
        bucket = make_bucket(at)
        marked = Marked(open_store(at, bucket, region="eu-west-1"), bucket, at)
        there_and_home(tmp_path, marked)


def there_and_home(tmp_path: Path, marked: Marked) -> None:
    with name_server(marked.values) as server:
        run = back(by_marker(tmp_path, server.where, marked))
        assert run.observe("redirect").truth is Truth.ABSENT
        for _ in range(2):
            facts = run.perform("redirect")
            assert (facts["by"], facts["site"]) == ("inverted-health-check", "west")
            assert facts["put"] == [f"s3://{marked.bucket}/east-is-out"]
            assert str(facts["acted_at"]) <= str(facts["at"])
        assert run.observe("redirect").truth is Truth.HOLDS
        found = marked.store.get("east-is-out")
        assert found is not None
        assert json.loads(found[0])["goes_to"] == "west"
        for _ in range(2):
            assert run.perform("back")["removed"] == [f"s3://{marked.bucket}/east-is-out"]
        assert marked.store.head("east-is-out") is None
        assert run.observe("redirect").truth is Truth.ABSENT


def test_a_name_that_is_there_already_is_still_moved_so_that_it_stays(tmp_path: Path, marked: Marked) -> None:
    with name_server(always(WEST)) as server:
        by_marker(tmp_path, server.where, marked).perform("redirect")
    assert marked.store.head("east-is-out") is not None


def test_going_home_while_the_marker_s_site_is_silent_says_what_is_left_there(tmp_path: Path, credentials: str) -> None:
    """The health checkers cannot read it either; once it is back the marker would speak again."""
    dead = S3Endpoint(endpoint_url=f"http://127.0.0.1:{closed_port()}", credentials=credentials)
    marked = Marked(MemoryStore(), at=dead)
    marker = "s3://doors/east-is-out"
    with name_server(always(EAST)) as server:
        run = by_marker(tmp_path, server.where, marked)
        run.steps = (step("redirect", site="east", id="back", by="inverted-health-check", patience_seconds=20),)
        facts = run.perform("back")
        assert (facts["removed"], facts["left"]) == ([], [marker])
        with pytest.raises(Failed, match="writing east-is-out"):
            by_marker(tmp_path, server.where, marked).perform("redirect")


def test_a_marker_that_nobody_heeds_is_a_failure(tmp_path: Path, marked: Marked) -> None:
    with name_server(always(EAST)) as server:
        run = by_marker(
            tmp_path, server.where, marked, steps=(step("redirect", by="inverted-health-check", patience_seconds=0.5),)
        )
        with pytest.raises(Failed, match=f"its name servers don't answer west: {server.where} answers {EAST}"):
            run.perform("redirect")


@pytest.mark.parametrize(
    ("probes", "why"),
    [({"serves": "failed"}, "serves failed"), ({"serves": "unproven"}, "serves unproven"), ({}, "it has no probe")],
)
def test_a_live_name_never_goes_to_a_site_that_is_not_well(
    tmp_path: Path, marked: Marked, probes: dict[str, Any], why: str
) -> None:
    with name_server(marked.values) as server:
        run = by_marker(tmp_path, server.where, marked, probes={"other": "passed", **probes} if probes else {})
        with pytest.raises(Refused, match=rf"rule 3 .*{why}"):
            run.perform("redirect")
        with pytest.raises(Refused, match="rule 3"):  # nor home
            back(run).perform("back")
        assert server.asked == 0
    assert marked.store.head("east-is-out") is None


def test_the_probes_are_asked_again_before_the_next_way(tmp_path: Path, marked: Marked) -> None:
    asked: list[str] = []

    def failing_later(site: str) -> dict[str, Any]:
        asked.append(site)
        return {"serves": "passed" if len(asked) == 1 else "failed"}

    with name_server(always(EAST)) as server:
        steps = (step("redirect", by=["routing-control", "inverted-health-check"]),)
        run = by_marker(tmp_path, server.where, marked, probes=failing_later, steps=steps)
        with pytest.raises(Refused, match="rule 3"):
            run.perform("redirect")
    assert asked == ["west", "west"]
    assert marked.store.head("east-is-out") is None


# Rehearsals.


def rehearsal(folder: Path, where: str, marked: Marked, key: str, **more: Any) -> Play:
    names = {
        "app": app(where, moved_by="inverted-health-check", check="east-serves"),
        "try": app(where, label="try", moved_by="inverted-health-check", check="try-serves", use="rehearsal"),
    }
    checks = {"east-serves": marked.check(), "try-serves": marked.check(key, id="h-2")}
    found = catalog(dns=names, health_checks=checks, s3=marked.at.model_dump())
    return Play(catalog=found, folder=folder, live=False, **{"steps": (step("redirect", "try"),), **more})


def test_a_rehearsal_moves_its_own_name_whatever_the_probes_say(tmp_path: Path, marked: Marked) -> None:
    def values(name: str) -> list[str]:
        return [WEST] if name == "try.lab.test" and marked.store.head("try-out") else [EAST]

    with name_server(values) as server:
        run = rehearsal(tmp_path, server.where, marked, "try-out", probes={"serves": "failed"})
        assert run.perform("redirect")["put"] == [f"s3://{marked.bucket}/try-out"]
    assert marked.store.head("east-is-out") is None


def test_a_rehearsal_touches_no_live_name_and_a_live_run_no_rehearsal_s(tmp_path: Path, marked: Marked) -> None:
    with name_server(marked.values) as server:
        for name, live in (("app", False), ("try", True)):
            run = rehearsal(tmp_path, server.where, marked, "try-out", steps=(step("redirect", name),))
            run.live = live
            with pytest.raises(Refused, match="rule 11"):
                run.perform("redirect")
        assert server.asked == 0
    assert list(marked.store.list("")) == []


def test_a_rehearsal_s_name_that_hangs_on_a_live_one_s_marker_is_refused(tmp_path: Path, marked: Marked) -> None:
    with name_server(marked.values) as server:
        run = rehearsal(tmp_path, server.where, marked, "east-is-out")
        with pytest.raises(Refused, match=r"shares s3://.*/east-is-out with the live name app.lab.test"):
            run.perform("redirect")
    assert marked.store.head("east-is-out") is None


# Health checks.


def by_check(folder: Path, where: str, **more: Any) -> Play:
    checks = {"east-answers": {"id": "h-1", "site": "east", "watches": "http://x/"}}
    found = catalog(dns={"app": app(where, check="east-answers")}, health_checks=checks)
    return Play(catalog=found, folder=folder, **{"steps": (step("redirect"),), **more})


def test_a_health_check_moves_the_name_by_itself_and_is_waited_for(tmp_path: Path) -> None:
    turned = threading.Event()
    with name_server(lambda _name: [WEST] if turned.is_set() else [EAST]) as server:
        threading.Timer(0.3, turned.set).start()
        facts = by_check(tmp_path, server.where).perform("redirect")
    assert facts["by"] == "health-check"
    assert 0.25 < float(str(facts["seconds"])) < 10


def test_one_new_answer_by_chance_is_no_move(tmp_path: Path) -> None:
    answers = iter([WEST, EAST, WEST, EAST, EAST])
    with name_server(lambda _name: [next(answers, WEST)]) as server:
        by_check(tmp_path, server.where).perform("redirect")
        assert server.asked == 7


def test_a_silent_name_server_is_told_and_left_to_converge_but_all_silent_is_unknown(tmp_path: Path) -> None:
    with name_server(always(WEST)) as one, name_server(always(WEST)) as other:
        other.manner = "silent"
        run = by_check(tmp_path, one.where)
        run.catalog = run.catalog.but(dns={"app": run.catalog.dns["app"].but(name_servers=(one.where, other.where))})
        run.steps = (step("redirect", patience_seconds=20),)
        assert run.perform("redirect")["silent_servers"] == [other.where]
        assert run.observe("redirect").truth is Truth.HOLDS
        one.manner = "silent"
        assert run.observe("redirect").truth is Truth.UNKNOWN


def test_the_next_way_is_tried_and_what_failed_before_it_is_on_record(tmp_path: Path, marked: Marked) -> None:
    with name_server(marked.values) as server:
        steps = (step("redirect", by=["routing-control", "inverted-health-check"]),)
        facts = by_marker(tmp_path, server.where, marked, steps=steps).perform("redirect")
    assert facts["by"] == "inverted-health-check"
    assert facts["not_by"] == {"routing-control": "no record of app.lab.test has a routing control"}


def test_when_no_way_works_all_are_told_and_it_is_tried_again_only_if_that_may_help(
    tmp_path: Path, marked: Marked
) -> None:
    with name_server(always(EAST)) as server:
        run = by_marker(tmp_path, server.where, marked)
        run.steps = (step("redirect", by=["routing-control", "inverted-health-check"], patience_seconds=0.6),)
        with pytest.raises(
            Failed, match=r"could be moved in no way.*routing-control: no record.*inverted-health-check"
        ):
            run.perform("redirect")
        run.steps = (step("redirect", by=["routing-control"]),)
        with pytest.raises(BadInput, match="no record of app"):
            run.perform("redirect")


def test_a_name_that_went_there_without_any_way_of_ours_is_moved_and_says_so(tmp_path: Path) -> None:
    with name_server(always(WEST)) as server:
        run = by_check(tmp_path, server.where, steps=(step("redirect", by=["routing-control"]),))
        facts = run.perform("redirect")
    assert facts["by"] == "already"
    assert "routing-control" in facts["not_by"]  # type: ignore[operator]


# ARC.


class Arc:
    """Routing controls behind some endpoints. `says` may answer in their place with a status and an error's name."""

    def __init__(self) -> None:
        self.states = dict.fromkeys(CONTROLS.values(), "Off") | {CONTROLS["app-east"]: "On"}
        self.says: Callable[[], tuple[int, str] | None] = lambda: None
        self.requests: list[list[dict[str, str]]] = []

    def __call__(self, _method: str, path: str, body: bytes) -> tuple[int, bytes]:
        said = self.says()
        if said is not None:
            return said[0], plain({"__type": said[1], "message": f"it says {said[1]}"})
        entries = json.loads(body)["UpdateRoutingControlStateEntries"]
        self.requests.append(entries)
        self.states |= {each["RoutingControlArn"]: each["RoutingControlState"] for each in entries}
        return 200, b"{}"

    def values(self, _name: str) -> list[str]:
        return [EAST] if self.states[CONTROLS["app-east"]] == "On" else [WEST]


@pytest.fixture
def credentials(tmp_path: Path) -> str:
    told = tmp_path / "arc.json"
    told.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "anything"}))
    return f"file:{told}"


def by_arc(folder: Path, where: str, endpoints: list[str], credentials: str, **more: Any) -> Play:
    regions = ("us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2")
    routing = {
        "endpoints": dict(zip(regions, endpoints, strict=False)),
        "controls": CONTROLS,
        "credentials": credentials,
    }
    names = {"app": app(where, moved_by="routing-control", controls=True)}
    steps = (step("redirect", by=["routing-control"]), step("redirect", id="back", site="east", by=["routing-control"]))
    return Play(catalog=catalog(dns=names, routing=routing), folder=folder, steps=steps, **more)


def test_arc_moves_a_name_with_two_of_five_endpoints_down_off_and_on_in_one_request(
    tmp_path: Path, credentials: str
) -> None:
    arc = Arc()
    with name_server(arc.values) as server, site(arc) as up:
        endpoints = [f"http://127.0.0.1:{closed_port()}", up.url, f"http://127.0.0.1:{closed_port()}", up.url, up.url]
        run = by_arc(tmp_path, server.where, endpoints, credentials)
        facts = run.perform("redirect")
        assert facts["endpoint"] in {"us-west-2", "ap-northeast-1", "ap-southeast-2"}
        assert arc.requests == [
            [
                {"RoutingControlArn": CONTROLS["app-east"], "RoutingControlState": "Off"},
                {"RoutingControlArn": CONTROLS["app-west"], "RoutingControlState": "On"},
            ]
        ]
        run.perform("redirect")
        run.perform("back")
        assert arc.states == {CONTROLS["app-east"]: "On", CONTROLS["app-west"]: "Off"}


def test_arc_s_endpoints_are_asked_in_another_order_each_time(
    tmp_path: Path, credentials: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled: list[list[str]] = []
    random = SimpleNamespace(shuffle=lambda order: shuffled.append(list(order)))
    monkeypatch.setattr("tasks.route53.routing.random", random)
    with name_server(always(WEST)) as server, site(Arc()) as up:
        facts = by_arc(tmp_path, server.where, [up.url], credentials).perform("redirect")
    assert (shuffled, facts["endpoint"]) == ([["us-east-1"]], "us-east-1")


@pytest.mark.parametrize(
    ("status", "name", "kind", "fact"),
    [
        (409, "ConflictException", Refused, "a safety rule of ARC refuses the move"),
        (403, "AccessDeniedException", Refused, "ARC refuses these credentials"),
        (400, "ValidationException", BadInput, "ARC takes no such request"),
        (404, "ResourceNotFoundException", BadInput, "ARC takes no such request"),
    ],
)
def test_an_answer_of_arc_that_another_endpoint_would_give_too_is_asked_for_once(
    tmp_path: Path, credentials: str, status: int, name: str, kind: type[Exception], fact: str
) -> None:
    arc = Arc()
    arc.says = lambda: (status, name)
    with name_server(arc.values) as server, site(arc) as up:
        with pytest.raises(kind, match=fact):
            by_arc(tmp_path, server.where, [up.url] * 5, credentials).perform("redirect")
        assert len(up.asked) == 1


def test_an_endpoint_that_has_no_majority_or_throttles_is_passed_over_without_asking_it_again(
    tmp_path: Path, credentials: str
) -> None:
    arc = Arc()
    said = iter(
        [(503, "EndpointTemporarilyUnavailableException"), (429, "ThrottlingException"), (500, "InternalServer")]
    )
    arc.says = lambda: next(said, None)
    with name_server(arc.values) as server, site(arc) as up:
        facts = by_arc(tmp_path, server.where, [up.url] * 5, credentials).perform("redirect")
        assert len(facts["silent"]) == 3  # type: ignore[arg-type]
        assert len(up.asked) == 4


def test_all_endpoints_gone_is_a_failure_with_a_way_out_and_a_hanging_one_costs_two_seconds(
    tmp_path: Path, credentials: str
) -> None:
    with name_server(always(EAST)) as server, bare(lambda link: link.recv(1) and time.sleep(30)) as hung:
        gone = [f"http://127.0.0.1:{closed_port()}" for _ in range(4)]
        begin = time.monotonic()
        with pytest.raises(Failed, match="none of ARC's 5 endpoints") as caught:
            by_arc(tmp_path, server.where, [*gone, f"http://{hung}"], credentials).perform("redirect")
        assert 1.9 < time.monotonic() - begin < 10
    assert "another way under `by`" in caught.value.hint
    assert "anything" not in str(caught.value)


def test_a_control_that_is_on_but_not_seen_at_the_name_servers_is_a_failure(tmp_path: Path, credentials: str) -> None:
    with name_server(always(EAST)) as server, site(Arc()) as up:
        run = by_arc(tmp_path, server.where, [up.url], credentials)
        run.steps = (step("redirect", by=["routing-control"], patience_seconds=0.5),)
        with pytest.raises(Failed, match="was moved by routing-control, but"):
            run.perform("redirect")


# Bad data, and what each way may call.


@pytest.mark.parametrize("marker", ["bucket/key", "s3://bucket", "s3:///key", "https://bucket/key"])
def test_a_marker_of_another_form_is_refused(tmp_path: Path, marked: Marked, marker: str) -> None:
    with name_server(always(EAST)) as server:
        run = by_marker(tmp_path, server.where, marked)
        check = run.catalog.health_checks["east-serves"].but(marker=marker)
        run.catalog = run.catalog.but(health_checks={"east-serves": check})
        with pytest.raises(BadInput, match="is no place of a marker"):
            run.perform("redirect")


def test_a_site_without_a_record_is_refused(tmp_path: Path) -> None:
    with name_server(always(EAST)) as server:
        run = by_check(tmp_path, server.where, steps=(step("redirect", site="south"),))
        with pytest.raises(BadInput, match="no record for south"):
            run.perform("redirect")


@pytest.mark.parametrize("given", [[0], [50, 40], [101], ["half"], [True], -1, "x", [10, 10]])
def test_a_shift_that_does_not_rise_to_a_hundred_is_refused(given: Any) -> None:
    with pytest.raises(BadInput):
        shares(given)


def test_a_shift_ends_at_a_hundred_whether_it_is_written_or_not() -> None:
    assert [shares(None), shares(50), shares([10, 50]), shares([10, 100])] == [
        (100,),
        (50, 100),
        (10, 50, 100),
        (10, 100),
    ]


def test_every_way_that_a_runbook_may_name_is_there() -> None:
    from recovery.verb import MOVES

    assert set(WAYS) == set(MOVES)


@pytest.mark.parametrize("way", ["health-check", "inverted-health-check", "routing-control"])
def test_the_ways_of_a_failover_never_call_route53_s_control_plane(
    tmp_path: Path, marked: Marked, credentials: str, way: str
) -> None:
    """Rule 5: what a way calls is what verb.MOVES declares."""
    with name_server(always(WEST)) as server, site(Arc()) as arc, site() as plane:
        names = {"app": app(server.where, moved_by=way, check="east-serves", controls=True)}
        check = (
            marked.check() if way == "inverted-health-check" else {"id": "h", "site": "east", "watches": "http://x/"}
        )
        found = catalog(
            dns=names,
            health_checks={"east-serves": check},
            s3=marked.at.model_dump(),
            routing={"endpoints": {"us-east-1": arc.url}, "controls": CONTROLS, "credentials": credentials},
            route53={"endpoint_url": plane.url, "credentials": credentials},
        )
        for mode in Mode:
            run = Play(catalog=found, folder=tmp_path, steps=(step("redirect", by=[way]),), mode=mode)
            assert run.perform("redirect")["by"] == way
        assert plane.asked == []
        assert bool(arc.asked) is (way == "routing-control")


def test_the_host_of_a_site_s_url_is_not_needed_for_anything(tmp_path: Path) -> None:
    """The old site may be gone: moving by the health check asks the name servers only."""
    turned = threading.Event()
    with name_server(lambda _name: [WEST] if turned.is_set() else [EAST]) as server:
        run = by_check(tmp_path, server.where)
        assert urlsplit(run.catalog.health_checks["east-answers"].watches).hostname == "x"
        turned.set()
        run.perform("redirect")
        assert until(lambda: run.observe("redirect").truth is Truth.HOLDS)
