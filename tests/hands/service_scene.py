"""A service of small sites, and a stage on which its verbs act: for tests only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from recovery.catalog import Catalog
from recovery.drive import Move, Seen
from recovery.plan import Plan
from recovery.step import Mode, Step
from tasks import service
from tasks.home import Home
from tasks.kind import Facts, Opened, Scene
from tasks.signatures import Signer
from tasks.stage import Stage

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


def catalog(core: dict[str, Any], *, members: dict[str, Any] | None = None, **more: Any) -> Catalog:
    """A catalog of two sites and a witness with that service; `members` are of its one database."""
    there = {"dsn": "host=127.0.0.1 port=1", "data_dir": "/nowhere", "bin_dir": "/nowhere"}
    return Catalog.model_validate(
        {
            "schema": 1,
            "name": "test",
            "sites": {
                "east": {"role": "primary", "region": "us-east-1"},
                "west": {"role": "recovery", "region": "us-west-2"},
                "witness": {"role": "witness", "region": "us-east-2"},
            },
            "ledger": {"home": "directory:ledger"},
            "objectives": {"critical": {"category": "critical", "rpo": "15 min", "rto": "30 min"}},
            "backups": {
                "daily": {
                    "full": {"schedule": {"cron": "0 3 * * *"}, "keep": "30 days"},
                    "marks": {"cron": "15 * * * *"},
                    "copies": ["east", "west"],
                }
            },
            "proofs": {"daily": {"schedule": {"cron": "0 5 * * *"}, "site": "west"}},
            "services": {"core": {"owner": "team", "resources": ["db"], **core}},
            "resources": {
                "db": {
                    "kind": "postgres",
                    "objective": "critical",
                    "backup": "daily",
                    "proof": "daily",
                    "owner": "team",
                    "bucket": "b",
                    "members": members or {"east": there},
                    **more.pop("database", {}),
                }
            },
            **more,
        }
    )


class Act:
    """One verb's step on a stage: `observe` and `perform` as the loop calls them; what it performed is remembered."""

    def __init__(
        self,
        folder: Path,
        made: Catalog,
        verb: str,
        *,
        live: bool = True,
        stage: dict[str, Any] | None = None,
        **step: Any,
    ) -> None:
        self.step = Step(id="it", verb=verb, resource="core", **{"patience_seconds": 1.0, **step})
        self.plan = Plan(
            purpose="failover",
            runbook="failover",
            runbook_version="1",
            service="core",
            asked_at=NOW,
            pinned={"from": "east", "to": "west", "live": live},
            mode=Mode.UNGRACEFUL,
            steps=(self.step,),
        )
        home = Home(folder=folder, catalog=made)
        self.verb = Opened(service.PLACES, Stage(home=home, plan=self.plan, sign=cast("Signer", None), **stage or {}))[
            verb
        ]
        self.results: dict[str, Facts] = {}
        self.confirmed: dict[str, str] = {}
        self.said: list[str] = []

    def scene(self) -> Scene:
        return Scene(
            plan=self.plan,
            results=self.results,
            attempts={},
            now=lambda: NOW,
            say=lambda text, _share: self.said.append(text),
            mode=Mode.UNGRACEFUL,
            confirmed=self.confirmed,
        )

    def observe(self) -> Seen:
        return self.verb.observe(self.step, self.scene())

    def perform(self) -> dict[str, Any]:
        self.results["it"] = facts = self.verb.perform(Move(step=self.step, attempt=1), self.scene())
        return facts
