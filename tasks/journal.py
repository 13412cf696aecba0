"""The journal: appends a run's facts to its chain in a ledger, from any machine, one owner at a time.

Separate from the ledger, which knows keys and bytes only. A record's place in the chain is its key, and a key is
written once: two processes that append at the same moment are told apart by the ledger, not by a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from hashlib import sha256

from pydantic import JsonValue

from recovery.errors import Failed, Refused
from recovery.evidence import (
    GENESIS,
    Link,
    Manifest,
    Record,
    Signature,
    manifest_key,
    read_link,
    read_manifest,
    record_key,
)
from recovery.journal import RUN_ENDED, generation, outcome
from recovery.value import canonical
from tasks.endorsements import publish
from tasks.ledger import Ledger
from tasks.signatures import Signer
from tasks.store import AlreadyThere

Sign = Callable[[bytes], Signature]


class Damaged(Failed):
    """The ledger answers, and what it holds of a run is not whole: forked, cut or changed. Waiting mends nothing."""


_MOST_CONFLICTS = 64
_READERS = 16


class Journal:
    """One run's chain, opened at its tail. Thread-safe. Opening reads the run's records, appending reads nothing.

    Raises Refused when a newer generation has written to the run, Failed when the stored chain is not whole.
    """

    def __init__(
        self, ledger: Ledger, run: str, *, who: str, generation: int, clock: Callable[[], datetime], digest: str = ""
    ) -> None:
        self.run = run
        self._ledger = ledger
        self._who = who
        self._generation = generation
        self._clock = clock
        self._digest = digest
        self._alone = False
        self._tried: set[str] = set()
        """Hashes of records that were sent to the ledger and whose answer has not come: they may lie there."""
        self._lock = threading.Lock()
        self._links = read_chain(ledger, run)
        self._refuse_stale()

    def records(self, since: int = 0) -> tuple[Record, ...]:
        """All records of the run that are known here, in order, without the first `since`."""
        with self._lock:
            return tuple(link.record for link in self._links[since:])

    def alone(self) -> None:
        """From here on whatever else is found behind our records is nobody's: an older engine is told apart by the
        record that we have written in our generation, a newer one by its own. Appending then raises Refused."""
        self._alone = True

    def append(
        self,
        kind: str,
        subject: str,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        rule: str = "",
        facts: Mapping[str, JsonValue] | None = None,
        measures: Mapping[str, float] | None = None,
    ) -> Record:
        """Write one fact behind the last, durably. `begin` is now when it isn't given; `end` None is a beginning.

        Raises Refused when the run is ended or driven by a newer owner, and what the ledger raises when it can't write.
        """
        begin = begin if begin is not None else self._clock()
        with self._lock:
            return self._append(kind, subject, begin, end, rule, dict(facts or {}), dict(measures or {}))

    def end(self, outcome_: str, sign: Sign) -> Manifest:
        """Close the chain: a `run.ended` record, which nothing can follow, then the signed manifest.

        The same call after a crash between the two writes what is missing; a finished run gives its manifest again.
        """
        with self._lock:
            ended = outcome(self._records())
            if ended is None:
                now = self._clock()
                self._append(RUN_ENDED, self.run, now, now, "", {"outcome": outcome_}, {})
            return self._close(ended or outcome_, sign)

    def _close(self, outcome_: str, sign: Sign) -> Manifest:
        key = manifest_key(self.run)
        draft = Manifest(
            run=self.run,
            records=len(self._links),
            head=self._links[-1].hash,
            outcome=outcome_,
            ended_at=self._links[-1].record.begin,
        )
        if isinstance(sign, Signer):
            publish(self._ledger, sign.public_pem)  # first, so that no manifest is ever without its key
        manifest = draft.model_copy(update={"signature": sign(draft.signed_bytes())})
        try:
            self._ledger.put(key, canonical(manifest))
        except AlreadyThere:
            found = read_manifest(self.run, self._ledger.get(key) or b"")
            if isinstance(found, str):
                raise _not_whole(self.run, found) from None
            return found
        return manifest

    def _append(
        self,
        kind: str,
        subject: str,
        begin: datetime,
        end: datetime | None,
        rule: str,
        facts: dict[str, JsonValue],
        measures: dict[str, float],
    ) -> Record:
        for _ in range(_MOST_CONFLICTS):
            self._refuse_ended()
            record = Record(
                run=self.run,
                sequence=len(self._links),
                previous=self._links[-1].hash if self._links else GENESIS,
                kind=kind,
                subject=subject,
                digest=self._digest,
                rule=rule,
                begin=begin,
                end=end,
                who=self._who,
                generation=self._generation,
                facts=facts,
                measures=measures,
            )
            body = canonical(record)
            self._tried.add(hash_ := sha256(body).hexdigest())
            try:
                self._ledger.put(record.key, body)
            except AlreadyThere:
                if self._ledger.get(record.key) != body:  # else an earlier try of ours, whose answer was lost
                    self._tried.discard(hash_)
                    self._catch_up()
                    continue
            self._tried.discard(hash_)
            self._links.append(Link(key=record.key, record=record, hash=hash_))
            return record
        raise Failed(
            f"run {self.run[:12]} was written to by others {_MOST_CONFLICTS} times in a row",
            hint="see who drives it with 'dr show'; one run is driven by one engine at a time",
        )

    def _records(self) -> tuple[Record, ...]:
        return tuple(link.record for link in self._links)

    def _catch_up(self) -> None:
        """Read what others wrote behind our tail. Raises Refused when a newer owner was among them."""
        fresh: list[Link] = []
        known = len(self._links)
        while (body := self._ledger.get(key := record_key(self.run, known + len(fresh)))) is not None:
            link = _link(self.run, key, body)
            last = (fresh or self._links)[-1:]
            _refuse_another_chain(self.run, link, last[0].hash if last else GENESIS)
            fresh.append(link)
        if not fresh:
            raise Failed(
                f"the ledger says that record {known} of run {self.run[:12]} exists, but does not give it",
                hint=f"look at {self._ledger.place}; 'dr evidence verify' says what is wrong with it",
            )
        foreign = [each.record for each in fresh if each.hash not in self._tried]
        if self._alone and foreign and generation(foreign) <= self._generation:
            # It is not taken in: what it says must not be gone by, not even in another thread.
            raise Refused(
                f"record {foreign[0].sequence} of run {self.run[:12]} ({foreign[0].kind}) was written by somebody else,"
                " while this engine alone drives it",
                hint=f"see who writes to {self._ledger.place}, then act again: what people ordered is held against what"
                " they signed",
            )
        self._links += fresh
        self._refuse_stale()

    def _refuse_stale(self) -> None:
        newest = generation(self._records())
        if newest > self._generation:
            owner = next(link.record.who for link in self._links if link.record.generation == newest)
            raise Refused(
                f"run {self.run[:12]} was taken over by {owner} in generation {newest}; ours is {self._generation}",
                hint="leave it to the newer owner, or act again to take the lease and resume",
            )

    def _refuse_ended(self) -> None:
        ended = outcome([link.record for link in self._links[-1:]])
        if ended is not None:
            raise Refused(
                f"run {self.run[:12]} is ended ({ended}); nothing can be added to its records",
                hint="make a new plan to begin again",
            )


def read_chain(ledger: Ledger, run: str) -> list[Link]:
    """The stored chain of a run, for going on with it. Raises Damaged when it is not whole."""
    keys = [key for key in ledger.list(f"runs/{run}/") if key != manifest_key(run)]
    for number, key in enumerate(keys):
        if key != record_key(run, number):
            raise _not_whole(run, f"found {key} in the place of record {number}")
    with ThreadPoolExecutor(
        _READERS, thread_name_prefix="chain"
    ) as pool:  # one after the other, a far home costs seconds
        links = [_link(run, key, body or b"") for key, body in zip(keys, pool.map(ledger.get, keys), strict=True)]
    previous = GENESIS
    for link in links:
        _refuse_another_chain(run, link, previous)
        previous = link.hash
    return links


def _refuse_another_chain(run: str, link: Link, previous: str) -> None:
    if link.record.previous != previous:
        raise _not_whole(run, f"record {link.record.sequence} does not follow the record before it")


def read_records(ledger: Ledger, run: str) -> tuple[Record, ...]:
    """The records of a run in order, for looking at it. Raises Damaged when the chain is not whole."""
    return tuple(link.record for link in read_chain(ledger, run))


def _link(run: str, key: str, body: bytes) -> Link:
    link = read_link(key, body)
    if isinstance(link, str):
        raise _not_whole(run, link)
    if link.record.key != key:
        raise _not_whole(run, f"record {link.record.key} lies at {key}")
    return link


def _not_whole(run: str, fact: str) -> Damaged:
    return Damaged(
        f"the records of run {run[:12]} are not whole: {fact}",
        hint="'dr evidence verify' lists all that is wrong; take the records from a mirror, or make a new plan",
    )
