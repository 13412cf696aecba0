"""Names to be moved: small name servers over UDP, a catalog that names them, a stage for the verbs. No tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import dns.message
import dns.rcode
import dns.rrset

from recovery.catalog import Catalog
from recovery.drive import Move, Seen
from recovery.plan import Plan
from recovery.step import Mode, Step
from tasks.home import Home
from tasks.kind import Facts, Opened, Scene, Verb
from tasks.route53 import PLACES
from tasks.signatures import Signer
from tasks.stage import Outcome, Stage

EAST, WEST = "192.0.2.10", "192.0.2.20"
Values = Callable[[str], list[str]]
"""Name (lower case, no last dot) → the values of its A records."""


class NameServer:
    """Answers as `values` says now. `manner`: `well`, `silent`, `garbage`, or the name of an rcode."""

    def __init__(self, values: Values, *, ttl: int = 1) -> None:
        self.values, self.ttl = values, ttl
        self.manner = "well"
        self.slow_seconds = 0.0
        self.asked = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        self.thread.join(2)
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                wire, asker = self.socket.recvfrom(4096)
            except OSError:
                return
            if not wire:
                return
            self.asked += 1
            if self.manner != "silent":
                threading.Thread(target=self._answer, args=(wire, asker), daemon=True).start()

    def _answer(self, wire: bytes, asker: Any) -> None:
        time.sleep(self.slow_seconds)
        said = wire[:2] + b"\xff" * 30 if self.manner == "garbage" else self._said(wire)
        try:
            self.socket.sendto(said, asker)
        except OSError:
            return  # the test has ended

    def _said(self, wire: bytes) -> bytes:
        question = dns.message.from_wire(wire)
        answer = dns.message.make_response(question)
        if self.manner != "well":
            answer.set_rcode(dns.rcode.from_text(self.manner))
            return answer.to_wire()
        name = question.question[0].name
        values = self.values(name.to_text(omit_final_dot=True).lower())
        if values:
            answer.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "A", *values))
        return answer.to_wire()


@contextmanager
def name_server(values: Values, *, ttl: int = 1) -> Iterator[NameServer]:
    made = NameServer(values, ttl=ttl)
    try:
        yield made
    finally:
        made.end()


def always(*values: str) -> Values:
    return lambda _name: list(values)


def catalog(**given: Any) -> Catalog:
    """Two sites and the name app; `dns`, `health_checks`, `routing`, `route53`, `s3` and `drain` as given."""
    at_site = {"region": "eu-west-1", "s3": given.pop("s3", {})}
    service = {"owner": "us", "resources": ["db"], "dns": list(given.get("dns", {})), "drain": given.pop("drain", {})}
    return Catalog.model_validate(
        {
            "schema": 1,
            "name": "test",
            "sites": {
                "east": {"role": "primary", **at_site},
                "west": {"role": "recovery", **at_site},
            },
            "ledger": {"home": "directory:ledger"},
            "objectives": {},
            "backups": {},
            "proofs": {},
            "services": {"platform": service},
            "resources": {},
            **given,
        }
    )


def app(
    *servers: str,
    resolvers: tuple[str, ...] = (),
    moved_by: str = "health-check",
    check: str | None = None,
    controls: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The name app.lab.test with a record at each site."""
    name = more.pop("label", "app")
    east = {"value": EAST, "set_identifier": f"{name}-east", "health_check": check}
    west = {"value": WEST, "set_identifier": f"{name}-west"}
    if controls:
        east["control"], west["control"] = f"{name}-east", f"{name}-west"
    return {
        "name": f"{name}.lab.test",
        "zone": "lab.test",
        "zone_id": more.pop("zone_id", "Z0EXAMPLE"),
        "ttl": "1 s",
        "moved_by": moved_by,
        "records": {"east": east, "west": west},
        "name_servers": list(servers),
        "resolvers": list(resolvers),
        **more,
    }


@dataclass(kw_only=True)
class Play:
    """One run on that catalog: it remembers what each step gave, as a journal would."""

    catalog: Catalog
    folder: Path
    steps: tuple[Step, ...]
    live: bool = True
    mode: Mode = Mode.UNGRACEFUL
    probes: Mapping[str, Outcome] | Callable[[str], Mapping[str, Outcome]] = field(
        default_factory=lambda: {"serves": "passed"}
    )
    results: dict[str, Facts] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    may_act: Callable[[], None] = lambda: None
    source: str = "east"
    target: str = "west"

    @property
    def stage(self) -> Stage:
        def ask(site: str) -> Mapping[str, Outcome]:
            return self.probes(site) if callable(self.probes) else self.probes

        home = Home(folder=self.folder, catalog=self.catalog)
        return Stage(home=home, plan=self.plan, sign=cast("Signer", None), ask=ask)

    @property
    def plan(self) -> Plan:
        return Plan(
            purpose="failover",
            runbook="failover",
            runbook_version="1",
            service="platform",
            asked_at=datetime(2026, 11, 24, tzinfo=UTC),
            pinned={"from": self.source, "to": self.target, "live": self.live},
            steps=self.steps,
        )

    @property
    def scene(self) -> Scene:
        return Scene(
            plan=self.plan,
            results=self.results,
            attempts={},
            now=lambda: datetime.now(UTC),
            say=lambda text, _share: self.said.append(text),
            mode=self.mode,
            may_act=self.may_act,
        )

    def verb(self, step: Step) -> Verb:
        return Opened(PLACES, self.stage)[step.verb]

    def perform(self, step_id: str) -> Facts:
        """Perform it, and remember the facts."""
        step = self.plan.step(step_id)
        facts = self.verb(step).perform(Move(step=step, attempt=1), self.scene)
        self.results[step_id] = facts
        return facts

    def observe(self, step_id: str) -> Seen:
        step = self.plan.step(step_id)
        return self.verb(step).observe(step, self.scene)


def step(verb: Literal["redirect", "converge", "drain", "fence"], resource: str = "app", **more: Any) -> Step:
    """A step named after its verb. Arguments: `site`, `by`, `shift`, `patience`."""
    words = {key: more.pop(key) for key in ("site", "by", "shift", "patience") if key in more}
    if verb in ("redirect", "converge"):
        words.setdefault("site", "west")
    more.setdefault("patience_seconds", 20.0)
    return Step(id=more.pop("id", verb), verb=verb, resource=resource, arguments=words, **more)
