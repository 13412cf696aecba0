"""The lab as a value, and its beginning and end: `up`, `World.load`, `down`.

The value holds no secret and is written to HOME/lab/world.json before anything starts, so that a lab whose starter was
killed at any point is found and repaired by the next `up`.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from deployments.lab import layout
from deployments.lab.layout import PORTS, REGIONS, SITES
from deployments.lab.process import Processes
from recovery.catalog import S3Endpoint
from recovery.errors import BadInput
from recovery.value import Value

SOCKET_PATH_MAX = 80
"""Unix socket paths end at 107 bytes; names inside the runtime folder are short."""
PARTS_THAT_MAY_MISS = frozenset({"aws", "app", "agent"})
"""Without the emulator there are no names: nothing would publish a zone. Without the platform, no probe of it."""
Place = Literal["east", "west", "witness"]


class World(Value):
    """A lab: where it lives and how everything in it is reached. `runtime` is a short private folder for sockets."""

    home: Path
    block: str
    standbys: int = 1
    without: frozenset[str] = frozenset()
    runtime: Path
    s3_base_ports: dict[str, int] = {}

    @property
    def lab(self) -> Path:
        """HOME/lab: all its state."""
        return self.home / "lab"

    @property
    def processes(self) -> Processes:
        """Its processes."""
        return Processes(lab=self.lab)

    @property
    def control(self) -> Path:
        """The proxy's control socket."""
        return self.runtime / "proxy"

    @property
    def passfile(self) -> Path:
        """Postgres passwords, mode 0600, as `passfile=` of every DSN."""
        return self.lab / "passfile"

    @property
    def members(self) -> tuple[str, ...]:
        """The Postgres servers: east, west and, with two standbys, west-2."""
        return (*SITES, "west-2") if self.standbys > 1 else SITES

    def folder(self, place: str, part: str = "") -> Path:
        """HOME/lab/PLACE/PART."""
        return self.lab / place / part

    def data_dir(self, member: str) -> Path:
        """The data directory of a Postgres server."""
        return self.lab / member / "postgres" / "data"

    def address(self, destination: str, *, source: str = "engine") -> str:
        """Where `source` reaches a site or the witness."""
        return layout.door(self.block, source, destination)

    def dsn(self, member: str, *, source: str = "engine", user: str = "postgres") -> str:
        """The DSN by which `source` reaches a Postgres server, without a secret (it names the passfile)."""
        site = layout.site_of(member)
        if source == site:
            address, port = layout.hidden(self.block, member), PORTS["postgres"]
        else:
            address, port = self.address(site, source=source), PORTS["postgres-2" if member != site else "postgres"]
        passfile = str(self.passfile).replace("\\", "\\\\").replace("'", "\\'")
        return f"host={address} port={port} user={user} dbname=postgres passfile='{passfile}' connect_timeout=5"

    def s3(self, place: str, *, source: str = "engine") -> S3Endpoint:
        """The S3 endpoint of a site or the witness as `source` reaches it."""
        address = self.address(place, source=source)
        port = self.s3_base_ports[place] + 6 if source == place else PORTS["s3"]
        return S3Endpoint(endpoint_url=f"http://{address}:{port}", credentials=f"file:{self.s3_credentials(place)}")

    def s3_credentials(self, place: str) -> Path:
        """The credentials of a place's S3 server: JSON, mode 0600."""
        return self.folder(place, "s3") / "credentials.json"

    def agent_url(self, member: str, *, source: str = "engine") -> str:
        """The address of the agent that serves a Postgres server."""
        site = layout.site_of(member)
        return self.url("agent" if member == site else "agent-2", site, source=source)

    def url(
        self, role: Literal["aws", "app", "agent", "agent-2", "probe", "arc"], site: str, *, source: str = "engine"
    ) -> str:
        """The HTTP address of an emulator's door, the sample platform, an agent, the witness's probe, an endpoint."""
        address = layout.hidden(self.block, layout.aws_place(site)) if (role, source) == ("aws", site) else ""
        return f"http://{address or self.address(site, source=source)}:{PORTS[role]}"

    @property
    def named(self) -> bool:
        """Whether the lab has names: name servers, a resolver, ARC's endpoints."""
        return "aws" not in self.without

    @property
    def desk(self) -> str:
        """Where the name servers tell their verdicts and the published zone."""
        return f"http://{layout.hidden(self.block, 'dns')}:{layout.DESK_PORT}"

    def region(self, place: str) -> str:
        """The AWS region that a place plays."""
        return REGIONS[place]

    @classmethod
    def load(cls, home: Path) -> World:
        """The lab of `home`, running or not. Raises BadInput when there is none."""
        home = home.absolute()
        try:
            return cls.model_validate_json((home / "lab" / "world.json").read_bytes())
        except FileNotFoundError:
            raise BadInput(f"there is no lab in {home}", hint=f"dr lab up --home {home}") from None
        except ValidationError as trouble:
            raise BadInput(
                f"{home / 'lab' / 'world.json'} is not a lab's description ({trouble.error_count()} errors)",
                hint="remove HOME/lab, or name another home",
            ) from None


