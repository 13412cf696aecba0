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
from tasks.postgres import control, leash_config
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.agent_http import Door
from tasks.postgres.agent_memory import Alerts
from tasks.postgres.leash_config import read_state
from tasks.postgres.leash_control import LeashControl
from tasks.postgres.leash_watch import LeashWatch, switches
from tasks.postgres.run_as import give
from tasks.postgres.stopping import control_state, servers_in, under_a_leash
from tasks.postgres.terms import Asking, OwnTerm
from tasks.store_place import StorePlace
from tests.hands.faulty_s3 import Faults, faulty_s3

LEASE_SECONDS = 1.0
LONG_LEASE_SECONDS = 3.0
"""Where a server has to outlive its lease: a machine that stands still for a second ends a short one, and rightly."""
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
    assert under_a_leash(site.data)
    assert said["pid"] == int((site.data / "postmaster.pid").read_text().split()[0])
    assert said["confirmed_by"] == "witness"
    word = Leashed.model_validate_json(site.witness.objects[f"/leases/{leashed_key('orders-db', 'east')}"])
    assert (word.site, word.lease_seconds, word.asks) == ("east", LEASE_SECONDS, ("witness",))
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert control_state(site.data) == "shut down"
    assert not servers_in(site.data)


def test_a_silent_witness_stops_it_within_the_lease_and_its_word_brings_it_back(site: Site):
    lease_seconds, bound_seconds = LONG_LEASE_SECONDS, 1.0  # long enough that a stall of a second is the machine's own
    site.begin(lease_seconds=lease_seconds, clock_bound_seconds=bound_seconds)
    pid = site.is_in("running")["pid"]
    busy = psycopg.connect(site.dsn)  # a session that is in the middle of something ends as well
    site.witness.always = "503 ServiceUnavailable"
    begun = time.monotonic()
    eventually(lambda: not servers_in(site.data), "the server's end")
    took = time.monotonic() - begun
    assert took <= lease_seconds + bound_seconds
    assert took >= lease_seconds / 4, "it lasts a while: one silence is none"
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
    told = site.control.status()
    assert told["standby"] is False
    site.witness.always = "503 ServiceUnavailable"
    eventually(lambda: told["pid"] not in servers_in(site.data), "its end")
    again = site.is_in("running")  # at once: nobody sees the folder without a server
    assert again["standby"], "started again it is a standby, which needs no permit"
    assert again["pid"] != told["pid"]
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        assert sql.execute("select pg_is_in_recovery()").fetchone() == (True,)


def test_a_standby_told_of_the_newer_term_is_promoted_without_being_stopped_for_the_older(site: Site):
    """The engine promotes within a fraction of the time between two questions to the witness."""
    (site.data / "standby.signal").touch()
    site.term("west", 1)
    site.begin(lease_seconds=LONG_LEASE_SECONDS)
    site.is_in("running")
    eventually(lambda: site.control.status()["generation"] == 1, "the older term")
    told = Term(resource="orders-db", generation=2, primary="east", run="r" * 64, at=datetime.now(UTC))
    said = site.control.learn(told.model_dump(mode="json"))
    assert said["generation"] == 2
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        sql.execute("select pg_promote(true, 20)")
    asked = len(site.witness.seen)
    eventually(lambda: len(site.witness.seen) > asked + 3, "more questions to the witness, who knows the older term")
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


def word_of(site: Site) -> Leashed | None:
    body = site.witness.objects.get(f"/leases/{leashed_key('orders-db', 'east')}")
    return None if body is None else Leashed.model_validate_json(body)


@contextmanager
def agent_of_west() -> Iterator[str]:
    """Another site's agent that knows no term; its URL."""
    door = Door("127.0.0.1", 0)
    door.add("GET", "/term", lambda _query, _body: {"resource": "orders-db", "term": None})
    thread = threading.Thread(target=door.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.server_port}"
    finally:
        door.shutdown()
        thread.join()
        door.server_close()


