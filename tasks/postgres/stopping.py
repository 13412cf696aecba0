"""What an agent is ordered about its own server: keep a term, stop and stay stopped, start again.

Separate from the machinery of orders, and from what ROLES orders (roles/at_home.py). That the server is stopped is
looked up here, at the process, the port and the data, and is never taken from the leash's word alone.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
from pydantic import JsonValue

from recovery.errors import BadInput, Failed, Refused
from recovery.term import Term
from recovery.value import Instant, Value
from tasks.host import LocalHost
from tasks.postgres import control
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.leash_config import Held, read_memory, read_state, write_memory
from tasks.postgres.leash_control import LeashControl
from tasks.postgres.orders import Facts, Handler, Work
from tasks.postgres.run_as import server_argv
from tasks.postgres.terms import OwnTerm

FAST_SECONDS, CLEAN_SECONDS = 4.0, 120.0
LEASH_SECONDS, SLOW_SECONDS = 0.5, 10.0


class Stopped(Value):
    """The evidence that a server is stopped: its process is gone, its port closed, and what its data says."""

    pid: int | None
    process_gone: bool
    port_closed: bool
    control: str
    leashed: bool
    at: Instant

    @property
    def proved(self) -> bool:
        """Whether it runs no more."""
        return self.process_gone and self.port_closed


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """What the handlers act on: the agent's own server."""

    config: AgentConfig
    own: OwnTerm
    leash: LeashControl | None

    def handlers(self) -> dict[str, Handler]:
        """The orders that are carried out here."""
        return {"term": self.term, "stop": self.stop, "start": self.start}

    def term(self, work: Work) -> Facts:
        """Keep a term (argument `term`), and let the leash know it before anybody promotes its server; with
        `unconfirmed`, people signed that this site runs without confirmation."""
        told = work.order.arguments.get("term")
        if not isinstance(told, dict):
            raise BadInput("the order names no term", hint="this is a defect of the engine: report it")
        kept = self.own.accept(Term.model_validate(told))
        facts: Facts = {"term": kept.model_dump(mode="json")}
        if self.leash is not None:
            try:
                facts["leash"] = self.leash.learn(kept.model_dump(mode="json"))
            except Failed as trouble:  # one that starts later asks before anything else
                facts["leash_not_told"] = trouble.fact
        if work.order.arguments.get("unconfirmed") is True:
            if kept.primary != self.config.site:
                raise Refused(f"{kept.primary} is the primary, not {self.config.site}", hint="order it there")
            if self.leash is not None:
                facts["leash"] = self.leash.trust(work.order.id, kept.generation)
        return facts

    def stop(self, work: Work) -> Facts:
        """Stop the server and keep it stopped. Arguments: `fast_seconds`, how long a clean shutdown may take, or `mode`
        `fast` for as long as it needs; `server` and `system_id`, whom the engine means: another is left alone."""
        self._refuse_another(work)
        found = self.halt(work)
        facts = control.facts(self.config.data_dir)
        return {"server": self.config.named, "stopped": found.model_dump(mode="json"), **facts}

    def _refuse_another(self, work: Work) -> None:
        """Two servers of a site differ by their names only, and a machine made anew only by its system. Raises Refused.
        Data that can't be read is no reason not to stop: what is said of it afterwards then fails, and proves nothing.
        """
        server, system = work.text("server", self.config.named), work.text("system_id")
        if server != self.config.named:
            raise Refused(
                f"the order is for the server {server}, this agent is of {self.config.named}",
                hint="correct `agent` in the catalog or `member` in the agent's configuration; nothing was stopped",
            )
        with suppress(Failed):
            found = control.read(self.config.data_dir).system_id
            if system and found != system:
                raise Refused(
                    f"the data of {server} is of system {found}, the plan is for {system}",
                    hint="the machine was made anew, or the agent's data_dir is wrong; nothing was stopped",
                )

    def halt(self, work: Work) -> Stopped:
        """Stop it, whatever its data is, or where there is none (any more): a machine that was made anew."""
        fast = work.number("fast_seconds", CLEAN_SECONDS if work.text("mode") == "fast" else FAST_SECONDS)
        pid = postmaster_pid(self.config.data_dir)
        why = f"stopped by order {work.order.id} in generation {work.order.generation}"
        work.say("stopping Postgres", None)
        if self.leash is not None:
            stop_leashed(self.config, self.leash, work.order.id, why, fast_seconds=fast)
            if servers_in(self.config.data_dir):  # not the leash's child
                stop_unleashed(self.config, fast_seconds=fast)
        elif pid is not None:
            stop_unleashed(self.config, fast_seconds=fast)
        found = stopped(self.config, pid, leashed=self.leash is not None)
        if not found.proved:
            raise Failed(
                f"Postgres of {self.config.site} is not stopped: process {pid}, port closed: {found.port_closed}",
                hint="stop it by hand on its machine; see the logs of the agent and of the leash",
            )
        return found

    def start(self, work: Work) -> Facts:
        """Let the server run again: as a standby, or as the primary that the newest term names."""
        if self.leash is None:
            raise Refused(
                "Postgres of this site runs under no leash: the agent may not start it",
                hint="start its service by hand, once its data is a standby's",
            )
        patience = work.number("patience_seconds", 60.0)
        work.say("starting Postgres", None)
        said = self.leash.start(work.order.id, patience_seconds=patience)
        if said.get("state") != "running":
            raise Refused(f"Postgres of {self.config.site} stays stopped: {said.get('why')}", hint="see 'dr status'")
        return {"leash": said}


