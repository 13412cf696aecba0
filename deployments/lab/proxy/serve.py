"""The proxy process: all doors of one lab in one event loop, steered through a unix socket.

Run as `python -m deployments.lab.proxy.serve CONTROL_SOCKET STATE_FILE`. The state file (links and weathers) is read at
the start and rewritten at each change, so that a proxy that was killed comes back with the same weather.
Control: one JSON line in, one out: {"set": {"engine-east:s3": PathWeather, …}}, {"show": true}.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from deployments.lab.proxy.relay import Relay
from deployments.lab.proxy.weather import FINE, Link, PathWeather


class Proxy:
    """All doors, by link name."""

    def __init__(self, state_file: Path) -> None:
        self.state_file = state_file
        state = json.loads(state_file.read_text())
        self.relays = {link.name: Relay(link) for link in map(Link.model_validate, state["links"])}
        self.wanted = {
            name: PathWeather.model_validate(weather)
            for name, weather in state.get("weather", {}).items()
            if name in self.relays
        }

    async def open(self) -> None:
        """Listen on every door, with the remembered weather. Raises OSError when an address is taken."""
        for name, relay in self.relays.items():
            await relay.set(self.wanted.get(name, FINE))

    async def set(self, weathers: dict[str, Any]) -> dict[str, Any]:
        """Change the weather of the named doors, remember it, and say what holds now."""
        unknown = sorted(set(weathers) - set(self.relays))
        if unknown:
            return {"error": f"no such path: {', '.join(unknown)}"}
        for name, weather in weathers.items():
            self.wanted[name] = PathWeather.model_validate(weather)
            await self.relays[name].set(self.wanted[name])
        self._remember()
        return self.show()

    def show(self) -> dict[str, Any]:
        """The weather of every door."""
        return {"weather": {name: relay.weather.model_dump(mode="json") for name, relay in self.relays.items()}}

    def _remember(self) -> None:
        links = [relay.link.model_dump(mode="json") for relay in self.relays.values()]
        weather = {name: each.model_dump(mode="json") for name, each in self.wanted.items() if each != FINE}
        fresh = self.state_file.with_suffix(".new")
        fresh.write_text(json.dumps({"links": links, "weather": weather}))
        fresh.replace(self.state_file)

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            request = json.loads(await asyncio.wait_for(reader.readline(), 10))
            answer = await self.set(request["set"]) if "set" in request else self.show()
        except (ValueError, OSError) as trouble:
            answer = {"error": str(trouble)}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()


async def _main(control: Path, state_file: Path) -> None:
    proxy = Proxy(state_file)
    control.unlink(missing_ok=True)
    await proxy.open()
    os.umask(0o077)
    server = await asyncio.start_unix_server(proxy.control, str(control))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()
    for relay in proxy.relays.values():
        await relay.close()
    control.unlink(missing_ok=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2])))
