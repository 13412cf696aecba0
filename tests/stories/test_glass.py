"""Break glass: no Prefect can be imported and its server hangs; the east is lost whole, control plane and S3 with it.
A laptop that has only the package, keys and an offline bundle plans, approves and acts; another home goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moved import home_of, lab, lost, primary, seen, whole

from deployments.lab.process import wait_until
from deployments.lab.world import World
from recovery.journal import BEGUN
from tasks import bundling, changing, keys
from tasks.engine import Act
from tasks.evidence import verify
from tasks.home import Home
from tasks.journal import read_records

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
NO_PREFECT = """
import pathlib, sys
class Never:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "prefect":
            pathlib.Path({mark!r}).write_text(name)
            raise ImportError("there is no Prefect here")
sys.meta_path.insert(0, Never())
"""


@dataclass(frozen=True, kw_only=True)
class Laptop:
    """A machine without a home: keys, a bundle, and a Prefect server in its environment that accepts and hangs."""

    folder: Path
    bundle: Path
    prefect_url: str

    @property
    def mark(self) -> Path:
        """Written by whoever tries to import Prefect."""
        return self.folder / "prefect-was-wanted"

    @property
    def environment(self) -> dict[str, str]:
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(NO_PREFECT.format(mark=str(self.mark)))
        return {
            "PATH": os.environ["PATH"], "PYTHONPATH": f"{site}:{ROOT}", "HOME": str(self.folder),
            "DR_HOME": str(self.folder / "own"), "PREFECT_API_URL": self.prefect_url,
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "deployments.cli.main", *words, "--bundle", str(self.bundle)]
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def dr(self, *words: str, code: int = 0) -> Any:
        """Its JSON document."""
        running = self.start(*words, "--json")
        out, err = running.communicate(timeout=120)
        assert running.returncode == code, (words, running.returncode, err)
        return json.loads(out)


@contextmanager
def hanging() -> Iterator[tuple[str, list[object]]]:
    """A server that accepts and never answers, and whom it has accepted."""
    met: list[object] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as door:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    met.append(door.accept())

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}/api", met


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab(tmp_path_factory.mktemp("glass") / "home") as made:
        yield made


def laptop(home: Home, folder: Path, url: str) -> Laptop:
    """Prepared on a quiet day: an engine's key of its own (its public half lies at the home), ann's, the bundle."""
    own = folder / "own" / "keys"
    keys.make(own, "engine-ann", "engine")
    at_home = home.folder / "keys"
    shutil.copy2(own / "engine-ann.pub", at_home)
    for name in ("ann.ed25519", "ann.pub", "engine.pub"):
        shutil.copy2(at_home / name, own / name)
    made = bundling.make(home, folder / "bundle.zip")
    assert made.silent == ()
    return Laptop(folder=folder, bundle=made.path, prefect_url=url)


def begun(home: Home, run: str) -> list[str]:
    return [str(each.facts["step"]) for each in read_records(home.ledger(), run) if each.kind == BEGUN]


def doors(home: Home, run: str) -> list[object]:
    records = read_records(home.ledger(), run)
    return [each.facts["door"] for each in records if each.kind in ("run.begun", "run.resumed")]


def hazards(shown: Any) -> Sequence[str]:
    return [word for each in shown["hazards"] for word in ("--accept", each["klass"])]


def test_a_laptop_with_a_bundle_fails_over_and_another_home_goes_on(world: World, tmp_path: Path) -> None:
    home = home_of(world)
    with hanging() as (url, met):
        glass = laptop(home, tmp_path, url)
        seen(world, "east")
        lost(world, "site:east")
        shown = glass.dr("plan", "failover", "--to", "west")
        digest = str(shown["digest"])
        assert glass.dr("act", digest, "--glass", code=4)["error"]["fact"].endswith("0 of 1 approvals")
        approved = glass.dr("approve", digest, "--as", "ann", *hazards(shown))
        assert approved["outcome"] == "approved"
        acting = glass.start("act", digest, "--glass")
        wait_until(
            lambda: "promote" in begun(home, digest) or acting.poll() is not None,
            what="the promotion's beginning", patience_seconds=60, hint="see the run",
        )  # fmt: skip
        acting.kill()
        acting.communicate()
        assert begun(home, digest).index("fence") < begun(home, digest).index("promote")
        plan = changing.find(home, digest)
        told = changing.act(Act(home=home), plan)
        assert told.stopped is None, told.stopped
        whole(home, world, plan, told)
        assert primary(world)[0] == "west"
        assert doors(home, digest) == ["glass", "dr"]
        assert glass.dr("act", digest, "--glass") == told.model_dump(mode="json"), "a finished run only reports"
        assert met == [], "nothing asked Prefect's server"
        assert not glass.mark.exists(), "nothing wanted Prefect"
    trusted = keys.engine_fingerprints(home.folder / "keys")
    report = verify(home.ledger(), trusted=trusted)
    assert report.troubles == (), report.troubles
    assert report.outcome.value == "passed"
    seen(world, "west")