def postmaster_pid(data_dir: Path) -> int | None:
    """The pid that the server wrote down, or None."""
    try:
        return int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def ready(data_dir: Path, pid: int) -> bool:
    """Whether the postmaster says, in its pid file, that it accepts connections."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return postmaster_pid(data_dir) == pid and len(lines) > 7 and lines[7].strip() in {"ready", "standby"}


def stopped(config: AgentConfig, pid: int | None, *, leashed: bool) -> Stopped:
    """Look whether the server runs: by the pid that it had, by the one written down now, by its port."""
    from tasks.postgres.agent_memory import utc_now

    suspects = frozenset(each for each in (pid, postmaster_pid(config.data_dir)) if each is not None)
    return Stopped(
        pid=pid,
        process_gone=not servers_in(config.data_dir, suspects),
        port_closed=port_closed(config.dsn),
        control=control_state(config.data_dir),
        leashed=leashed,
        at=utc_now(),
    )


def servers_in(data_dir: Path, suspects: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """The processes of Postgres that work in this data directory, postmaster and backends. A zombie does nothing any
    more; a suspect whose folder can't be read counts, since it is not proved to be another's."""
    found: list[int] = []
    where = data_dir.resolve()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            if name == "postgres" and rest.split()[0] != "Z" and (entry / "cwd").readlink() == where:
                found.append(int(entry.name))
        except PermissionError:
            found += [int(entry.name)] if int(entry.name) in suspects else []
        except OSError:
            continue  # it ended while it was looked at
    return tuple(found)


def port_closed(dsn: str) -> bool:
    """Whether nothing accepts connections where the server listens: its address and port, or its socket."""
    from psycopg.conninfo import conninfo_to_dict

    told = conninfo_to_dict(dsn)
    host, port = str(told.get("hostaddr") or told.get("host") or "localhost"), int(str(told.get("port") or 5432))
    unix = host.startswith("/")
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM) as line:
        line.settimeout(1.0)
        try:
            line.connect(f"{host}/.s.PGSQL.{port}" if unix else (host, port))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False  # no answer is no proof
    return False


def control_state(data_dir: Path) -> str:
    """What pg_control says of the cluster: `shut down` after a clean end, `in production` after an immediate one."""
    try:
        return control.read(data_dir).state
    except Failed:
        return "unknown"


def stop_leashed(config: AgentConfig, leash: LeashControl, order: str, why: str, *, fast_seconds: float) -> None:
    """The leash stops it. One that does not answer (it was killed, or sleeps with its server) is ended: kill -9
    of it and of the server, after its memory was told to stay stopped."""
    known = read_state(config.leash_dir)
    pids = [known.leash_pid] if known and is_leash(known.leash_pid, known.at) else []
    try:
        leash.status(patience_seconds=LEASH_SECONDS if any(map(sleeps, pids)) or not pids else SLOW_SECONDS)
    except Failed:
        _hold(config, order, why)
        for pid in (*pids, *servers_in(config.data_dir)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _hold(config, order, why)  # it may have written its own memory over ours in between
        deadline = time.monotonic() + LEASH_SECONDS
        while servers_in(config.data_dir) and time.monotonic() < deadline:
            time.sleep(0.02)
        return
    leash.stop(order, why, fast_seconds=fast_seconds, patience_seconds=fast_seconds + 20.0)


def _hold(config: AgentConfig, order: str, why: str) -> None:
    write_memory(config.leash_dir, read_memory(config.leash_dir).but(held=Held(order=order, why=why)))


def sleeps(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    except OSError:
        return False


def is_leash(pid: int, said_at: datetime) -> bool:
    """Whether that process is the leash that said so then: one that began later has its pid by chance, and may be the
    leash of another cluster of this machine."""
    try:
        process = psutil.Process(pid)
        ours = process.create_time() <= said_at.timestamp() + 1.0  # the kernel counts from a rounded boot
        return ours and "tasks.postgres.leash" in process.cmdline()
    except psutil.Error:
        return False


def under_a_leash(data_dir: Path) -> bool:
    """Whether the server that runs here is the child of a leash, wherever that listens."""
    try:
        parent = psutil.Process(postmaster_pid(data_dir) or 0).parent()
        return parent is not None and "tasks.postgres.leash" in parent.cmdline()
    except psutil.Error:
        return False


def stop_unleashed(config: AgentConfig, *, fast_seconds: float) -> None:
    """Without a leash: pg_ctl, fast and then immediate. Nothing keeps it stopped but the agent's guard."""
    for mode, seconds in (("fast", fast_seconds), ("immediate", 10.0)):
        words = ["stop", "-D", str(config.data_dir), "-m", mode, "-w", "-t", str(max(1, round(seconds)))]
        argv, _ = server_argv([str(config.bin_dir / "pg_ctl"), *words], isolated=False)
        ran = LocalHost().run(argv, patience_seconds=seconds + 5.0)
        if ran.code == 0 or postmaster_pid(config.data_dir) is None:
            return
    raise Failed("Postgres does not stop", hint="stop it by hand on its machine")


def facts_of(told: JsonValue) -> Stopped | None:
    """The evidence inside an order's facts."""
    return Stopped.model_validate(told) if isinstance(told, dict) else None
