"""Confirming that there is no newer primary: helper threads ask the witness and, while it is silent, other agents.

Separate from the leash, whose own thread must never wait for anybody. Time is the kernel's that goes on while the
machine sleeps; a permit counts from before the question, so that an answer that took long gives no time away.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from recovery.errors import DrError, Failed
from recovery.term import WORD_SECONDS, Leashed, Permit, Term, leashed_key, newest
from recovery.value import canonical
from tasks.postgres import control
from tasks.postgres.leash_config import LeashConfig, Memory
from tasks.postgres.terms import read_small, term_of
from tasks.unanswered import why

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def ticks() -> float:
    """Seconds by a clock that nobody sets and that no sleep of the machine stops."""
    return time.clock_gettime(_CLOCK)


@dataclass(kw_only=True)
class Known:
    """What the helpers found out. Thread-safe."""

    lease_seconds: float
    term: Term | None = None
    confirmed_at: float | None = None
    confirmed_by: str = ""
    silent: dict[str, str] = field(default_factory=dict)
    foreign: bool = False
    """A server that is not the leash's child works in the data directory: no fence may rely on the leash's word."""
    trusted: bool = False
    """People let it run unconfirmed: until somebody has confirmed, it may not say that it is bound."""
    worded: Leashed | None = None
    """The word of ours that the witness took last."""
    wake: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def confirm(self, by: str, begun: float, term: Term | None) -> None:
        """Somebody answered a question that was begun then."""
        with self.lock:
            first = self.confirmed_at is None
            before = self.term
            self.term = newest(self.term, term)
            self.silent = {} if not by.startswith("agent of ") else {k: v for k, v in self.silent.items() if k != by}
            if self.confirmed_at is None or begun > self.confirmed_at:
                self.confirmed_at, self.confirmed_by = begun, by
            news = first or self.term != before
        if news:
            self.wake()

    def learn(self, term: Term) -> None:
        """A term that was told, not asked for: it is known from now on, and no permit comes of it."""
        with self.lock:
            self.term = newest(self.term, term)

    def binds_like(self, word: Leashed | None) -> bool:
        """Whether the witness has the server bound as that word says."""
        return self.worded == word or (word is not None and self.worded is not None and self.worded.binds_like(word))

    def fell_silent(self, by: str, why: str) -> None:
        """Somebody did not answer."""
        with self.lock:
            self.silent[by] = why

    def age_seconds(self) -> float:
        """How long ago the newest question that was answered began."""
        with self.lock:
            return float("inf") if self.confirmed_at is None else ticks() - self.confirmed_at

    def permit(self, trusted: int | None, *, margin_seconds: float = 0.0) -> Permit:
        """The permit as it is now, by so much less."""
        age = self.age_seconds()
        left = None if age == float("inf") else self.lease_seconds - age - margin_seconds
        return Permit(left_seconds=left, trusted=trusted)


def remembered(config: LeashConfig, memory: Memory, wake: Callable[[], None]) -> Known:
    """What an earlier leash of this server knew."""
    return Known(
        lease_seconds=config.lease_seconds,
        term=memory.term,
        trusted=memory.trusted is not None,
        worded=memory.worded,
        wake=wake,
    )


def begin(config: LeashConfig, known: Known) -> None:
    """Start the helpers; they end with the process."""
    askers: list[Callable[[], None]] = [lambda: _ask_witness(config, known)]
    askers += [
        lambda site=site, url=url: _ask_agent(config, known, site, url)  # type: ignore[misc]
        for site, url in config.other_agents.items()
    ]
    for ask in askers:
        threading.Thread(target=ask, daemon=True).start()


def _ask_witness(config: LeashConfig, known: Known) -> None:
    """The word comes before a confirmation only where it would bind the server in another way than the one that stands
    there: a witness that can be read and not written (a full disk) stops nobody."""
    name, small = config.witness.site, config.witness.small(config.patience_seconds)
    worded_at = -WORD_SECONDS

    def put(word: Leashed) -> float:
        small.put(leashed_key(config.resource, config.named), canonical(word))
        known.worded = word
        return ticks()

    while True:
        begun, word, trusted = ticks(), _word(config, known), known.trusted
        try:
            if known.foreign:
                small.delete(leashed_key(config.resource, config.named))
                worded_at = begun - WORD_SECONDS
            elif not known.binds_like(word):
                if trusted:
                    read_small(small, config.resource)  # it asks before it promises
                worded_at = begun = put(word)
            known.confirm(name, begun, read_small(small, config.resource))
            fresh = _word(config, known)  # a change of roles is told at once: a fence may go by it soon
            if trusted:
                worded_at = begun - WORD_SECONDS
            elif not known.foreign and (begun - worded_at >= WORD_SECONDS or not _told(known, fresh)):
                worded_at = put(fresh)
        except DrError as trouble:
            known.fell_silent(name, trouble.fact)
        time.sleep(max(0.02, config.every_seconds - (ticks() - begun)))


def _told(known: Known, word: Leashed) -> bool:
    """Whether the witness has this word, of whatever moment."""
    return known.worded is not None and known.worded.but(at=word.at) == word


def _ask_agent(config: LeashConfig, known: Known, site: str, url: str) -> None:
    """Only while nobody else has confirmed lately: two confirmations say no more than one. And only behind the word: a
    fence goes by what that says of the lease and of who is asked, so that one of an earlier configuration binds."""
    name = f"agent of {site}"
    while True:
        if known.age_seconds() < 1.3 * config.every_seconds:
            time.sleep(config.every_seconds / 5)
            continue
        if not known.binds_like(_word(config, known)):
            known.fell_silent(name, "not asked: the witness has not been told yet how this leash binds its server")
            time.sleep(config.every_seconds / 5)
            continue
        begun = ticks()
        try:
            known.confirm(name, begun, _of_agent(config, url))
        except DrError as trouble:
            known.fell_silent(name, trouble.fact)
        time.sleep(max(0.02, config.every_seconds / 2 - (ticks() - begun)))


def _of_agent(config: LeashConfig, url: str) -> Term | None:
    """The term as another site's agent knows it. Raises Failed."""
    there = urlsplit(url)
    kind = http.client.HTTPSConnection if there.scheme == "https" else http.client.HTTPConnection
    line = kind(there.netloc, timeout=config.patience_seconds)
    try:
        line.request("GET", f"/term?resource={config.resource}")
        answer = line.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200 or said["resource"] != config.resource:
            raise Failed(f"the agent at {url} answers {answer.status}", hint="see its log")
        return None if said["term"] is None else term_of(json.dumps(said["term"]).encode(), url)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise Failed(f"the agent at {url} does not answer: {why(error)}", hint="see whether it runs") from None
    finally:
        line.close()


def _word(config: LeashConfig, known: Known) -> Leashed:
    try:
        system = control.read(config.data_dir).system_id
    except Failed:  # no data yet, or just being made anew
        system = ""
    with known.lock:
        generation = 0 if known.term is None else known.term.generation
    return Leashed(
        resource=config.resource,
        site=config.site,
        member=config.named,
        lease_seconds=config.lease_seconds,
        clock_bound_seconds=config.clock_bound_seconds,
        asks=(config.witness.site, *config.other_agents),
        at=datetime.now(UTC),
        generation=generation,
        system_id=system,
    )
