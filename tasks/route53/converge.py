"""The verb `converge`: every listed name server and resolver answers the site (TRUTH.md), and since when each does.

Separate from redirecting because what resolvers remember is nobody's to change: it can only be watched, tightly, each
server by a thread of its own, so that a slow one is late alone and its first new answer is not missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from recovery.convergence import SERIES, WEIGHTED_SERIES, Watched, converged, heard, percentile, turned
from recovery.doors import DnsName
from recovery.drive import Move, Seen, Truth
from recovery.errors import DrError, Failed, Unproven
from recovery.step import Step
from recovery.value import rfc3339
from tasks.kind import Facts, Scene
from tasks.resolving import Resolved
from tasks.route53.asking import ask, ask_all, name_of, said, words
from tasks.stage import Stage

ANSWER_FIRST_SECONDS, ANSWER_MOST_SECONDS = 0.5, 5.0
"""The patience with one question: a lost datagram costs little, and a resolver that has to ask around is heard too,
since the patience doubles with each silence."""
GRACE_SECONDS = 1.0
"""What a resolver may keep an answer beyond its TTL: it counts whole seconds."""
_PAUSE_FIRST_SECONDS, _PAUSE_MOST_SECONDS = 0.02, 0.2
_SAY_EVERY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Converge:
    """Every server of the catalog's list answers the site, several times in a row."""

    stage: Stage

    def observe(self, step: Step, scene: Scene) -> Seen:
        """Asks all servers once, at once. One that has turned in this run and is silent now is no reason to doubt: it
        sends nobody elsewhere; one that answers otherwise is."""
        site = _site(step, scene, self.stage)
        dns = name_of(self.stage.home.catalog.dns, step.resource, site)
        if step.id not in scene.results:
            return Seen(truth=Truth.ABSENT, why="it was not watched yet")
        answers = ask_all(servers(dns), dns)
        others = [words(server, each) for server, each in answers.items() if said(each, dns, site) == "other"]
        if others:
            return Seen(truth=Truth.ABSENT, why="; ".join(others))
        return Seen(truth=Truth.HOLDS, why=f"{len(answers)} servers answer {dns.records[site].value}")

    def perform(self, move: Move, scene: Scene) -> Facts:
        """Watch until all have turned. Facts: `servers` (each with `seconds` from the redirect to its first new answer,
        `asks`), `p50_seconds`, `p99_seconds`, `tail_seconds`, `promise_seconds` (TTL and a second), `kept`, `at`.
        Raises Failed while one answers otherwise at the end of the patience, Unproven when one never answered."""
        step, site = move.step, _site(move.step, scene, self.stage)
        dns = name_of(self.stage.home.catalog.dns, step.resource, site)
        begun = scene.now()
        since = redirected_at(scene, step, site) or begun
        watch = Watch(dns=dns, site=site, behind_seconds=max(0.0, (begun - since).total_seconds()))
        found, answers = watch.until(0.9 * step.patience_seconds, scene.say)
        if not converged(found, watch.series):
            raise unfinished(found, dns, site, watch.series)
        return told(found, answers, dns, since=since, at=scene.now())


def servers(dns: DnsName) -> tuple[str, ...]:
    """The name's authoritative servers and the resolvers, each once."""
    return tuple(dict.fromkeys((*dns.name_servers, *dns.resolvers)))


