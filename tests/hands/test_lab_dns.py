"""The lab's name server as its clients see it: answers over UDP and TCP, health that moves names, weather, nonsense."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import pytest
from lab_names_scene import ADDRESS, EAST, WEST, Endpoint, Scene, a, pair, published, scene, until, values

from deployments.lab.dns.files import write
from deployments.lab.dns.zone import Check, RecordSet

CNAME = RecordSet(name="www.lab.test.", type="CNAME", ttl=1, values=("app.lab.test.",))
OUT = RecordSet(name="out.lab.test.", type="CNAME", ttl=1, values=("elsewhere.example.",))
LONG = a("long", *(f"192.0.2.{number}" for number in range(100)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        made.publish(published(*pair("app", None), CNAME, OUT, LONG, a("*.wild", "192.0.2.9"), a("deep.down", EAST)))
        yield made


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


def test_an_answer_is_authoritative_and_keeps_the_spelling_of_the_question(world: Scene):
    for tcp in (False, True):
        reply = world.ask("aPP", tcp=tcp)
        assert (values(reply), reply.rcode()) == ([EAST], dns.rcode.NOERROR)
        assert reply.flags & dns.flags.AA
        assert reply.question[0].name.to_text() == reply.answer[0].name.to_text() == "aPP.lab.test."


def test_aliases_are_followed_inside_the_zone_and_left_alone_outside(world: Scene):
    assert values(world.ask("www")) == ["app.lab.test.", EAST]
    assert values(world.ask("out")) == ["elsewhere.example."]
    assert values(world.ask("www", "CNAME")) == ["app.lab.test."]


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [("nobody", "A", "NXDOMAIN"), ("app", "AAAA", "NOERROR"), ("down", "A", "NOERROR"), ("www", "TXT", "NOERROR")],
)
def test_no_is_said_with_the_soa_and_the_time_for_which_it_may_be_kept(world: Scene, name: str, kind: str, rcode: str):
    reply = world.ask(name, kind)
    assert reply.rcode() == dns.rcode.from_text(rcode)
    assert [(each.name.to_text(), each.ttl) for each in reply.authority] == [("lab.test.", 1)]


def test_a_wildcard_answers_below_it_and_other_zones_are_refused(world: Scene):
    assert values(world.ask("any.thing.wild")) == ["192.0.2.9"]
    assert world.ask("example.com.").rcode() == dns.rcode.REFUSED
    assert world.ask("lab.test.", "AXFR", tcp=True).rcode() == dns.rcode.REFUSED
    assert values(world.ask("lab.test.", "NS")) == ["ns.lab.test."]


def test_an_answer_that_is_too_long_for_udp_says_so_and_comes_over_tcp(world: Scene):
    short = world.ask("long")
    assert short.flags & dns.flags.TC
    assert short.answer == []
    assert len(values(world.ask("long", tcp=True))) == 100


def test_a_stock_resolver_library_gets_along_with_it(world: Scene):
    stock = dns.resolver.Resolver(configure=False)
    stock.nameservers, stock.port, stock.lifetime = [ADDRESS], world.server.port, 3
    assert [each.to_text() for each in stock.resolve("www.lab.test", "A")] == [EAST]
    with pytest.raises(dns.resolver.NXDOMAIN):
        stock.resolve("nobody.lab.test", "A")


def test_an_object_in_the_standbys_bucket_moves_the_name_and_its_removal_moves_it_back(
    world: Scene, endpoint: Endpoint
):
    check = endpoint.check("east-serves", "/doors/east-is-out", inverted=True)
    world.publish(published(*pair("app", "east-serves"), checks=(check,), serial=2))
    until(lambda: endpoint.asked >= 5, "some probes")
    assert values(world.ask("app")) == [EAST]
    before = endpoint.asked
    endpoint.objects.add("/doors/east-is-out")
    until(lambda: values(world.ask("app")) == [WEST], "the standby's take-over")
    assert endpoint.asked - before >= check.failures, "one result must not move a name"
    endpoint.objects.clear()
    until(lambda: values(world.ask("app")) == [EAST], "the return")


def test_with_every_check_failing_the_primary_is_answered_regardless(world: Scene, endpoint: Endpoint):
    checks = (endpoint.check("east", "/e"), endpoint.check("west", "/w"))
    world.publish(published(*pair("app", "east", "west"), checks=checks, serial=2))
    until(lambda: world.neutral.healthy == {"east": False, "west": False}, "both verdicts")
    assert values(world.ask("app")) == [EAST]
    endpoint.objects.add("/w")
    until(lambda: values(world.ask("app")) == [WEST], "the healthy secondary")


def test_tcp_and_string_checks_probe_for_real(world: Scene, endpoint: Endpoint):
    endpoint.objects.add("/x")
    closed = endpoint.check("closed", "/").but(type="TCP", port=1)
    wrong = endpoint.check("wrong", "/x", search="goodbye").but(type="HTTP_STR_MATCH")
    right = endpoint.check("right", "/x", search="hello").but(type="HTTP_STR_MATCH")
    world.publish(published(checks=(closed, wrong, right, endpoint.check("open", "/").but(type="TCP")), serial=2))
    wanted = {"closed": False, "wrong": False, "right": True, "open": True}
    until(lambda: world.neutral.healthy == wanted, "the verdicts")


def test_a_routing_control_that_a_majority_of_replicas_has_off_moves_the_name(tmp_path: Path):
    files = tuple(tmp_path / f"arc-{number}.json" for number in range(5))
    state = {"E": True, "W": False}

    def accept(upto: int, ballot: int, state: dict[str, bool]) -> None:
        for path in files[:upto]:
            write(path, {"promised": [ballot, 1], "accepted": [ballot, 1], "state": state})

    accept(5, 1, state)
    checks = tuple(Check(id=arn, reference=arn, type="RECOVERY_CONTROL", control=arn) for arn in state)
    with scene(tmp_path, arc=files) as world:
        world.publish(published(*pair("app", "E", "W"), checks=checks))
        until(lambda: world.neutral.controls == state, "the controls")
        assert values(world.ask("app")) == [EAST]
        accept(2, 2, {"E": False, "W": True})
        time.sleep(0.1)  # two of five are no majority: nothing may move, however long one looks
        assert values(world.ask("app")) == [EAST]
        accept(3, 2, {"E": False, "W": True})
        until(lambda: values(world.ask("app")) == [WEST], "the switch")


def test_a_restart_remembers_the_verdicts_and_the_zone_when_the_emulator_is_gone(tmp_path: Path, endpoint: Endpoint):
    endpoint.objects.add("/m")
    check = endpoint.check("c", "/m", inverted=True)
    with scene(tmp_path) as world:
        world.publish(published(*pair("app", "c"), checks=(check,)))
        until(lambda: values(world.ask("app")) == [WEST], "the take-over")
    with scene(tmp_path, scale=1000) as again:  # so slow that no probe decides anything
        until(lambda: again.neutral.published.serial == 1, "the zone")
        assert values(again.ask("app")) == [WEST]


def test_weights_share_the_answers_out(world: Scene):
    heavy, light = a("w", EAST, set_identifier="e", weight=90), a("w", WEST, set_identifier="w", weight=10)
    world.publish(published(heavy, light, serial=2))
    random.seed(7)
    wire = dns.message.make_query("w.lab.test.", "A").to_wire()
    seen = Counter(world.neutral.respond(wire, False)[-4:] for _ in range(4000))
    assert set(seen) == {socket.inet_aton(EAST), socket.inet_aton(WEST)}
    assert 0.87 < seen[socket.inet_aton(EAST)] / 4000 < 0.93


def test_a_slow_server_is_slow_and_a_silent_one_says_nothing(world: Scene):
    write(world.folder / "weather.json", {"mode": "pass", "delay_ms": 150})
    begun = time.monotonic()
    assert values(world.ask("app")) == [EAST]
    assert 0.14 < time.monotonic() - begun < 2
    write(world.folder / "weather.json", {"mode": "blackhole"})
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(dns.message.make_query("app.lab.test.", "A"), ADDRESS, port=world.server.port, timeout=0.2)
    (world.folder / "weather.json").write_text('{"mode": "pass"}')
    assert values(world.ask("app")) == [EAST]


def test_nonsense_gets_formerr_or_silence_and_the_server_lives_on(world: Scene):
    chance = random.Random(3)
    good = dns.message.make_query("app.lab.test.", "A", use_edns=0).to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.connect((ADDRESS, world.server.port))
        for _ in range(300):
            bad = bytearray(good[: chance.randrange(len(good) + 1)] + chance.randbytes(chance.randrange(8)))
            for _ in range(chance.randrange(4)):
                if bad:
                    bad[chance.randrange(len(bad))] = chance.randrange(256)
            plug.send(bytes(bad))
    with socket.create_connection((ADDRESS, world.server.port), timeout=3) as stream:
        stream.sendall(struct.pack("!H", 200) + b"only a few")
    assert values(world.ask("app")) == values(world.ask("app", tcp=True)) == [EAST]
    cut = good[:14]
    assert world.server.safe(cut, stream=False)[3] & 0x0F == dns.rcode.FORMERR
    assert world.server.safe(good[:5], stream=False) is None


def test_a_failure_that_nobody_foresaw_is_servfail_and_not_the_end(world: Scene, capfd: pytest.CaptureFixture[str]):
    good, world.server.respond = world.server.respond, lambda *_: 1 / 0
    assert world.ask("app").rcode() == dns.rcode.SERVFAIL
    world.server.respond = good
    assert values(world.ask("app")) == [EAST]
    assert "ZeroDivisionError" in capfd.readouterr().err
