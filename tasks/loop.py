"""The one loop: ask the resolver, perform what it says, write it down, ask again. Every door uses it.

Prefect is one door, `dr` another, tests a third; they differ only in the `perform` that they pass in.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, repeat
from traceback import extract_tb
from typing import Protocol

from pydantic import JsonValue

from recovery.drive import Finish, Halt, Move, Perform, Seen, Truth, Wait, in_turn, next_moves
from recovery.errors import BadInput, DrError, Refused, Unproven
from recovery.plan import Plan
from recovery.step import Step
from tasks.journal import Journal
from tasks.kind import Facts, Scene, Verbs
from tasks.loop_memory import Held, Told

POLL_FIRST_SECONDS = 0.01
POLL_MOST_SECONDS = 0.5
ORDERS_SECONDS = 0.5
AT_ONCE = 16
_LASTING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})
"""Errors of the machine that another try in the same minute cannot mend."""


class Door(Protocol):
    """How a move is carried out: plainly in a thread, or as a Prefect task run named after its step."""

    def __call__(self, move: Move, perform: Callable[[], Facts]) -> Facts:
        """Call `perform` once and give what it gives."""
        ...


def plainly(move: Move, perform: Callable[[], Facts]) -> Facts:  # noqa: ARG001 -- the door's shape
    """The door of break glass and tests: nothing around the move."""
    return perform()


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """For people who watch: a step began, moved on, ended or failed."""

    step: str
    word: str
    text: str = ""
    share: float | None = None


@dataclass(kw_only=True, slots=True)
class Loop:
    """One run of one plan. `may_act` raises Refused when the lease is lost; it is asked before every move is begun, and
    once more behind the ledger and the door, just before its effect. `take_in` brings what people ordered from
    elsewhere into the journal; it is called at most every half second."""

    plan: Plan
    verbs: Verbs
    journal: Journal
    now: Callable[[], datetime]
    door: Door = plainly
    tell: Callable[[Event], None] = lambda event: None  # noqa: ARG005 -- nobody watches
    may_act: Callable[[], None] = lambda: None
    take_in: Callable[[], None] = lambda: None
    _flying: dict[str, Future[None]] = field(default_factory=dict)
    _since: dict[str, tuple[Truth, datetime]] = field(default_factory=dict)
    _held: Held = field(default_factory=Held)
    _told: Told = field(default_factory=Told)
    _reused: bool = False
    """Whether the last look took something to hold that it did not look at."""
    _orders_at_seconds: float = float("-inf")
    _stopped: bool = False
    _watched: bool = True

    def run(self) -> Finish | Halt:
        """Drive the plan to its end. Resumes whatever the journal and the world say; may be killed at any instant."""
        pause = POLL_FIRST_SECONDS
        with self._pool("move") as pool, self._pool("look") as eyes:
            while True:
                self._land()
                self._orders()
                told = self._told = self._told.and_since(self.journal)
                seen = self._look(told, eyes)
                decision = next_moves(self.plan, told.past, seen, self.now(), holding=self._held.names)
                match decision:
                    case Perform(moves=moves):
                        self.may_act()
                        for move in moves:
                            self._begin(pool, move, told)
                        pause = POLL_FIRST_SECONDS
                        wait(self._flying.values(), timeout=pause, return_when=FIRST_COMPLETED)
                    case Wait():
                        self._await(pause)
                        pause = min(pause * 1.5, POLL_MOST_SECONDS)
                    case Finish() | Halt() if self._reused:
                        self._held.clear()  # an end is decided by fresh looks: a move may just have unmade a truth
                    case Finish() | Halt():
                        return decision

    @contextmanager
    def _pool(self, name: str) -> Iterator[ThreadPoolExecutor]:
        """After a failure of ours (lease or ledger lost) what is underway is awaited; after Ctrl-C it is left behind:
        it may take hours, and whoever asked to stop ends its programs and the process (deployments/cli/leaving.py)."""
        pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix=name)
        try:
            yield pool
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        except BaseException:
            self._stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()

    def _orders(self) -> None:
        if time.monotonic() >= self._orders_at_seconds + ORDERS_SECONDS:
            self.take_in()
            self._orders_at_seconds = time.monotonic()

    def _scene(self, told: Told, say: Callable[[str, float | None], None] = lambda text, share: None) -> Scene:  # noqa: ARG005 -- an observation says nothing
        return Scene(
            plan=self.plan,
            results=told.results,
            attempts=told.attempts,
            now=self.now,
            say=say,
            mode=told.past.mode(self.plan.mode),
            confirmed=told.confirmed,
        )

    def _look(self, told: Told, eyes: ThreadPoolExecutor) -> Mapping[str, Seen]:
        """What can matter now, looked at side by side; what comes into its turn by what was seen is looked at next."""
        scene, seen = self._scene(told), self._held.fresh()
        self._reused = bool(seen)
        while steps := in_turn(self.plan, told.past, seen, holding=self._held.names):
            parts = [steps[start::AT_ONCE] for start in range(min(AT_ONCE, len(steps)))]
            # Never in this thread, which Ctrl-C interrupts: psycopg would then wait ten seconds for a stopped server's
            # answer to a cancel.
            looks = eyes.map(self._see_all, parts, repeat(scene))
            more = False
            for step, each in chain.from_iterable(looks):
                seen[step.id] = timed = self._timed(step, each)
                if timed.truth is Truth.HOLDS:
                    self._held.add(step.id, timed)
                    more = True
            if not more:  # nothing that holds was found: nothing else has come into its turn
                break
        return seen

    def _see_all(self, steps: Sequence[Step], scene: Scene) -> list[tuple[Step, Seen]]:
        return [(step, self._see(step, scene)) for step in steps]

    def _see(self, step: Step, scene: Scene) -> Seen:
        if step.id in self._flying:
            return Seen(truth=Truth.UNDERWAY, why=f"{step.id} is being performed")
        try:
            return self.verbs[step.verb].observe(step, scene)
        except DrError as trouble:
            return Seen(truth=Truth.UNKNOWN, why=trouble.fact)

    def _timed(self, step: Step, seen: Seen) -> Seen:
        truth, since = self._since.get(step.id, (None, self.now()))
        if truth is not seen.truth:
            since = self.now()
            self._since[step.id] = (seen.truth, since)
        return Seen(truth=seen.truth, why=seen.why, since=since)

    def _land(self) -> None:
        """Take in the moves that have ended. Always before the records are read: a move that ends between the two would
        else be judged by records that do not know its end, and be performed once more."""
        for name in [name for name, flying in self._flying.items() if flying.done()]:
            self._flying.pop(name).result()

    def _begin(self, pool: ThreadPoolExecutor, move: Move, told: Told) -> None:
        facts: Facts = {"step": move.step.id, "attempt": move.attempt, "verb": move.step.verb}
        self.journal.append("step.begun", move.step.resource, facts=facts)
        self._tell(move, "begun", f"attempt {move.attempt}" if move.attempt > 1 else "")
        self._held.drop(move.step.id)
        self._flying[move.step.id] = pool.submit(self._perform, move, told)

    def _perform(self, move: Move, told: Told) -> None:
        begin = self.now()
        scene = self._scene(told, lambda text, share: self._tell(move, "moved", text, share))
        scene = replace(scene, wanted=lambda: self._wanted(move.step), may_act=self.may_act)
        lost: list[Refused] = []

        def effect() -> Facts:
            try:
                self.may_act()
            except Refused as refusal:
                lost.append(refusal)
                raise
            return self.verbs[move.step.verb].perform(move, scene)

        try:
            facts = self.door(move, effect)
        except Exception as trouble:  # noqa: BLE001 -- a defect ends the run as a failure does: on record, nothing left
            if lost:
                raise lost[0] from None
            self.may_act()  # behind a lost lease a failure says nothing of the step, which another may drive by now
            self._failed(move, begin, trouble)
            return
        if self._stopped:
            return
        end = self.now()
        seconds = {"seconds": (end - begin).total_seconds()}
        ended: Facts = {"step": move.step.id, "attempt": move.attempt, "result": facts}
        self.journal.append("step.ended", move.step.resource, facts=ended, measures=seconds, begin=begin, end=end)
        self._tell(move, "ended", f"{seconds['seconds']:.1f} s")

    def _wanted(self, step: Step) -> bool:
        past = self._told.past
        return step.always or not (past.cancelled or step.omitted_in(past.mode(self.plan.mode)))

    def _failed(self, move: Move, begin: datetime, trouble: Exception) -> None:
        if self._stopped:
            return
        said: Facts = {"step": move.step.id, "attempt": move.attempt, **failure(trouble)}
        self.journal.append("step.failed", move.step.resource, facts=said, begin=begin, end=self.now())
        self._tell(move, "failed", str(said["fact"]))

    def _tell(self, move: Move, word: str, text: str, share: float | None = None) -> None:
        """A watcher that has gone (a closed pipe) is told no more; no move fails for want of one."""
        if not self._watched:
            return
        try:
            self.tell(Event(step=move.step.id, word=word, text=text, share=share))
        except OSError:
            self._watched = False

    def _await(self, seconds: float) -> None:
        if self._flying:
            wait(self._flying.values(), timeout=max(seconds, POLL_MOST_SECONDS), return_when=FIRST_COMPLETED)
        else:
            time.sleep(seconds)


def failure(trouble: Exception) -> dict[str, JsonValue]:
    """A failure as the journal keeps it. Only Failed and the machine's own troubles (disk, network) are tried again."""
    match trouble:
        case DrError():
            final = isinstance(trouble, BadInput | Refused | Unproven)
            return {"final": final, "fact": trouble.fact, "hint": trouble.hint}
        case OSError(errno=number) if number:
            where = f": {trouble.filename}" if trouble.filename else ""
            hint = "see that disk's free space, its health and its permissions, then run it again"
            return {"final": number in _LASTING, "fact": f"{os.strerror(number).lower()}{where}", "hint": hint}
    frames = extract_tb(trouble.__traceback__)[-8:]
    trace: list[JsonValue] = [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
    message = " ".join(str(trouble).split())[:300] or "no message"
    fact = f"unexpected {type(trouble).__name__}: {message}"
    hint = "this is a defect: report it with the step's record ('dr show'), which says where it happened"
    return {"final": True, "fact": fact, "hint": hint, "trace": trace}
