"""The agent's worker: archiver, shipper, heartbeat and its doors, put together from one configuration.

Separate from the supervisor, which starts it again when it dies. Each part is a thread; when one ends by an error that
nobody expected the worker ends too, loudly, and is started anew.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from recovery.errors import DrError
from tasks.postgres import seal, wal_file
from tasks.postgres.agent_config import AgentConfig, load
from tasks.postgres.agent_http import Door
from tasks.postgres.agent_memory import Alerts, Memory
from tasks.postgres.archive_socket import listen
from tasks.postgres.archiver import Archiver
from tasks.postgres.heartbeat import Heartbeat
from tasks.postgres.leash_watch import LeashWatch
from tasks.postgres.obeying import Obeying, obey
from tasks.postgres.shipper import Shipper
from tasks.prober import part as prober_part
from tasks.store import Store
from tasks.store_place import StorePlace

__all__ = ["Agent", "AgentConfig", "StorePlace", "build", "load", "run"]
Part = Callable[[threading.Event], None]
_LOW_FRACTION = 0.1
_LOW_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class KeySealer:
    """A key as the archiver's sealer."""

    key: seal.Key

    @property
    def fingerprint(self) -> str:
        """The key's."""
        return self.key.fingerprint

    def seal(self, raw: bytes) -> bytes:
        """`raw`, sealed as one small object."""
        return seal.seal(self.key, raw)


@dataclass(kw_only=True)
class Agent:
    """The parts of a worker; `parts` run as threads. Others add routes to `door` and parts before `run`."""

    config: AgentConfig
    memory: Memory
    alerts: Alerts
    archiver: Archiver
    shippers: tuple[Shipper, ...]
    heartbeat: Heartbeat
    door: Door
    obeying: Obeying
    parts: dict[str, Part] = field(default_factory=dict)

    def status(self) -> dict[str, JsonValue]:
        """All that is known now, as JSON. LSNs are integers, instants RFC 3339."""
        pulse = self.heartbeat.pulse
        archived = self.memory.newest()
        return {
            "site": self.config.site,
            "resource": self.config.resource,
            "pid": os.getpid(),
            "role": pulse.role if pulse else "unknown",
            "timeline": pulse.timeline if pulse else None,
            "flushed_lsn": pulse.flushed_lsn if pulse else None,
            "postgres": self.heartbeat.status(),
            "archived": archived.model_dump(mode="json") if archived else None,
            "stored_ahead": self.archiver.stored_ahead,
            "shipped": {each.site: each.status() for each in self.shippers},
            "ready_count": self.archiver.ready(),
            "disk": {**disk} if (disk := self._disk()) is not None else None,
            "alerts": self.alerts.standing(),
            **self.obeying.status(),
        }

    def watch(self, stop: threading.Event) -> None:
        """Warn long before the disk of pg_wal is full, and when archiving does not keep up."""
        while not stop.wait(1.0):
            disk = self._disk()
            if disk is not None:
                low = disk["free_bytes"] < max(_LOW_BYTES, _LOW_FRACTION * disk["total_bytes"])
                self._told(
                    "disk", low, f"pg_wal's file system has {disk['free_bytes'] / 1024**3:.1f} GiB left",
                    "make room or let archiving drain; a full pg_wal stops the server",
                )  # fmt: skip
            ready = self.archiver.ready()
            self._told(
                "backlog", ready > self.config.ready_limit, f"{ready} WAL files wait to be archived",
                "see whether the local site's S3 is up and fast enough; exposure grows",
            )  # fmt: skip

    def _told(self, subject: str, stands: bool, fact: str, hint: str) -> None:
        if stands:
            self.alerts.tell(subject, fact, hint)
        else:
            self.alerts.over(subject)

    def _disk(self) -> dict[str, int] | None:
        try:
            usage = shutil.disk_usage(self.config.data_dir / "pg_wal")
        except OSError:
            return None  # no data directory (yet): the heartbeat's alert says that Postgres is not there
        return {"total_bytes": usage.total, "free_bytes": usage.free}


