"""The leash on a real Postgres: it stops the server when nobody confirms any more, and stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.lab.environment import for_python
from deployments.lab.parts import postgres_bin_dir
from deployments.lab.postgres import server
from recovery.errors import Failed
from recovery.term import Leashed, Term, leashed_key, term_key
from recovery.value import canonical
from tasks.postgres.agent_http import Door
from tasks.postgres.leash_config import read_state
from tasks.postgres.leash_control import LeashControl
from tasks.postgres.run_as import give
from tasks.postgres.stopping import control_state, servers_in
from tests.hands.faulty_s3 import Faults, faulty_s3

LEASE_SECONDS = 1.0
BOUND_SECONDS = 0.2
PORT = 5432


def eventually(holds: Callable[[], Any], what: str, patience_seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + patience_seconds
    while True:
        if found := holds():
            return found
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.01)


@dataclass(kw_only=True)
class Site:
    """A server, its leash (not running yet), and the witness that both ask."""

    folder: Path
    runtime: Path
    witness: Faults
    endpoint: str
    processes: list[subprocess.Popen[bytes]]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def control(self) -> LeashControl:
        return LeashControl(path=self.runtime / "leash")

    @property
    def dsn(self) -> str:
        return f"host={self.runtime} port={PORT} user=postgres dbname=postgres"

    def begin(self, **more: Any) -> subprocess.Popen[bytes]:
        config = {
            "resource": "orders-db", "site": "east", "data_dir": str(self.data), "control": str(self.runtime / "leash"),
            "witness": {
                "site": "witness", "bucket": "leases", "endpoint_url": self.endpoint, "credentials": "env:FAULTY",
            },
            "lease_seconds": LEASE_SECONDS, "clock_bound_seconds": BOUND_SECONDS, **more,
        }  # fmt: skip
        file = self.folder / "leash-config.json"
        file.write_text(json.dumps(config))
        words = [sys.executable, "-m", "tasks.postgres.leash", str(file), "--"]
        words += [str(postgres_bin_dir() / "postgres"), "-D", str(self.data)]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                words, env={**os.environ, **for_python(), **server.clean_environment()}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def is_in(self, word: str, patience_seconds: float = 15.0) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            try:
                said = self.control.status()
            except Failed:
                return None
            return said if said["state"] == word else None

        try:
            return eventually(there, f"state {word}", patience_seconds)  # type: ignore[no-any-return]
        except AssertionError as error:
            log = (self.folder / "log").read_text()[-2000:]
            raise AssertionError(f"{error}: {read_state(self.folder)}\n{log}") from None

    def term(self, primary: str, generation: int = 1) -> None:
        said = Term(resource="orders-db", generation=generation, primary=primary, run="r" * 64, at=datetime.now(UTC))
        self.witness.objects[f"/leases/{term_key('orders-db')}"] = canonical(said)

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn, connect_timeout=2):
                return True
        except psycopg.Error:
            return False


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("template") / "data"
    server.initdb(postgres_bin_dir(), data, auth=["--auth=trust"])
    server.configure(data, {"listen_addresses": "", "port": str(PORT), "fsync": "off", "shared_buffers": "8MB"})
    return data


@contextmanager
def raised(folder: Path, template: Path) -> Iterator[Site]:
    folder.mkdir(exist_ok=True)
    shutil.copytree(template, folder / "data")
    give(folder / "data")
    with ExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="standfast-")))
        give(runtime)
        server.configure(folder / "data", {"unix_socket_directories": str(runtime)}, file="socket.conf")
        endpoint, faults = stack.enter_context(faulty_s3())
        site = Site(
            folder=folder, runtime=runtime, witness=faults, endpoint=str(endpoint.endpoint_url), processes=[]
        )  # fmt: skip
        try:
            yield site
        finally:
            for process in site.processes:
                process.kill()
                process.wait()
            eventually(lambda: not servers_in(site.data), "the end of every server")


@pytest.fixture
def site(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "b")
    with raised(tmp_path / "site", template) as made:
        yield made


def test_a_primary_runs_while_the_witness_confirms_and_ends_cleanly_when_asked(site: Site):
    process = site.begin()
    said = site.is_in("running")
    assert site.answers()
    assert said["pid"] == int((site.data / "postmaster.pid").read_text().split()[0])
    assert said["confirmed_by"] == "witness"
    word = Leashed.model_validate_json(site.witness.objects[f"/leases/{leashed_key('orders-db', 'east')}"])
    assert (word.site, word.lease_seconds, word.asks) == ("east", LEASE_SECONDS, ("witness",))
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert control_state(site.data) == "shut down"
    assert not servers_in(site.data)


def test_a_silent_witness_stops_it_within_the_lease_and_its_word_brings_it_back(site: Site):
    site.begin()
    pid = site.is_in("running")["pid"]
    busy = psycopg.connect(site.dsn)  # a session that is in the middle of something ends as well
    site.witness.always = "503 ServiceUnavailable"
    begun = time.monotonic()
    eventually(lambda: not servers_in(site.data), "the server's end")
    took = time.monotonic() - begun
    assert took <= LEASE_SECONDS + BOUND_SECONDS
    assert took >= LEASE_SECONDS / 4, "it lasts a while: one silence is none"
    busy.close()
    said = site.is_in("asking")
    assert "confirms any more" in said["why"]
    assert "witness" in said["silent"]
    site.witness.always = ""
    assert site.is_in("running")["pid"] != pid


def test_a_newer_primary_stops_it_at_once_and_it_stays_held_over_a_restart(site: Site):
    process = site.begin()
    site.is_in("running")
    site.term("west")
    said = site.is_in("held")
    assert "west is the primary of orders-db since generation 1" in said["why"]
    assert not servers_in(site.data)
    process.kill()
    process.wait()
    site.witness.always = "503 ServiceUnavailable"
    again = site.begin()
    said = site.is_in("held")
    assert (said["generation"], said["pid"]) == (1, None), "it remembers what nobody tells it now"
    again.terminate()
    assert again.wait(10) == 0


def test_a_would_be_primary_is_not_started_before_somebody_confirms(site: Site):
    site.witness.always = "503 ServiceUnavailable"
    site.begin()
    assert "nobody has confirmed yet" in site.is_in("asking")["why"]
    assert not servers_in(site.data)
    site.witness.always = ""
    site.is_in("running")


def test_kill_9_of_the_leash_ends_the_server_and_all_its_sessions(site: Site):
    process = site.begin()
    site.is_in("running")
    with closing(psycopg.connect(site.dsn, autocommit=True)) as busy:
        busy.pgconn.send_query(b"select count(*) from generate_series(1, 100000000000)")
        assert len(servers_in(site.data)) > 2
        process.kill()
        process.wait()
        eventually(lambda: not servers_in(site.data), "the end of postmaster and sessions", 5)


def test_when_the_server_dies_by_itself_so_does_the_leash_with_its_code(site: Site):
    process = site.begin()
    pid = site.is_in("running")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert process.wait(10) == 128 + signal.SIGKILL
    assert not servers_in(site.data)


def test_an_order_to_stop_is_kept_and_one_to_start_takes_it_back(site: Site):
    process = site.begin()
    site.is_in("running")
    said = site.control.stop("order-1", "stopped by order-1", fast_seconds=5, patience_seconds=10)
    assert (said["state"], said["pid"], said["held_by"]) == ("held", None, "order-1")
    assert control_state(site.data) == "shut down", "a clean end"
    process.kill()
    process.wait()
    site.begin()
    assert site.is_in("held")["why"] == "stopped by order-1"
    said = site.control.start("order-2", patience_seconds=10)
    assert said["state"] == "running"
    site.control.stop("order-3", "x", fast_seconds=0, patience_seconds=10)
    assert control_state(site.data) == "in production", "an immediate end"
    site.term("west")
    time.sleep(2 * LEASE_SECONDS / 4)
    assert site.control.start("order-4", patience_seconds=10)["state"] == "held"


def test_a_standby_needs_no_permit_and_a_promoted_one_does(site: Site):
    (site.data / "standby.signal").touch()
    site.witness.always = "503 ServiceUnavailable"
    site.begin()
    said = site.is_in("running")
    assert said["standby"]
    assert said["permit_seconds"] is None
    site.witness.always = ""
    site.term("east")
    eventually(lambda: site.control.status()["generation"] == 1, "the term")
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        sql.execute("select pg_promote(true, 20)")
        assert sql.execute("select pg_is_in_recovery()").fetchone() == (False,)
    assert site.is_in("running")["standby"] is False
    site.witness.always = "503 ServiceUnavailable"
    site.is_in("asking")
    assert not servers_in(site.data)


def test_a_signal_file_in_a_running_primary_is_for_its_next_start_and_frees_it_of_nothing(site: Site):
    """A printed page has people write it before they stop the server, and so does anybody by mistake."""
    site.term("east")
    site.begin()
    site.is_in("running")
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        sql.execute(f"copy (select where false) to '{site.data}/standby.signal'")
    assert site.control.status()["standby"] is False
    site.witness.always = "503 ServiceUnavailable"
    eventually(lambda: not servers_in(site.data), "its end")
    assert site.control.status()["standby"], "started again it is a standby, which needs no permit"
    site.is_in("running")


def test_a_standby_told_of_the_newer_term_is_promoted_without_being_stopped_for_the_older(site: Site):
    """The engine promotes within a fraction of the time between two questions to the witness."""
    (site.data / "standby.signal").touch()
    site.term("west", 1)
    site.begin()
    site.is_in("running")
    eventually(lambda: site.control.status()["generation"] == 1, "the older term")
    told = Term(resource="orders-db", generation=2, primary="east", run="r" * 64, at=datetime.now(UTC))
    said = site.control.learn(told.model_dump(mode="json"))
    assert said["generation"] == 2
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        sql.execute("select pg_promote(true, 20)")
    time.sleep(1.5 * LEASE_SECONDS)
    assert site.is_in("running")["pid"] == said["pid"], "it was never stopped"


def test_a_standby_that_nobody_told_is_stopped_when_it_opens_beside_the_primary(site: Site):
    (site.data / "standby.signal").touch()
    site.term("west", 1)
    site.begin()
    site.is_in("running")
    eventually(lambda: site.control.status()["generation"] == 1, "the term")
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        sql.execute("select pg_promote(false)")
    site.is_in("held")
    assert not servers_in(site.data)


def test_a_term_that_is_none_or_of_another_resource_is_refused(site: Site):
    site.begin()
    site.is_in("running")
    other = Term(resource="other-db", generation=9, primary="west", run="r" * 64, at=datetime.now(UTC))
    for words in (other.model_dump(mode="json"), {"resource": "orders-db"}):
        with pytest.raises(Failed, match="the leash says"):
            site.control.learn(words)
    site.is_in("running")


def test_people_s_signature_lets_it_run_unconfirmed_until_something_newer_is_known(site: Site):
    site.term("east", generation=2)
    site.begin()
    site.is_in("running")
    site.witness.always = "503 ServiceUnavailable"
    site.is_in("asking")
    site.control.trust("order-1", 2)
    assert "unconfirmed" in site.is_in("running")["why"]
    time.sleep(1.5 * LEASE_SECONDS)
    site.is_in("running")
    site.witness.always = ""
    eventually(lambda: site.control.status()["why"] == "confirmed in generation 2", "a confirmation")
    site.witness.always = "503 ServiceUnavailable"
    site.is_in("asking")


def test_another_site_s_agent_confirms_while_the_witness_is_silent(site: Site):
    door = Door("127.0.0.1", 0)
    asked: list[str] = []
    term = Term(resource="orders-db", generation=1, primary="west", run="r" * 64, at=datetime.now(UTC))
    said: dict[str, Any] = {"resource": "orders-db", "term": None}
    door.add("GET", "/term", lambda query, _body: (asked.append(query["resource"]), said)[1])
    thread = threading.Thread(target=door.serve_forever, args=(0.02,))
    thread.start()
    try:
        site.begin(other_agents={"west": f"http://127.0.0.1:{door.server_port}"})
        site.is_in("running")
        asked.clear()
        time.sleep(LEASE_SECONDS)
        assert len(asked) <= 1, "while the witness confirms, nobody else is asked"
        site.witness.always = "503 ServiceUnavailable"
        time.sleep(2 * LEASE_SECONDS)
        assert site.is_in("running")["confirmed_by"] == "agent of west"
        said["term"] = term.model_dump(mode="json")
        site.is_in("held")
    finally:
        door.shutdown()
        thread.join()
        door.server_close()


def test_a_second_leash_on_the_same_socket_and_a_foreign_server_are_refused(site: Site):
    site.begin()
    pid = site.is_in("running")["pid"]
    assert site.begin().wait(10) == 4
    assert site.control.status()["pid"] == pid


def test_a_server_beside_the_leash_takes_its_word_back_until_that_has_ended(site: Site):
    """The distribution's own service started it at boot: nothing bounds it, so no lapsed lease may count as its end."""
    key = f"/leases/{leashed_key('orders-db', 'east')}"
    site.term("east")
    process = site.begin()
    site.is_in("running")
    assert key in site.witness.objects
    site.control.stop("order-1", "held", fast_seconds=5, patience_seconds=10)
    foreign = server.start(postgres_bin_dir(), site.data, log=site.folder / "foreign.log")
    eventually(lambda: key not in site.witness.objects, "its word's end")
    assert site.control.status()["foreign"] is True
    assert "not ours" in site.is_in("held")["why"]
    process.kill()
    process.wait()
    site.witness.objects[key] = b"{}"
    site.begin()
    assert "not ours" in site.is_in("held")["why"], "started later, it is no better"
    eventually(lambda: key not in site.witness.objects, "its word's end")
    server.stop(foreign)
    eventually(lambda: site.control.status()["why"] == "held", "the order's hold")
    eventually(lambda: key in site.witness.objects, "its word")


def test_nonsense_on_the_control_socket_harms_nothing(site: Site):
    site.begin()
    site.is_in("running")
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(site.runtime / "leash"))
        line.sendall(b"nonsense\n")
        assert line.recv(100) == b""
    with pytest.raises(Failed, match="it knows status"):
        site.control._say({"do": "dance"}, 2.0)
    site.is_in("running")
