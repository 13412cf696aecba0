"""A path under every weather: what a client of it sees, by real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from deployments.lab.proxy.relay import Relay
from deployments.lab.proxy.weather import FINE, Link, PathWeather, Weather, both

Story = Callable[[Relay, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_SECONDS = 5.0
A_MOMENT_SECONDS = 0.15
"""How long nothing must arrive before we believe that nothing arrives."""


@asynccontextmanager
async def echoing(address: str) -> AsyncIterator[Relay]:
    """A relay before a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, address, 0)
    real = server.sockets[0].getsockname()[1]
    free = await asyncio.start_server(echo, address, 0)
    port = free.sockets[0].getsockname()[1]
    free.close()
    relay = Relay(Link(path="engine-east", role="s3", address=address, port=port, to_address=address, to_port=real))
    await relay.set(FINE)
    try:
        yield relay
    finally:
        await relay.close()
        server.close()


def under(story: Story) -> None:
    async def tell() -> None:
        async with echoing("127.63.1.1") as relay:
            reader, writer = await dial(relay)
            await story(relay, reader, writer)
            writer.close()

    asyncio.run(asyncio.wait_for(tell(), 20))


async def dial(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(relay.link.address, relay.link.port)


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes = b"hello") -> bytes:
    writer.write(text)
    return await asyncio.wait_for(reader.readexactly(len(text)), PATIENCE_SECONDS)


async def silent(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), A_MOMENT_SECONDS)
    except TimeoutError:
        return True
    return False


def test_fine_weather_carries_bytes_both_ways_whole():
    async def story(relay, reader, writer):
        big = bytes(range(256)) * 20_000
        assert await say(reader, writer, big) == big

    under(story)


def test_a_half_closed_connection_still_gets_its_answer():
    async def story(relay, reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b"last words"

    under(story)


def test_delay_is_added_in_each_direction():
    async def story(relay, reader, writer):
        await relay.set(both("pass", delay_ms=80))
        begun = time.monotonic()
        await say(reader, writer)
        assert 0.16 <= time.monotonic() - begun < 2

    under(story)


def test_cut_closes_what_is_open_and_refuses_what_comes_until_healed():
    async def story(relay, reader, writer):
        await say(reader, writer)
        await relay.set(both("cut"))
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
        with pytest.raises(ConnectionRefusedError):
            await dial(relay)
        await relay.set(FINE)
        assert await say(*await dial(relay)) == b"hello"

    under(story)


def test_reset_resets_what_is_open_and_what_comes():
    async def story(relay, reader, writer):
        await say(reader, writer)
        await relay.set(both("reset"))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        other, _ = await dial(relay)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(other.read(), PATIENCE_SECONDS)

    under(story)


def test_a_black_hole_accepts_and_hangs_and_what_was_sent_arrives_after_healing():
    async def story(relay, reader, writer):
        await say(reader, writer)
        await relay.set(both("blackhole"))
        writer.write(b"lost?")
        late = await dial(relay)
        late[1].write(b"late?")
        assert await silent(reader)
        assert await silent(late[0])
        await relay.set(FINE)
        assert await asyncio.wait_for(reader.readexactly(5), PATIENCE_SECONDS) == b"lost?"
        assert await asyncio.wait_for(late[0].readexactly(5), PATIENCE_SECONDS) == b"late?"

    under(story)


def test_half_open_lets_requests_arrive_and_no_answer_return():
    heard: list[bytes] = []

    async def story(relay, reader, writer):
        await relay.set(PathWeather(back=Weather(mode="blackhole")))
        writer.write(b"one way")
        assert await silent(reader)
        await relay.set(FINE)
        heard.append(await asyncio.wait_for(reader.readexactly(7), PATIENCE_SECONDS))

    under(story)
    assert heard == [b"one way"]


def test_a_reset_of_one_direction_strikes_when_a_byte_goes_that_way():
    async def story(relay, reader, writer):
        await say(reader, writer)
        await relay.set(PathWeather(back=Weather(mode="reset")))
        assert await silent(reader)
        writer.write(b"now")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)

    under(story)


def test_a_server_that_is_gone_resets_and_one_that_comes_back_is_reached():
    async def story(relay, reader, writer):
        gone = Relay(relay.link.model_copy(update={"port": relay.link.port, "to_port": 1}))
        await relay.close()
        await gone.set(FINE)
        other, _ = await dial(gone)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(other.read(), PATIENCE_SECONDS)
        await gone.close()
        await relay.set(FINE)
        assert await say(*await dial(relay)) == b"hello"

    under(story)
