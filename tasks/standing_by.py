"""Standing by: watch a service's probes, and where people have consented in advance, fail over alone.

Separate from tasks/watching.py, which looks at databases, and from changing.py, which acts: here is the patience of a
resident. It never decides by itself: a standing approval's conditions, hazards and end are judged as at any other act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from recovery.approval import DIRECTIONLESS, Admitted, Asked, GivenStanding, admitted
from recovery.errors import DrError, Failed
from recovery.observation import ProbeSeen
from recovery.plan import NothingToDo, Plan
from tasks import approving
from tasks.engine import Act
from tasks.home import Home
from tasks.loop import Event

if TYPE_CHECKING:
    from recovery.failover import Proposal
    from recovery.outcome import Changed

REREAD = timedelta(seconds=5)
"""Between two readings of what people consented to: between them what was read last counts."""
PAUSE_FIRST, PAUSE_MOST = timedelta(seconds=2), timedelta(minutes=1)
"""After an attempt that was refused or stood still."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """One look. `failing`: probe → for how long; `ripe` are the standing approvals that would admit now, and `waits`
    says of each other one why it does not."""

    at: datetime
    probes: Mapping[str, ProbeSeen]
    ripe: tuple[GivenStanding, ...]
    waits: tuple[str, ...]

    @property
    def failing(self) -> dict[str, float]:
        """Probe → for how many seconds it has failed."""
        return {name: seen.failing_seconds for name, seen in self.probes.items() if seen.outcome == "failed"}


@dataclass(kw_only=True, slots=True)
class Watch:
    """The watch of one service. `look` is called again and again; `act` only where something is ripe."""

    home: Home
    service: str
    probes: Callable[[Home, str], Mapping[str, ProbeSeen]]
    tell: Tell
    show: Callable[[Event], None] = lambda event: None  # noqa: ARG005 -- nobody watches
    _words: dict[str, str] = field(default_factory=dict)
    _standing: tuple[GivenStanding, ...] = ()
    _cancelled: Mapping[str, datetime] = field(default_factory=dict)
    _read_at: datetime | None = None
    _pause: timedelta = PAUSE_FIRST
    _not_before: datetime | None = None
    _last: str = ""
    _warm: tuple[object, ...] = ()

    def warm(self) -> None:
        """Before the event: import and open all that acting needs, so that on the day no second goes into it. What is
        silent now is no trouble of the watch."""
        from tasks import acting, changing, route53, service
        from tasks.observing import observe
        from tasks.postgres import roles

        self._warm = (changing, route53, service, roles)
        with suppress(DrError):
            self._reread()
            for each in self._standing:
                acting.book(self.home, each.approval.runbook)
            self.home.signer()
            observe(self.home, self.service)

    def look(self) -> Sight:
        """Look once, and say what has changed since the last time."""
        seen = self.probes(self.home, self.service)
        for name, each in sorted(seen.items()):
            if self._words.get(name) != each.outcome:
                since = f" for {each.failing_seconds:.0f} s" if each.outcome == "failed" else ""
                if name in self._words or each.outcome != "passed":
                    self.tell(f"probe {name}: {each.outcome}{since}")
                self._words[name] = each.outcome
        self._reread()
        return self._judged(seen)

    def act(self, sight: Sight) -> Changed | None:
        """Act by the first ripe standing approval: take up the run that it began, or plan and begin one. None when
        there is nothing to do, or not yet again. What is refused or fails is told, and tried again after a pause."""
        if not sight.ripe or (self._not_before is not None and self.home.now() < self._not_before):
            return None
        found = sight.ripe[0]
        try:
            plan, seen = self._unfinished(found), None
            if plan is None:
                made = self._planned(found)
                if made is None:
                    self._rest()
                    return None
                plan, seen = made.plan, made.seen
            from tasks import changing

            self.tell(f"acting by standing approval {found.approval.id[:12]}: plan {plan.digest[:12]}")
            ended = changing.act(Act(home=self.home, tell=self.show), plan, seen=seen)
        except DrError as trouble:
            self._say(f"not acted: {trouble.fact}; {trouble.hint}")
            self._rest()
            return None
        if ended.stopped is not None:
            self.tell(f"run {plan.run[:12]} stands still at {ended.stopped.step}: {ended.stopped.why}")
            self._rest()
        else:
            self._pause, self._not_before = PAUSE_FIRST, None
        return ended

    def _judged(self, seen: Mapping[str, ProbeSeen]) -> Sight:
        now = self.home.now()
        sight = Sight(at=now, probes=seen, ripe=(), waits=())
        ripe, waits = [], []
        for each in self._standing:
            approval = each.approval
            asked = Asked(
                digest="",
                epoch=0,
                runbook=approval.runbook,
                service=self.service,
                mode=approval.variant,
                to=approval.to or "",
                failing_seconds=sight.failing,
            )
            policy = approving.policy_of(self.home)
            answer = admitted(asked, (), policy, spent={}, now=now, cancelled=self._cancelled, standing=(each,))
            if isinstance(answer, Admitted):
                ripe.append(each)
            else:
                waits.append(answer.why[-1])
        return Sight(at=now, probes=seen, ripe=tuple(ripe), waits=tuple(waits))

    def _reread(self) -> None:
        now = self.home.now()
        if self._read_at is not None and now - self._read_at < REREAD:
            return
        try:
            found, troubles, _ = approving.standing(self.home, self.service)
            gone, doubts = approving.cancelled(self.home, [each.approval.id for each in found])
        except Failed as trouble:
            self._say(f"the ledger is silent, what was read last counts: {trouble.fact}")
            self._read_at = now
            return
        old = [each.approval.id for each in found if each.approval.to is None and now < each.approval.expires_at]
        mute = [f"the standing approval {each[:12]} {DIRECTIONLESS}" for each in old if each not in gone]
        for each in (*troubles, *doubts, *mute):
            self._say(each)
        self._standing, self._cancelled, self._read_at = found, gone, now

    def _planned(self, found: GivenStanding) -> Proposal | None:
        from tasks import changing

        made = changing.plan(self.home, found.approval.runbook, service=self.service, to=found.approval.to)
        if isinstance(made, NothingToDo):
            self._say(f"nothing to do: {made.why}")
            return None
        return made

    def _unfinished(self, found: GivenStanding) -> Plan | None:
        """The service's last run, where this very approval began it and it has not ended. One that people began is
        theirs: the lease and the epoch say what may be done beside it."""
        from tasks.engine import read_plan
        from tasks.observing import left_open

        last = Act(home=self.home).leases().look(self.service)
        records = left_open(self.home, last)
        if last is None or records is None:
            return None
        consent = records[0].facts.get("consent")
        mine = isinstance(consent, dict) and consent.get("standing") == found.approval.id
        if not mine:
            raise Failed(
                f"run {last.run[:12]} of {self.service} is unfinished and was begun by people",
                hint=f"go on with 'dr resume {last.run[:12]}', or end it: 'dr run cancel {last.run[:12]} --as NAME'",
            )
        return read_plan(self.home.ledger(), last.run)

    def _rest(self) -> None:
        self._not_before = self.home.now() + self._pause
        self._pause = min(self._pause * 2, PAUSE_MOST)

    def _say(self, text: str) -> None:
        """Tell what goes on as it was only once."""
        if text != self._last:
            self._last = text
            self.tell(text)