def up(home: Path, *, standbys: int = 1, without: frozenset[str] = frozenset()) -> World:
    """Raise the lab of `home`, or repair it: what runs is left alone, what doesn't is started with its data.

    `without` names parts that are left out (aws, app, agent). Idempotent; survives being killed at any point.
    Raises BadInput for an unknown part or another number of standbys than the lab was made with.
    """
    from deployments.lab import people, raising

    unknown = without - PARTS_THAT_MAY_MISS
    if unknown:
        raise BadInput(f"the lab cannot be without {', '.join(sorted(unknown))}", hint="aws, app and agent may miss")
    with _one_at_a_time(home.absolute()):
        world = _found_or_new(home.absolute(), standbys=standbys, without=without)
        people.make(world.home)
        raised = raising.raise_all(world)
        people.publish(raised)
        return raised


def down(home: Path, wipe: bool = False) -> list[str]:
    """Stop the lab of `home` cleanly and remove its runtime; with `wipe` also its data. Gives the parts it stopped.

    Raises BadInput when there is no lab.
    """
    from deployments.lab import raising

    world = World.load(home)
    with _one_at_a_time(world.home):
        stopped = raising.drop_all(world) if wipe else raising.stop_all(world)
        if world.runtime != world.lab / "r":
            shutil.rmtree(world.runtime, ignore_errors=True)
        shutil.rmtree(world.lab / "r", ignore_errors=True)
        if wipe:
            shutil.rmtree(world.lab)
    return stopped


def save(world: World) -> None:
    """Write the description, whole or not at all."""
    fresh = world.lab / "world.new"
    fresh.write_text(world.model_dump_json(indent=1))
    fresh.replace(world.lab / "world.json")


def _found_or_new(home: Path, *, standbys: int, without: frozenset[str]) -> World:
    lab = home / "lab"
    if (lab / "world.json").exists():
        found = World.load(home)
        if standbys not in {found.standbys, 1}:
            raise BadInput(
                f"this lab has {found.standbys} standby", hint="dr lab down --wipe, then dr lab up --standbys 2"
            )
        runs = any(found.processes.alive(name) for name in found.processes.names())
        block = found.block if runs or layout.is_free(found.block) else layout.free_block(str(home))
        world = found.model_copy(update={"block": block, "without": without, "home": home})
    else:
        world = World(
            home=home, block=layout.free_block(str(home)), standbys=standbys, without=without, runtime=lab / "r"
        )
    return _with_runtime(world)


def _with_runtime(world: World) -> World:
    """A short private folder for sockets: HOME/lab/r, or below the temporary folder when that path is too long."""
    runtime = world.runtime if world.runtime.is_dir() else world.lab / "r"
    if len(str(runtime).encode()) > SOCKET_PATH_MAX:
        runtime = Path(tempfile.mkdtemp(prefix="standfast-"))
    if len(str(runtime).encode()) > SOCKET_PATH_MAX:  # a temporary folder of somebody's own, as long as the home
        runtime.rmdir()
        runtime = Path(tempfile.mkdtemp(prefix="standfast-", dir="/tmp"))
    runtime.mkdir(mode=0o700, exist_ok=True)
    world = world.model_copy(update={"runtime": runtime})
    save(world)
    return world


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    lab = home / "lab"
    lab.mkdir(parents=True, exist_ok=True)
    lab.chmod(0o700)
    with (home / "lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
