"""The sample platform as a part: start, test, stop. Inside its site it reaches database and objects directly."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from deployments.lab import layout
from deployments.lab.environment import for_python, module
from deployments.lab.part import Part, Unwell
from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.errors import Failed


def name(site: str) -> str:
    """The process name: `east.app`."""
    return f"{site}.app"


def start(world: World, site: str) -> Part:
    """Start the service of a site; it needn't be able to serve (the west's cannot while its database is a standby)."""
    address, port, processes = layout.hidden(world.block, site), layout.PORTS["app"], world.processes
    config = world.folder(site) / "app.json"
    if not processes.alive(name(site)):
        config.write_text(
            json.dumps(
                {
                    "site": site,
                    "address": address,
                    "port": port,
                    "dsns": [
                        world.dsn(member, source=site, user="platform")
                        for member in world.members
                        if layout.site_of(member) == site
                    ],
                    "s3": world.s3(site, source=site).model_dump(),
                    "bucket": "videos",
                    "folder": str(world.folder(site, "app")),
                    "released": site == "east",
                }
            )
        )
        processes.spawn(name(site), module("deployments.lab.app.serve", config), env=for_python())
    wait_until(
        lambda: _alive(world, site) and ask(f"http://{address}:{port}", "GET", "/health")[0] in {200, 503},
        what=f"the sample platform of {site}",
        patience_seconds=20,
        hint=f"read {processes.log(name(site))}",
    )
    return Part(name=name(site), pid=processes.pid(name(site)) or 0, address=address, ports={"app": port})


def test(world: World, site: str) -> None:
    """Use it through its door: a video there and back, the newest row, its side effects. Raises Unwell."""
    url = world.url("app", site)
    code, _ = ask(url, "PUT", "/videos/self-test", b"moving pictures")
    got, body = ask(url, "GET", "/videos/self-test")
    if (code, got, body) != (201, 200, b"moving pictures"):
        raise Unwell(f"a video at {site} came back as {code}, {got}")
    code, said = ask(url, "GET", "/rows/last")
    if code != 200:
        raise Unwell(f"the rows at {site} can't be read: {code} {said!r}")
    code, said = ask(url, "GET", "/side-effects")
    if code != 200 or json.loads(said)["waiting"] is None:
        raise Unwell(f"the side effects at {site} can't be told: {code} {said!r}")


def stop(world: World, site: str) -> None:
    """End it."""
    world.processes.end(name(site), patience_seconds=5)


def ask(url: str, method: str, path: str, body: bytes | None = None, *, patience_seconds: float = 5) -> tuple[int, Any]:
    """One request; gives status and body, or 0 and the trouble's name when there was no answer."""
    request = urllib.request.Request(url + path, data=body, method=method)  # noqa: S310 -- http to our own address
    try:
        with urllib.request.urlopen(request, timeout=patience_seconds) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()
    except (urllib.error.URLError, http.client.HTTPException, OSError) as trouble:
        return 0, type(trouble).__name__


def _alive(world: World, site: str) -> bool:
    if not world.processes.alive(name(site)):
        raise Failed(f"the sample platform of {site} ended", hint=f"read {world.processes.log(name(site))}")
    return True
