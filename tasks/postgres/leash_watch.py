"""The agent watches over its server's leash: one that stands still alone, while its server goes on, ends nobody.

A process that was stopped (SIGSTOP, a debugger) or hangs on a disk neither asks nor acts, and the kernel ends the
server only with it. So its agent asks in its place and, when nobody confirms in time or a newer primary is known, kills
both.
Separate from obeying.py because it must never wait for an order, and from leash.py because it is another process.

That a leash stands still is seen by its main thread, which wakes ten times a second: it has given up the processor not
once since the last look, and waits for none. A slow answer, or a busy machine, is no such sign.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recovery.term import Hold, Permit, Run, Term, may_run
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.agent_memory import Alerts, utc_now
from tasks.postgres.leash_config import State, read_state
from tasks.postgres.leash_confirm import ticks
from tasks.postgres.leash_control import gone
from tasks.postgres.stopping import control_state, is_leash, servers_in
from tasks.postgres.terms import Asking

MOST_SECONDS, LEAST_SECONDS = 1.0, 0.25
END_SECONDS = 5.0


@dataclass(kw_only=True)
class LeashWatch:
    """See the module. `asking`: the term, as this agent tells others of it."""

    config: AgentConfig
    asking: Asking
    alerts: Alerts
    now: Callable[[], datetime] = utc_now
    _moves: tuple[int, int] = (0, -1)
    _until: float = float("inf")
    """Until when its last state lets the server run (ticks), or what we asked since."""

    @property
    def every_seconds(self) -> float:
        """From one look to the next."""
        return max(LEAST_SECONDS, min(MOST_SECONDS, self.config.lease_seconds / 8))

    def run(self, stop: threading.Event) -> None:
        """Until the agent ends."""
        while not stop.wait(self.every_seconds):
            self.look()

    def look(self) -> None:
        """Once: does it move? If not, act in its place."""
        said = read_state(self.config.leash_dir)
        if said is None and self.config.leash is not None and not gone(self.config.leash):
            told = f"the leash of {self.config.named} works, and nothing of it lies in {self.config.leash_dir}"
            hint = "`leash_dir` of the agent and `state_dir` of the leash are one folder: else no order to stop lasts"
            self.alerts.tell("leash-folder", told, hint)
        else:
            self.alerts.over("leash-folder")
        if said is None or not is_leash(said.leash_pid, said.at):
            return  # with the leash the kernel ended its server
        moves = (said.leash_pid, switches(said.leash_pid))
        if moves != self._moves or moves[1] < 0:
            self._moves, self._until = moves, self._permitted(said)
            self.alerts.over("leash-still")
            return
        if not servers_in(self.config.data_dir) or not self._takes_writes(said):
            return
        known = self._ask(said)
        trusted = said.generation if self._until == float("inf") else None
        left = self._until - ticks() - self.every_seconds - self._margin(said)
        match may_run(
            self.config.site, standby=False, held="", known=known, permit=Permit(left_seconds=left, trusted=trusted)
        ):
            case Hold(why=why):
                self._end(said.leash_pid, self._margin(said) / 2)
                told = f"the leash of {self.config.named} stood still, so that its server was ended: {why}"
                hint = "its service starts it again (Restart=on-failure); the server runs as soon as somebody confirms"
            case Run():
                told = f"the leash of {self.config.named} stands still; its agent asks in its place"
                hint = "find out what stopped it: SIGSTOP, a debugger, a disk that hangs"
        self.alerts.tell("leash-still", told, hint)

    def _permitted(self, said: State) -> float:
        """Until when its own permit lasts; for ever where people let it run unconfirmed."""
        if said.standby:
            return float("-inf")  # one that is opened while its leash stands still was never permitted
        if said.state in {"running", "starting"} and (said.permit_seconds or 0) <= 0:
            return float("inf")
        return ticks() - max(0.0, (self.now() - said.at).total_seconds()) + (said.permit_seconds or 0)

    def _takes_writes(self, said: State) -> bool:
        return not said.standby or control_state(self.config.data_dir) == "in production"

    def _ask(self, said: State) -> Term | None:
        """The newest term that is known here. An answer of the witness, which names no other site, prolongs."""
        begun = ticks()
        known, confirmed = self.asking.ask()
        if confirmed:
            self._until = max(self._until, begun + said.lease_seconds)
        return known

    def _margin(self, said: State) -> float:
        return min(self.config.clock_bound_seconds, said.lease_seconds / 4)

    def _end(self, leash_pid: int, patience_seconds: float) -> None:
        """kill -9 of the leash, with which the kernel ends the server: that leaves nothing behind to hinder its next
        start. And of the server, where it sleeps, too."""
        with suppress(ProcessLookupError):
            os.kill(leash_pid, signal.SIGKILL)
        for number, seconds in ((0, patience_seconds), (signal.SIGKILL, END_SECONDS)):
            deadline = time.monotonic() + seconds
            for pid in servers_in(self.config.data_dir):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            while servers_in(self.config.data_dir) and time.monotonic() < deadline:
                time.sleep(0.02)


def switches(pid: int) -> int:
    """How often a process's main thread has given up the processor; -1 for one that waits for it, or is gone: nothing
    follows from that."""
    try:
        lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    except OSError:
        return -1
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    if told["State"].split()[0] == "R":
        return -1
    return int(told["voluntary_ctxt_switches"])
