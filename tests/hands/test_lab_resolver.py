"""The lab's caching resolver: a TTL is what users wait for, and so is the time for which "no" is kept."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.rcode
import pytest
from lab_names_scene import EAST, WEST, Scene, a, published, scene, until, values

from deployments.lab.dns.files import write
from deployments.lab.dns.zone import RecordSet


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        made.publish(published(a("app", EAST), a("slow", EAST, ttl=30)))
        yield made


def test_an_old_answer_lives_exactly_as_long_as_its_ttl(world: Scene):
    begun = time.monotonic()
    assert values(world.resolve("app")) == [EAST]
    world.publish(published(a("app", WEST), serial=2))
    assert values(world.ask("app")) == [WEST], "the authoritative server has it at once"
    assert values(world.resolve("app")) == [EAST], "the resolver keeps what it was told"
    until(lambda: values(world.resolve("app")) == [WEST], "the end of the TTL")
    assert 0.9 < time.monotonic() - begun < 6


def test_no_is_kept_too_and_ends_as_the_soa_says(world: Scene):
    assert world.resolve("late").rcode() == dns.rcode.NXDOMAIN
    world.publish(published(a("late", EAST), serial=2))
    assert values(world.ask("late")) == [EAST]
    assert world.resolve("late").rcode() == dns.rcode.NXDOMAIN, "a name must exist before it is asked for"
    until(lambda: values(world.resolve("late")) == [EAST], "the end of the negative TTL")


def test_what_is_left_of_a_ttl_is_told(world: Scene):
    first = world.resolve("slow")
    assert first.answer[0].ttl == 30
    assert first.flags & dns.flags.RA
    until(lambda: world.resolve("slow").answer[0].ttl < 30, "some ageing")


def test_a_chain_of_aliases_is_resolved_to_its_end(world: Scene):
    world.publish(
        published(
            RecordSet(name="one.lab.test.", type="CNAME", ttl=1, values=("two.lab.test.",)),
            RecordSet(name="two.lab.test.", type="CNAME", ttl=1, values=("app.lab.test.",)),
            a("app", EAST),
            serial=2,
        )
    )
    assert values(world.resolve("one")) == ["two.lab.test.", "app.lab.test.", EAST]


def test_it_gives_what_it_knows_while_the_name_server_is_silent_and_then_says_that_it_cannot(world: Scene):
    assert values(world.resolve("slow")) == [EAST]
    write(world.folder / "weather.json", {"mode": "blackhole"})
    assert values(world.resolve("slow")) == [EAST]
    assert world.resolve("app").rcode() == dns.rcode.SERVFAIL
    write(world.folder / "weather.json", {"mode": "pass"})
    assert values(world.resolve("app")) == [EAST]


def test_nonsense_does_not_end_it(world: Scene):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.connect((world.resolver.udp.getsockname()[0], world.resolver.port))
        for size in range(40):
            plug.send(bytes(range(size)))
    assert values(world.resolve("app")) == [EAST]
