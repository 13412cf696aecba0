"""Evidence: immutable records of single facts, chained per run and closed by a signed manifest. Pure.

Chains are per run, so that merging two copies of a ledger is a union (PLAN.md). A chain without its manifest is the
tail of a run that was killed: it reads as `unproven` until the run is ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from recovery.value import Instant, Value, canonical, sha256_of

GENESIS = "0" * 64


class Record(Value):
    """One fact of a run. `end` is None for a beginning; `rule` is the numbered rule that was applied, if any.

    `kind` is a dotted word: run.begun, step.begun, step.ended, step.failed, proof, backup, mark, refusal, missed…
    """

    schema_version: Literal[1] = 1
    run: str
    sequence: Annotated[int, Field(ge=0)]
    previous: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$")]
    subject: str
    digest: str = ""
    rule: str = ""
    begin: Instant
    end: Instant | None = None
    who: str
    generation: Annotated[int, Field(ge=0)] = 0
    facts: dict[str, JsonValue] = {}
    measures: dict[str, float] = {}

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical form, hexadecimal: what the next record carries as `previous`."""
        return sha256_of(self)

    @property
    def key(self) -> str:
        """Where the record lives in a ledger."""
        return record_key(self.run, self.sequence)


class Signature(Value):
    """An ed25519 signature: who, with which key (its fingerprint), and the 64 bytes as hexadecimal."""

    who: str
    key: str
    ed25519: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Manifest(Value):
    """The end of a run's chain: how many records, the last one's hash, the outcome."""

    schema_version: Literal[1] = 1
    run: str
    records: Annotated[int, Field(ge=1)]
    head: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    outcome: Annotated[str, Field(min_length=1)]
    ended_at: Instant
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What the signature covers: the manifest without it."""
        return canonical(self.but(signature=None))


def record_key(run: str, sequence: int) -> str:
    """The key of a run's record: its order in text is its order in the chain."""
    return f"runs/{run}/{sequence:08d}.json"


def manifest_key(run: str) -> str:
    """The key of a run's manifest."""
    return f"runs/{run}/manifest.json"


class Trouble(Value):
    """What is wrong with a chain: a change, a gap, a reordering, a bad signature."""

    run: str
    sequence: int | None
    fact: str


def chain_troubles(run: str, records: Sequence[tuple[str, Record]], manifest: Manifest | None) -> tuple[Trouble, ...]:
    """All that is wrong with one run's chain. `records` are (key, record) pairs in the ledger's order."""
    return link_troubles(run, [Link(key=key, record=record, hash=record.hash) for key, record in records], manifest)


class Link(Value):
    """A record as it is stored. `hash` is over the stored bytes: a chain outlives every change of the schema."""

    key: str
    record: Record
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def read_link(key: str, body: bytes) -> Link | str:
    """The record stored under `key`, or what is wrong with its bytes."""
    try:
        record = Record.model_validate_json(body)
        plain = canonical(json.loads(body))
    except ValueError:  # also of a figure that is no number: it has no canonical form
        return f"the document at {key} is not a record of a known schema"
    if plain != body:
        return f"the document at {key} is not in canonical form: its bytes were changed"
    return Link(key=key, record=record, hash=hashlib.sha256(body).hexdigest())


def read_manifest(run: str, body: bytes) -> Manifest | str:
    """The manifest stored for `run`, or what is wrong with its bytes."""
    try:
        return Manifest.model_validate_json(body)
    except ValueError:
        return f"the document at {manifest_key(run)} is not a manifest of a known schema"


def comes_behind(key: str, body: bytes) -> tuple[str, str] | None:
    """The record that a stored document of a run comes behind: its key and the hash that it must have. None for a first
    record, for other documents, and for what cannot be read."""
    folder = key.rpartition("/")[0]
    if not folder.startswith("runs/"):
        return None
    run = folder.removeprefix("runs/")
    if key == manifest_key(run):
        closing = read_manifest(run, body)
        return (record_key(run, closing.records - 1), closing.head) if isinstance(closing, Manifest) else None
    link = read_link(key, body)
    if isinstance(link, str) or not link.record.sequence:
        return None
    return record_key(run, link.record.sequence - 1), link.record.previous


def signed_bytes_of(body: bytes) -> bytes:
    """What the signature in a stored manifest covers, from its bytes: right for every schema version."""
    return canonical({**json.loads(body), "signature": None})


def link_troubles(run: str, links: Sequence[Link], manifest: Manifest | None) -> tuple[Trouble, ...]:
    """All that is wrong with one run's chain of stored records, in the ledger's order."""
    troubles: list[Trouble] = []
    previous, generation = GENESIS, 0
    for expected, link in enumerate(links):
        record = link.record
        facts: list[str] = []
        if record.run != run or link.key != record.key:
            facts.append(f"record {record.run}/{record.sequence} at {link.key}")
        if record.sequence != expected:
            facts.append(f"gap: found {record.sequence} in its place")
        if record.previous != previous:
            facts.append("does not follow the record before it")
        if record.generation < generation:
            facts.append(f"was written by a stale owner: generation {record.generation} after {generation}")
        troubles += [Trouble(run=run, sequence=expected, fact=fact) for fact in facts]
        previous, generation = link.hash, max(generation, record.generation)
    if manifest is not None and (manifest.run, manifest.records, manifest.head) != (run, len(links), previous):
        troubles.append(Trouble(run=run, sequence=None, fact="the manifest closes another chain"))
    return tuple(troubles)