def test_an_agent_confirms_nothing_before_the_witness_knows_how_the_server_is_bound(site: Site):
    """A fence waits as long as the word at the witness says, and tells those whom that names: a word of an earlier
    configuration would have it wait too short, or forget one who goes on confirming."""
    process = site.begin()
    site.is_in("running")
    assert eventually(lambda: word_of(site), "the word").asks == ("witness",)
    process.terminate()
    process.wait()
    site.witness.always = "503 ServiceUnavailable"
    with agent_of_west() as url:
        process = site.begin(other_agents={"west": url})
        said = site.is_in("asking")
        eventually(lambda: "not asked" in site.control.status()["silent"].get("agent of west", ""), "its reason")
        assert not servers_in(site.data), said
        site.witness.always = ""
        site.is_in("running")
        eventually(lambda: (word_of(site) or pytest.fail("no word")).asks == ("witness", "west"), "the new word")
        process.terminate()
        process.wait()
        site.witness.always = "503 ServiceUnavailable"
        site.begin(other_agents={"west": url})
        assert site.is_in("running")["confirmed_by"] == "agent of west", "the witness knows this one"


def test_the_word_says_which_data_it_is_about_and_which_change_of_roles_was_known(site: Site):
    site.begin()
    site.is_in("running")
    found = eventually(lambda: word_of(site), "the word")
    assert (found.generation, found.system_id) == (0, control.read(site.data).system_id)
    site.term("east", 5)
    eventually(lambda: (word_of(site) or found).generation == 5, "the word of the newer generation")


def test_a_server_that_may_run_unconfirmed_has_no_word_until_somebody_has_confirmed(site: Site):
    """What would be put into its place by a leash that only half reaches the witness is no promise that it keeps."""
    site.term("east", generation=2)
    site.begin()
    site.is_in("running")
    site.witness.always = "503 ServiceUnavailable"
    site.is_in("asking")
    site.control.trust("order-1", 2)
    site.is_in("running")
    key = f"/leases/{leashed_key('orders-db', 'east')}"
    del site.witness.objects[key]
    site.witness.seen.clear()
    site.witness.always = ""
    eventually(lambda: site.control.status()["why"] == "confirmed in generation 2", "a confirmation")
    eventually(lambda: key in site.witness.objects, "the word")
    assert site.witness.seen[0].startswith("GET"), "it asked before it promised"


def test_a_witness_that_can_only_be_read_stops_no_server_whose_binding_it_knows(site: Site):
    process = site.begin(lease_seconds=LONG_LEASE_SECONDS)
    site.is_in("running")
    eventually(lambda: word_of(site), "the word")
    process.terminate()
    process.wait()
    site.witness.unwritable = True
    site.begin(lease_seconds=LONG_LEASE_SECONDS)
    pid = site.is_in("running")["pid"]
    site.term("east", 3)
    eventually(lambda: site.control.status()["generation"] == 3, "the term")
    time.sleep(2 * LONG_LEASE_SECONDS)
    assert site.is_in("running")["pid"] == pid
    site.witness.unwritable = False
    eventually(lambda: (word_of(site) or pytest.fail("no word")).generation == 3, "the word of the newer generation")


def test_a_new_server_is_not_stopped_because_its_first_word_is_late(site: Site):
    """People, or whoever made it, let it run unconfirmed; the witness answers questions before it takes anything in."""
    site.witness.unwritable = True
    leash_config.write_memory(site.folder, leash_config.Memory(trusted=0))
    give(site.folder)
    site.begin()
    pid = site.is_in("running")["pid"]
    time.sleep(2 * LEASE_SECONDS)
    assert site.is_in("running")["pid"] == pid
    site.witness.unwritable = False
    eventually(lambda: site.control.status()["why"] == "confirmed", "a confirmation")
    assert word_of(site) is not None


def test_a_leash_that_would_be_confirmed_at_its_own_site_does_not_begin(site: Site):
    process = site.begin(other_agents={"east": "http://127.0.0.1:1"})
    assert process.wait(10) == 2
    assert "it would confirm itself" in (site.folder / "log").read_text()


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
    assert not under_a_leash(site.data)
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


