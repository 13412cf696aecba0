"""The term where it is kept: at the witness (compare-and-put), and the copy that each agent holds for itself.

Separate from the decision (recovery/term.py) and from the fence: leash, agent and engine all read terms, and only the
engine writes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue, ValidationError

from recovery.errors import DrError, Failed, Refused
from recovery.term import Leashed, Ours, Overtaken, Term, Write, leashed_key, newest, next_term, term_key
from recovery.value import canonical, rfc3339
from tasks.postgres.agent_memory import utc_now
from tasks.postgres.orders import write_durably
from tasks.s3_small import SmallObjects
from tasks.store import Changed, Store

_MOST_RACES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class WitnessTerms:
    """Terms and leashes' words in the bucket of leases. Raises Failed when it does not answer."""

    store: Store

    def read(self, resource: str) -> Term | None:
        """The term, or None before any change of roles."""
        found = self.store.get(term_key(resource))
        return None if found is None else term_of(found[0], term_key(resource))

    def write(self, wanted: Term) -> Term:
        """Make it hold; gives the stored one, which may have been written before. Raises Refused for a newer one."""
        key = term_key(wanted.resource)
        for _ in range(_MOST_RACES):
            found = self.store.get(key)
            stored = None if found is None else term_of(found[0], key)
            match next_term(stored, wanted):
                case Overtaken(by=by):
                    raise overtaken(by)
                case Ours(term=term):
                    return term
                case Write(term=term):
                    try:
                        self.store.replace(key, canonical(term), found[1].etag if found else None)
                    except Changed:
                        continue
                    return term
        raise Failed(
            f"the term of {wanted.resource} changed {_MOST_RACES} times while it was being written",
            hint="see who else changes roles ('dr runs'), and act again",
        )

    def carry(self, told: Term) -> None:
        """Put a term there that was decided elsewhere, as it is; one that is as new as it stays, whatever it says."""
        key = term_key(told.resource)
        for _ in range(_MOST_RACES):
            found = self.store.get(key)
            if found is not None and term_of(found[0], key).order >= told.order:
                return
            with suppress(Changed):
                self.store.replace(key, canonical(told), found[1].etag if found else None)
                return

    def leashed(self, resource: str, member: str) -> Leashed | None:
        """A leash's word about a member, or None when it never had one."""
        found = self.store.get(leashed_key(resource, member))
        return None if found is None else leashed_of(found[0])


@dataclass(kw_only=True)
class OwnTerm:
    """An agent's own copy of its resource's term, on disk."""

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> Term | None:
        """The copy, or None."""
        try:
            return term_of(self.path.read_bytes(), str(self.path))
        except FileNotFoundError:
            return None

    def accept(self, term: Term) -> Term:
        """Keep a term that is not older; gives what is kept now. Raises Refused for an older one, or for another
        primary in the same generation and turn."""
        with self._lock:
            known = self.read()
            if known is not None and (term.order < known.order or (term.order == known.order and term != known)):
                if term.order == known.order and term.primary == known.primary:
                    return known
                raise overtaken(known)
            write_durably(self.path, canonical(term))
            return term


@dataclass(kw_only=True)
class Asking:
    """What an agent answers to `GET /term`: its own copy and, within a bounded time, the witness's."""

    own: OwnTerm
    resource: str
    witness: SmallObjects | None
    now: Callable[[], datetime] = utc_now

    def answer(self) -> JsonValue:
        """`term` is the newest known, None when there is none; `witness` says when it was asked, or why not."""
        mine, best, told = self._ask()
        return {
            "resource": self.resource,
            "term": None if best is None else best.model_dump(mode="json"),
            "own": None if mine is None else mine.model_dump(mode="json"),
            "witness": told,
        }

    def ask(self) -> tuple[Term | None, bool]:
        """The newest term that is known, and whether the witness answered just now."""
        _, best, told = self._ask()
        return best, told["answered"] is True

    def _ask(self) -> tuple[Term | None, Term | None, dict[str, JsonValue]]:
        mine = self.own.read()
        told: dict[str, JsonValue] = {"answered": False, "why": "not configured"}
        theirs: Term | None = None
        if self.witness is not None:
            begun, at = time.monotonic(), self.now()
            try:
                theirs = read_small(self.witness, self.resource)
                told = {"answered": True, "at": rfc3339(at), "seconds": round(time.monotonic() - begun, 3)}
            except DrError as trouble:
                told = {"answered": False, "why": trouble.fact}
        return mine, newest(mine, theirs), told


def read_small(witness: SmallObjects, resource: str) -> Term | None:
    """The witness's term, by one bounded request. Raises Failed."""
    body = witness.get(term_key(resource))
    return None if body is None else term_of(body, term_key(resource))


def term_of(body: bytes, where: str) -> Term:
    """A term as it is stored. Raises Failed when it is none: then nothing is confirmed."""
    try:
        return Term.model_validate_json(body)
    except ValidationError:
        raise Failed(f"{where} is no term of a known schema", hint="look at it before any role is changed") from None


def leashed_of(body: bytes) -> Leashed:
    """A leash's word as it is stored. Raises Failed when it is none."""
    try:
        return Leashed.model_validate_json(body)
    except ValidationError:
        raise Failed(
            "a leash's word at the witness is of no known schema", hint="look at it; start the leash again"
        ) from None


def overtaken(by: Term) -> Refused:
    """The refusal of an older change."""
    return Refused(
        f"{by.resource} is in generation {by.generation}: run {by.run[:12]} made {by.primary} its primary",
        hint="this run has been overtaken: make a new plan with 'dr plan'",
    )
