"""The leash: Postgres runs as its child, and only while this site may be the primary. `python -m tasks.postgres.leash
CONFIG -- postgres -D …`; a service manager runs this in the server's place.

Separate from the agent, whose death must neither stop a server nor let an old one write: here is only to confirm that
there is no newer primary, to stop the server when that can't be confirmed in time, and to stay, so that it is not
started again. Signals go on to the server; when the server ends by itself, so does the leash, with its code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from recovery.errors import DrError, Refused
from recovery.term import Hold, Run, Term, may_run, newest
from tasks.postgres import leash_confirm
from tasks.postgres.leash_child import Child, Others, Stopping, exit_code
from tasks.postgres.leash_config import Held, LeashConfig, State, load, read_memory, write_memory, write_state
from tasks.postgres.leash_confirm import ticks
from tasks.postgres.leash_door import Asked, LeashDoor
from tasks.postgres.stopping import ready

TICK_SECONDS, _TELL_SECONDS = 0.1, 1.0
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


class Leash:
    """One server on its leash. `run` is all of it."""

    def __init__(self, config: LeashConfig, argv: list[str]) -> None:
        self.config = config
        self.memory = read_memory(config.state_dir)
        self.door = LeashDoor(config.control)
        self._trusted_at = float("-inf")
        self.child, self.others = Child(argv), Others(config.data_dir)
        self.known = leash_confirm.remembered(config, self.memory, self.door.wake)
        self.known.foreign = self.others.beside(self.child)
        self.stopping: Stopping | None = None
        self._opened: int | None = None
        self.ending = False
        self.judged: Run | Hold = Hold(why="nobody has confirmed yet that there is no newer primary", final=False)
        self._waiting: list[tuple[Asked, float, Callable[[], bool]]] = []
        self._told: tuple[str, str] = ("", "")
        self._told_at = float("-inf")

    def run(self) -> int:
        """Until the server has ended by itself or by a signal. Gives the exit code."""
        self.door.on_signals((*_FORWARDED, signal.SIGHUP, signal.SIGCHLD), self._signalled)
        leash_confirm.begin(self.config, self.known)
        while True:
            for asked in self.door.wait(TICK_SECONDS):
                self._command(asked)
            self.child.reap()
            code = self._step()
            self._answer()
            self._tell()
            if code is not None:
                self.door.close()
                return code

    def _step(self) -> int | None:
        """Judge, and do what follows. The exit code when the leash's work is done."""
        if not self._signal:
            self._opened = self.child.pid
        self.known.foreign = self.others.beside(self.child)
        self._learn()
        self.judged = self._judge()
        if self.child.pid is None:
            return self._without_server()
        if isinstance(self.judged, Hold) and self.stopping is None:
            self._stop(self.judged.why, fast_seconds=0.0)
        self._escalate()
        return None

    def _without_server(self) -> int | None:
        code, stopping = self.child.code, self.stopping
        if code is not None or stopping is not None:
            if not self.child.empty:
                self.child.kill()  # backends that outlive their postmaster write no more
                return None
            self.stopping, self.child.code = None, None
            if self.ending or stopping is None:
                return exit_code(code or 0)
        if self.ending:
            return 0
        if isinstance(self.judged, Run):
            self._start()
        return None

    def _judge(self, held: str | None = None) -> Run | Hold:
        if self.known.foreign:
            return Hold(why="a server that is not ours runs in this data directory", final=True)
        if held is None:
            held = "" if self.memory.held is None else self.memory.held.why
        return may_run(
            self.config.site,
            standby=self.standby,
            held=held,
            known=self.known.term,
            permit=self.known.permit(self.memory.trusted, margin_seconds=self.config.margin_seconds),
        )

    def _learn(self) -> None:
        """A newer term is remembered before anything follows from it. A confirmation ends what people signed: from then
        on a permit is needed again."""
        self._remember(term=newest(self.memory.term, self.known.term))
        if not self.known.binds_like(self.memory.worded):
            self._remember(worded=self.known.worded)
        if self.memory.trusted is not None and ticks() - self.known.age_seconds() > self._trusted_at:
            self._remember(trusted=None)
        self.known.trusted = self.memory.trusted is not None

    def _start(self) -> None:
        if self.others.beside(self.child, at_once=True):
            return  # the next step says so
        (self.config.data_dir / "postmaster.pid").unlink(missing_ok=True)  # its pid may be anybody's by now
        self.child.start()
        self._opened = None if self._signal else self.child.pid

    def _stop(self, why: str, *, fast_seconds: float) -> None:
        now = ticks()
        grace = self.config.clock_bound_seconds
        self.stopping = Stopping(why=why, quit_at=now + fast_seconds, kill_at=now + fast_seconds + grace)
        _say(f"stopping the server: {why}")

    def _escalate(self) -> None:
        stopping, now = self.stopping, ticks()
        if stopping is None:
            return
        if isinstance(self._judge(held=""), Hold):
            stopping.quit_at = min(stopping.quit_at, now)  # no time for a clean end without a permit
            stopping.kill_at = min(stopping.kill_at, stopping.quit_at + self.config.clock_bound_seconds)
        if now >= stopping.kill_at:
            self.child.kill()
            stopping.step = "killed"
        elif now >= stopping.quit_at and stopping.step in {"begun", "fast"}:
            self.child.send(signal.SIGQUIT)
            stopping.step = "quit"
        elif stopping.step == "begun":
            self.child.send(signal.SIGINT)
            stopping.step = "fast"

    def _signalled(self, number: int) -> None:
        if number in _FORWARDED:
            self.ending = True
        if number != signal.SIGCHLD:
            self.child.send(number)

    def _command(self, asked: Asked) -> None:
        words = asked.words
        match words.get("do"):
            case "status":
                asked.answer(self.state())
            case "stop":
                self._remember(held=Held(order=str(words.get("order")), why=str(words.get("why"))))
                if self.child.pid is not None and (self.stopping is None or self.stopping.step == "begun"):
                    self._stop(str(words.get("why")), fast_seconds=float(words.get("fast_seconds", 0)))
                self._waiting.append((asked, float("inf"), lambda: self.child.pid is None and self.child.empty))
            case "start":
                self._remember(held=None)
                now = ticks()
                until = now + float(words.get("patience_seconds", 60))
                self._waiting.append((asked, until, lambda: self._started_since(now)))
            case "trust":
                self._trusted_at = ticks()
                self._remember(trusted=int(words["generation"]))
                asked.answer(self.state())
            case "term":
                self._hear(asked)
            case _:
                asked.refuse("it knows status, stop, start, trust and term")

    def _hear(self, asked: Asked) -> None:
        """A term from the agent's signed order. Known before the server is promoted, so that it is not stopped for the
        older one that was the newest when the witness was asked last."""
        try:
            term = Term.model_validate(asked.words.get("term"))
        except ValidationError:
            asked.refuse("that is no term of a known schema")
            return
        if term.resource != self.config.resource:
            asked.refuse(f"the term is of {term.resource}, this leash holds {self.config.resource}")
            return
        self.known.learn(term)
        self._learn()
        asked.answer(self.state())

    def _remember(self, **changes: Any) -> None:
        wanted = self.memory.but(**changes)
        if wanted != self.memory:
            write_memory(self.config.state_dir, wanted)
            self.memory = wanted

    def _answer(self) -> None:
        """Whoever waits is answered when it has come about, or with what is when the patience ends."""
        now = ticks()
        left = []
        for asked, until, holds in self._waiting:
            if holds() or now >= until:
                asked.answer(self.state())
            else:
                left.append((asked, until, holds))
        self._waiting = left

    def _started_since(self, asked_at: float) -> bool:
        """Whether a start has come about; that it is held is said only by what was asked after the start was."""
        word = self._word()
        return word == "running" or (word == "held" and ticks() - self.known.age_seconds() > asked_at)

    @property
    def _signal(self) -> bool:
        return (self.config.data_dir / "standby.signal").exists()

    @property
    def standby(self) -> bool:
        """A promotion removes the signal file. One that comes to a server which takes writes is for its next start."""
        return self._signal and (self.child.pid is None or self.child.pid != self._opened)

    def state(self) -> State:
        """What is so now."""
        permit, term = self.known.permit(None), self.known.term
        with self.known.lock:
            by, silent = self.known.confirmed_by, dict(self.known.silent)
        return State(
            state=self._word(),
            why=self.stopping.why if self.stopping is not None else self.judged.why,
            pid=self.child.pid,
            leash_pid=os.getpid(),
            standby=self.standby,
            foreign=self.known.foreign,
            generation=0 if term is None else term.generation,
            held_by="" if self.memory.held is None else self.memory.held.order,
            lease_seconds=self.config.lease_seconds,
            permit_seconds=None if permit.left_seconds is None else round(permit.left_seconds, 3),
            confirmed_by=by,
            silent=silent,
            at=datetime.now(UTC),
        )

    def _word(self) -> Literal["asking", "held", "starting", "running", "stopping", "ended"]:
        if self.child.pid is not None:
            if self.stopping is not None:
                return "stopping"
            return "running" if ready(self.config.data_dir, self.child.pid) else "starting"
        if self.ending:
            return "ended"
        match self.judged:
            case Hold(final=True):
                return "held"
            case Hold():
                return "asking"
            case Run():
                return "starting"

    def _tell(self) -> None:
        """The state's file: on every change, and each second for what is left of the permit."""
        now = self.state()
        if (now.state, now.why) != self._told:
            self._told = (now.state, now.why)
            _say(f"{now.state}: {now.why}")
        elif ticks() - self._told_at < _TELL_SECONDS:
            return
        self._told_at = ticks()
        with suppress(OSError):  # a full disk must not stop the leash from its work; the socket tells the same
            write_state(self.config.state_dir, now)


def _say(text: str) -> None:
    sys.stderr.write(f"leash: {text}\n")
    sys.stderr.flush()


def main(argv: list[str]) -> int:
    """`CONFIG -- ARGV…`. Exit codes: the server's own, or DrError's when it never began."""
    try:
        if len(argv) < 3 or argv[1] != "--":
            raise Refused(
                "there is no server to run", hint="python -m tasks.postgres.leash CONFIG -- postgres -D FOLDER"
            )
        return Leash(load(Path(argv[0])), argv[2:]).run()
    except DrError as error:
        _say(str(error))
        return error.exit_code
    except OSError as error:
        _say(f"the control socket can't be made: {error}")
        return 2


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
