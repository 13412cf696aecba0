"""A home with a plan to consent to and hands that only pretend, for the words of `dr plan`, `approve`, `act`, `run`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import run as dr
from recovery.catalog import Catalog
from recovery.drive import Move, Seen, Truth
from recovery.errors import BadInput
from recovery.observation import Observation
from recovery.runbook import Runbook
from recovery.step import Step
from recovery.verb import VERBS
from tasks import acting, catalog_file, changing, keys, kinds, runbook_file
from tasks.kind import Facts, Scene, Verb
from tasks.runbook_file import Library
from tests.thought import failover_scene

PEOPLE = ("ann", "bob", "eve")


@dataclass
class Hands:
    """Does what a step asks by remembering it; `breaks` are steps that fail, `met` is called before each move."""

    breaks: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    met: Callable[[str], None] = lambda step: None

    def observe(self, step: Step, scene: Scene) -> Seen:
        held = step.id in self.done or scene.confirmed.get(step.id)
        return Seen(truth=Truth.HOLDS if held else Truth.ABSENT)

    def perform(self, move: Move, scene: Scene) -> Facts:
        self.met(move.step.id)
        if move.step.id in self.breaks:
            raise BadInput(f"{move.step.id} does not work", hint="mend it")
        self.done.add(move.step.id)
        return {"lsn": 7, "timeline": 2, "system_id": "7"}


BOOKS: dict[str, Runbook] = {}


def cache_of_books(load: Callable[..., Runbook]) -> Callable[..., Runbook]:
    """Shipped runbooks, read once: homes differ by their people only, and no runbook names people."""

    def once(named: str, books: Library, catalog: Catalog | None = None) -> Runbook:
        books.file(named)
        if named not in BOOKS:
            BOOKS[named] = load(named, books, catalog)
        return BOOKS[named]

    return once


class House:
    """A home of the example catalog with its own people, and what is seen of the world."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        text = failover_scene.EXAMPLE.read_text()
        text = re.sub(r"^  home: witness$", "  home: directory:ledger", text, flags=re.MULTILINE)
        text = re.sub(r"^  mirrors: \[west, east\]$", "  mirrors: []", text, flags=re.MULTILINE)
        for name in (*PEOPLE, "mallory", "engine"):
            card = keys.make(folder / "keys", name, "engine" if name == "engine" else "approver")
            text = re.sub(
                rf"(^    {name}:\n      key: )[0-9a-f]{{64}}", rf"\g<1>{card.fingerprint}", text, flags=re.MULTILINE
            )
        (folder / "catalog.yaml").write_text(text)
        self.seen: dict[str, Any] = {}
        self.hands = Hands()
        monkeypatch.setattr(changing, "observe", self.observe)
        monkeypatch.setattr(acting, "observe", self.observe)
        monkeypatch.setattr("tasks.observing.observe", self.observe)
        monkeypatch.setattr(kinds, "verbs", self.verbs)
        monkeypatch.setattr(kinds, "undo", lambda *_: {})  # hands that pretend have nothing to take back
        monkeypatch.setattr("tasks.catalog_file.load", cache(catalog_file.load))  # read once a home, not once a line
        monkeypatch.setattr("tasks.runbook_file.load", cache_of_books(runbook_file.load))
        monkeypatch.setenv("DR_HOME", str(folder))

    def verbs(self, stage: object) -> dict[str, Verb]:
        return dict.fromkeys(VERBS, self.hands)

    def observe(self, home: object, service: str, **_: object) -> Observation:
        return failover_scene.seen(**self.seen)

    def dr(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The document of a command that has to end with that code."""
        self._capsys.readouterr()
        got = dr([*words, "--json"])
        out, err = self._capsys.readouterr()
        assert got == code, f"{got} instead of {code}: {out}{err}"
        found: dict[str, Any] = json.loads(out)
        return found

    def refused(self, *words: str, code: int = 4) -> str:
        """Fact and hint of a command that has to end with that code."""
        error = self.dr(*words, code=code)["error"]
        return f"{error['fact']} | {error['hint']}"

    def people(self, *words: str, code: int = 0) -> str:
        """What people see, on both streams, lines joined."""
        self._capsys.readouterr()
        got = dr([*words])
        out, err = self._capsys.readouterr()
        assert got == code, f"{got} instead of {code}: {out}{err}"
        return " ".join((out + err).split())

    def plan(self, *words: str) -> str:
        return str(self.dr("plan", "failover", "--to", "west", *words)["digest"])