@pytest.fixture
def watch(site: Site, request: pytest.FixtureRequest) -> Iterator[LeashWatch]:
    """The agent's watch over the site's leash, at work."""
    lease_seconds = getattr(request, "param", LEASE_SECONDS)
    place = StorePlace(site="witness", bucket="leases", endpoint_url=site.endpoint, credentials="env:FAULTY")
    config = AgentConfig(
        site="east", resource="orders-db", dsn=site.dsn, data_dir=site.data, bin_dir=site.folder,
        socket=site.folder / "s", local=place, witness=place, state_dir=site.folder / "agent",
        leash=site.runtime / "leash", leash_dir=site.folder, lease_seconds=lease_seconds,
        clock_bound_seconds=BOUND_SECONDS,
    )  # fmt: skip
    own = OwnTerm(path=site.folder / "term.json")
    asking = Asking(own=own, resource="orders-db", witness=place.small(lease_seconds / 8))
    made, stop = LeashWatch(config=config, asking=asking, alerts=Alerts(site.folder / "agent")), threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    yield made
    stop.set()
    thread.join()


def stands_still(watch: LeashWatch) -> str:
    told = [each for each in watch.alerts.standing() if isinstance(each, dict) and each["subject"] == "leash-still"]
    return str(told[0]["fact"]) if told else ""


def test_a_leash_that_is_stopped_alone_ends_its_server_by_its_agent_when_nobody_confirms(site: Site, watch: LeashWatch):
    process = site.begin()
    site.is_in("running")
    process.send_signal(signal.SIGSTOP)
    site.witness.always = "503 ServiceUnavailable"
    eventually(lambda: not servers_in(site.data), "the server's end")
    assert process.wait(10) == -signal.SIGKILL
    eventually(lambda: "ended: nobody confirms any more" in stands_still(watch), "the alert")
    site.witness.always = ""
    site.begin()  # as its service does
    site.is_in("running")
    eventually(lambda: not stands_still(watch), "the alert's end")


@pytest.mark.parametrize("watch", [LONG_LEASE_SECONDS], indirect=True)
def test_a_leash_that_is_stopped_alone_keeps_its_server_while_its_agent_is_confirmed(site: Site, watch: LeashWatch):
    process = site.begin(lease_seconds=LONG_LEASE_SECONDS)
    site.is_in("running")
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: "asks in its place" in stands_still(watch), "the alert")
    time.sleep(2 * LONG_LEASE_SECONDS)
    assert site.answers()
    process.send_signal(signal.SIGCONT)  # its permit is over: it begins anew, unless its question is answered first
    eventually(lambda: not stands_still(watch), "the alert's end")
    eventually(lambda: (site.is_in("running")["permit_seconds"] or 0) > 0 and site.answers(), "a confirmed server")
    process.send_signal(signal.SIGSTOP)
    site.term("west")
    eventually(lambda: not servers_in(site.data), "the server's end")
    eventually(lambda: "west is the primary" in stands_still(watch), "the alert")


def test_a_standby_that_is_opened_while_its_leash_stands_still_has_no_permit(site: Site, watch: LeashWatch):
    (site.data / "standby.signal").touch()
    process = site.begin()
    site.is_in("running")
    time.sleep(1.5)  # its state's file says so
    process.send_signal(signal.SIGSTOP)
    site.witness.always = "503 ServiceUnavailable"
    time.sleep(1.5 * LEASE_SECONDS)
    assert servers_in(site.data), "a standby needs none"
    with psycopg.connect(site.dsn, autocommit=True) as sql:
        sql.execute("select pg_promote(false)")
    eventually(lambda: not servers_in(site.data), "the server's end")


def test_a_server_that_people_let_run_unconfirmed_is_left_so_by_the_agent_too(site: Site, watch: LeashWatch):
    site.witness.always = "503 ServiceUnavailable"
    process = site.begin()
    site.is_in("asking")
    site.control.trust("order-1", 1)
    site.is_in("running")
    time.sleep(1.5)  # its state's file says so
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: "asks in its place" in stands_still(watch), "the alert")
    time.sleep(1.5 * LEASE_SECONDS)
    assert site.answers()


def test_a_process_that_waits_for_a_processor_is_not_called_still():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        eventually(lambda: switches(busy.pid) == -1, "its running")
        busy.send_signal(signal.SIGSTOP)
        eventually(lambda: switches(busy.pid) >= 0, "its stop")
    finally:
        busy.kill()
        busy.wait()
    assert switches(busy.pid) == -1


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