@dataclass(kw_only=True)
class Watch:
    """All servers of a name, each asked again and again. `behind_seconds`: how long ago the name was redirected."""

    dns: DnsName
    site: str
    behind_seconds: float = 0.0
    ask: Callable[..., Resolved] = ask
    _found: dict[str, Watched] = field(default_factory=dict)
    _answers: dict[str, Resolved] = field(default_factory=dict)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _over: bool = False

    @property
    def series(self) -> int:
        """How many new answers in a row it takes."""
        return WEIGHTED_SERIES if self.dns.policy == "weighted" else SERIES

    def until(
        self, patience_seconds: float, say: Callable[[str, float | None], None]
    ) -> tuple[dict[str, Watched], dict[str, Resolved]]:
        """Watch until all have turned or the patience ends: what was heard of each, and each one's last answer."""
        begin = time.monotonic()
        deadline = begin + patience_seconds
        self._found = {server: Watched(words=f"{server} does not answer") for server in servers(self.dns)}
        threads = [
            threading.Thread(target=self._follow, args=(server, begin, deadline), daemon=True, name=f"ask {server}")
            for server in self._found
        ]
        for thread in threads:
            thread.start()
        with self._news:
            while not converged(self._found, self.series) and (left := deadline - time.monotonic()) > 0:
                say(*self._progress())
                self._news.wait_for(lambda: converged(self._found, self.series), timeout=min(left, _SAY_EVERY_SECONDS))
            self._over = True
            return dict(self._found), dict(self._answers)

    def _follow(self, server: str, begin: float, deadline: float) -> None:
        pause, answer_seconds = _PAUSE_FIRST_SECONDS, ANSWER_FIRST_SECONDS
        while (left := deadline - time.monotonic()) > 0 and not self._over:
            asked = time.monotonic()
            try:
                answer = self.ask(server, self.dns, patience_seconds=min(answer_seconds, left))
            except Exception as error:  # noqa: BLE001 -- a server that breaks our reader has not answered
                answer = Resolved(outcome="silent", why=f"{type(error).__name__}: {error}")
            word = said(answer, self.dns, self.site)
            if word == "silent":
                if left < answer_seconds and time.monotonic() >= deadline:
                    return  # the watch's end cut the question short: that is no silence of the server's
                answer_seconds = min(2 * answer_seconds, ANSWER_MOST_SECONDS)
            with self._news:
                before = self._found[server]
                self._answers[server] = answer
                self._found[server] = after = heard(
                    before,
                    word,
                    at_seconds=self.behind_seconds + time.monotonic() - begin,
                    words=words(server, answer),
                )
                self._news.notify_all()
            if word == "new" and not turned(after, self.series):
                pause = _PAUSE_FIRST_SECONDS
            else:
                pause = min(pause * 1.3, _PAUSE_MOST_SECONDS)
            time.sleep(max(0.0, pause - (time.monotonic() - asked)))

    def _progress(self) -> tuple[str, float]:
        done = [server for server, each in self._found.items() if turned(each, self.series)]
        waits = [each.words for server, each in self._found.items() if server not in done]
        return f"{len(done)} of {len(self._found)} servers; waiting: {'; '.join(waits)}", len(done) / len(self._found)


def told(
    found: Mapping[str, Watched], answers: Mapping[str, Resolved], dns: DnsName, *, since: datetime, at: datetime
) -> Facts:
    """The figures of a watch in which all turned."""
    seconds = {server: round(each.new_seconds or 0.0, 3) for server, each in found.items()}
    ttl = (
        max(
            (answers[server].ttl_seconds or 0.0 for server in dns.name_servers if server in answers),
            default=0.0,
        )
        or dns.ttl.total_seconds()
    )
    tail, promise = max(seconds.values()), ttl + GRACE_SECONDS
    return {
        "asked": list(found),
        "servers": {
            server: {
                "seconds": seconds[server],
                "asks": each.asks,
                "kind": "name server" if server in dns.name_servers else "resolver",
            }
            for server, each in found.items()
        },
        "p50_seconds": percentile(seconds.values(), 0.5),
        "p99_seconds": percentile(seconds.values(), 0.99),
        "tail_seconds": tail,
        "promise_seconds": promise,
        "kept": tail <= promise,
        "since": rfc3339(since),
        "at": rfc3339(min(at, since + timedelta(seconds=tail))),
    }


def unfinished(found: Mapping[str, Watched], dns: DnsName, site: str, series: int = SERIES) -> DrError:
    """Why it did not converge: an old answer is a failure; one that was never heard leaves it unproven."""
    late = {server: each for server, each in found.items() if not turned(each, series)}
    heard_last = "; ".join(
        f"{each.words} only {each.series} of {series} times in a row" if each.last == "new" else each.words
        for each in late.values()
    )
    fact = f"{dns.name} is not {site}'s everywhere: {heard_last}"
    if any(each.last != "silent" for each in late.values()):
        return Failed(fact, hint="a resolver that keeps answers beyond their TTL has to be flushed by its owner")
    return Unproven(
        fact, hint="make it answer and order 'dr run retry', take it out of the catalog's list, or skip it on record"
    )


def redirected_at(scene: Scene, step: Step, site: str) -> datetime | None:
    """When the name's servers began to answer the site, by the redirect before this step; None where there was none."""
    before = scene.plan.before[step.id]
    moves = [
        each
        for each in scene.plan.order
        if each.id in before and each.verb == "redirect" and each.resource == step.resource
    ]
    if not moves or str(scene.arguments(moves[-1]).get("site")) != site:
        return None
    at = scene.results.get(moves[-1].id, {}).get("at")
    return datetime.fromisoformat(at) if isinstance(at, str) else None


def _site(step: Step, scene: Scene, stage: Stage) -> str:
    return str(scene.arguments(step).get("site") or stage.target)
