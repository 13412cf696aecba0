"""Runs as a ledger would tell them, made from few words: for the tests of status, scorecard and report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import JsonValue

from recovery.catalog import Catalog
from recovery.evidence import GENESIS, Record
from recovery.past import Past, past
from recovery.value import rfc3339

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

CATALOG: dict[str, Any] = {
    "schema": 1,
    "name": "test",
    "sites": {"east": {"role": "primary", "region": "a"}, "west": {"role": "recovery", "region": "b"}},
    "ledger": {"home": "west"},
    "objectives": {"critical": {"category": "user data", "rpo": "15 min", "rto": "30 min", "proof_age": "1 day"}},
    "backups": {
        "daily": {
            "full": {"schedule": {"cron": "0 3 * * *", "late_after": "1 h"}, "keep": "30 days"},
            "incremental": {"schedule": {"cron": "30 * * * *", "late_after": "10 min"}, "keep": "7 days"},
            "marks": {"cron": "15 * * * *", "late_after": "10 min"},
            "copies": ["east", "west"],
        }
    },
    "proofs": {
        "daily": {
            "schedule": {"cron": "0 5 * * *", "late_after": "2 h"},
            "deep": {"cron": "0 6 * * 0", "late_after": "2 h"},
            "site": "west",
        }
    },
    "services": {"platform": {"owner": "us", "resources": ["orders"]}},
    "resources": {
        "orders": {
            "kind": "postgres",
            "objective": "critical",
            "backup": "daily",
            "proof": "daily",
            "owner": "us",
            "bucket": "backups",
            "members": {"east": {"dsn": "host=x", "data_dir": "/d", "bin_dir": "/b"}},
        }
    },
}


def catalog(**changes: Any) -> Catalog:
    """The test's catalog, with these top-level keys replaced."""
    return Catalog.model_validate({**CATALOG, **changes})


def minutes(count: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=count)


def record(kind: str, at: datetime, facts: dict[str, Any], sequence: int = 0, **more: Any) -> Record:
    """A record of the run `ab`."""
    given = {"run": "ab", "sequence": sequence, "previous": GENESIS, "subject": "orders", "who": "me", **more}
    return Record(kind=kind, begin=at, facts=facts, **given)


def proof_facts(at: datetime, *, run: str, **changes: JsonValue) -> dict[str, JsonValue]:
    """A proof's document that ended at `at`."""
    return {
        "resource": "orders", "kind": "postgres", "sort": "latest", "run": run, "verdict": "met", "point": "f1 + i1",
        "target": "latest", "asked_at": rfc3339(at - timedelta(seconds=2)), "ended_at": rfc3339(at),
        "rpo_seconds": 1.5, "rto_seconds": 2.0,
        "phases": [{"name": "fetch", "seconds": 1.5}, {"name": "check", "seconds": 0.5}],
        "checks": [{"name": "target", "outcome": "passed", "fact": "reached"}],
        "findings": [], "leftovers": [], "planted": None, **changes,
    }  # fmt: skip


def proved(at: datetime, *, run: str = "aa", level: str = "daily", **changes: JsonValue) -> Past:
    """A run of a proof that ended at `at`."""
    facts = proof_facts(at, run=run, **changes)
    arguments = {"resource": facts["resource"], "sort": facts["sort"], "level": level}
    first = record("run.begun", at - timedelta(seconds=2), {"purpose": "prove", "arguments": arguments})
    last = record("run.ended", at, {"outcome": str(facts["verdict"])}, 2)
    return past(run, first=first, said=record("proof", at, facts, 1), last=last, records=3, signed=True)


def marked(at: datetime, *, outcome: str = "met") -> Past:
    """A mark's run that began at `at`."""
    first = record("run.begun", at, {"purpose": "mark", "arguments": {"resource": "orders"}})
    middle = record("mark", at, {"key": "k", "timeline": 1, "lsn": 7}, 1)
    last = record("run.ended", at + timedelta(seconds=3), {"outcome": outcome}, 2)
    return past("cc", first=first, said=middle, last=last, records=3, signed=True)


def backed_up(at: datetime, *, kind: str = "full", run: str = "bb", outcome: str = "met", **facts: JsonValue) -> Past:
    """A backup's run that began at `at`."""
    arguments = {"resource": "orders", "kind": kind}
    first = record("run.begun", at, {"purpose": "backup", "arguments": arguments})
    said = {"id": f"{at:%H%M}-{kind}", "kind": kind, "size_bytes": 1000, "stored_bytes": 100, **facts}
    middle = record("backup", at, said, 1, measures={"seconds": 3.0})
    last = record("run.ended", at + timedelta(seconds=3), {"outcome": outcome}, 2)
    return past(run, first=first, said=middle, last=last, records=3, signed=True)