def build(config: AgentConfig) -> Agent:
    """Put the worker together; nothing is asked of Postgres or S3 yet. Raises BadInput, Refused or Failed."""
    system = wal_file.system_id(config.data_dir) if (config.data_dir / "global" / "pg_control").exists() else ""
    memory, alerts = Memory(config.state_dir, system=system), Alerts(config.state_dir)
    local = config.local.open(config.store_patience_seconds)
    places = [each for each in (config.remote, *config.others) if each is not None]
    shippers: list[Shipper] = []

    def offer(key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        for each in shippers:
            each.offer(key, body, metadata)

    obeying = obey(config, alerts)
    archiver = Archiver(
        store=local,
        data_dir=config.data_dir,
        memory=memory,
        alerts=alerts,
        offer=offer,
        sealer=KeySealer(seal.load(config.key)) if config.key else None,
        ahead=config.ahead,
        barred=obeying.barred,
    )
    segment_bytes = archiver.segment_bytes
    shippers += [_shipper(config, place, local, memory, alerts, segment_bytes) for place in places]
    agent = Agent(
        config=config,
        memory=memory,
        alerts=alerts,
        archiver=archiver,
        shippers=tuple(shippers),
        heartbeat=Heartbeat(
            config.dsn,
            alerts=alerts,
            beats=config.heartbeat,
            every_seconds=config.heartbeat_seconds,
            kept_down=obeying.kept_down,
        ),
        door=Door(config.address, config.port),
        obeying=obeying,
    )
    agent.door.add("GET", "/status", lambda _query, _body: agent.status())
    health: JsonValue = {"ok": True, "pid": os.getpid(), "server": config.named}
    agent.door.add("GET", "/health", lambda _query, _body: health)
    agent.obeying.open(agent.door)
    if config.probes is not None:
        agent.parts["probes"], route = prober_part(config.probes)
        agent.door.add("GET", "/probes", route)
    for shipper in shippers:
        agent.parts[f"ship-{shipper.site}"] = shipper.run_wal
        agent.parts[f"base-{shipper.site}"] = shipper.run_base
    agent.parts |= {"heartbeat": agent.heartbeat.run, "watch": agent.watch, "obey": agent.obeying.run}
    if config.leash is not None:
        agent.parts["leash"] = LeashWatch(config=config, asking=obeying.asking, alerts=alerts).run
    return agent


def _shipper(
    config: AgentConfig,
    place: StorePlace,
    local: Store,
    memory: Memory,
    alerts: Alerts,
    segment_bytes: Callable[[], int],
) -> Shipper:
    return Shipper(
        site=place.site,
        here=local,
        there=place.open(config.store_patience_seconds),
        memory=memory,
        alerts=alerts,
        segment_bytes=segment_bytes,
        reconcile_seconds=config.reconcile_seconds,
        base_seconds=config.base_seconds,
    )


def run(agent: Agent, *, parent: int) -> int:
    """Run until SIGTERM, the parent's death (both 0) or the end of a part by an unexpected error (1)."""
    stop, broken = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    def guarded(part: Part) -> None:
        try:
            part(stop)
        except Exception:  # noqa: BLE001 -- told in full, then the whole worker ends
            sys.stderr.write(traceback.format_exc())
            broken.set()

    socket = listen(agent.config.socket, agent.archiver.archive)
    threads = [threading.Thread(target=guarded, args=(part,), name=name) for name, part in agent.parts.items()]
    servers = (agent.door, socket)
    for thread in threads:
        thread.daemon = True
        thread.start()
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()
    while not stop.wait(0.25) and not broken.is_set() and os.getppid() == parent:
        pass
    stop.set()
    for server in servers:
        server.shutdown()
    for shipper in agent.shippers:
        shipper.wake()
    deadline = time.monotonic() + 3.0
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    agent.config.socket.unlink(missing_ok=True)
    return 1 if broken.is_set() else 0


def main(argv: list[str]) -> int:
    """`python -m tasks.postgres.agent CONFIG PARENT_PID`: the worker. Exit codes as DrError's."""
    try:
        code = run(build(load(Path(argv[1]))), parent=int(argv[2]))
    except DrError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    sys.stderr.flush()
    os._exit(code)  # what still waits for an answer of S3 or Postgres has nothing that could be lost


if __name__ == "__main__":
    main(sys.argv)
