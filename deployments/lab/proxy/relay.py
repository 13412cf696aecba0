"""One door of the proxy: accept, connect to the real server, carry bytes as the weather of each direction allows."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from typing import Literal

from deployments.lab.proxy.weather import FINE, Link, PathWeather, Weather

CHUNK = 256 * 1024
QUEUED_CHUNKS = 32
"""How much a delayed direction holds before the sender is pushed back."""
RESET_NOW = struct.pack("ii", 1, 0)
CONNECT_PATIENCE_SECONDS = 5.0
Way = Literal["forth", "back"]


class Relay:
    """A door with its open connections. Weather may change at any time and strikes connections that are open, too."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.weather = FINE
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def set(self, weather: PathWeather) -> None:
        """Let this weather hold from now on; returns when the door listens (or no longer does) accordingly."""
        self.weather = weather
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if weather.refuses:
            await self._shut()
        elif self._server is None:
            self._server = await asyncio.start_server(
                self._accept, self.link.address, self.link.port, limit=CHUNK, backlog=256
            )
        if weather.refuses or weather.resets:
            await self._drop()

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        await self._shut()
        await self._drop()

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _drop(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(serving)
        try:
            await serving
        except asyncio.CancelledError:
            _hang_up(writer, reset=self.weather.resets)
        except OSError:
            # The real server is not there: the client, already accepted, learns it by a reset.
            _hang_up(writer, reset=True)
        finally:
            self._open.discard(serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.weather.resets:
            _hang_up(writer, reset=True)
            return
        await self._until_open("forth")
        real = await asyncio.wait_for(
            asyncio.open_connection(self.link.to_address, self.link.to_port, limit=CHUNK), CONNECT_PATIENCE_SECONDS
        )
        broken = False
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry("forth", reader, real[1]))
                ways.create_task(self._carry("back", real[0], writer))
        except* _Strike:
            pass  # the hanging up below is all that a strike is
        except* OSError:
            broken = True
        finally:
            reset = broken or "reset" in {self.weather.forth.mode, self.weather.back.mode}
            _hang_up(real[1], reset=reset)
            _hang_up(writer, reset=reset)

    async def _carry(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS)
        async with asyncio.TaskGroup() as halves:
            halves.create_task(self._take(reader, held))
            halves.create_task(self._give(way, held, writer))

    async def _take(self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        chunk = b"?"
        while chunk:
            chunk = await reader.read(CHUNK)
            await held.put((time.monotonic(), chunk))

    async def _give(self, way: Way, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            taken_at, chunk = await held.get()
            await self._until_open(way)
            weather = self._now(way)
            wait_seconds = taken_at + weather.delay_ms / 1000 - time.monotonic()
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)
            if weather.mode in {"cut", "reset"}:
                raise _Strike
            if not chunk:
                with suppress(OSError):
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    async def _until_open(self, way: Way) -> None:
        while self._now(way).mode == "blackhole":
            await self._changed.wait()

    def _now(self, way: Way) -> Weather:
        return self.weather.forth if way == "forth" else self.weather.back


class _Strike(Exception):
    """The weather strikes this connection; not an error of anybody's."""


def _hang_up(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        plug = writer.get_extra_info("socket")
        if plug is not None:
            with suppress(OSError):
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_NOW)
        writer.transport.abort()
    else:
        writer.close()
