"""The parts of a fence: terms at the witness and at agents, the cloud's word, and which proof counts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import boto3
import pytest
from moto import mock_aws

from recovery.errors import Failed, Refused
from recovery.lease import Under
from recovery.order import Order, OrderState, SignedOrder
from recovery.step import Mode
from recovery.term import Term, leashed_key, term_key
from recovery.value import canonical
from tasks import keys
from tasks.dir_store import DirStore
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.agent_http import Door
from tasks.postgres.agent_memory import Alerts
from tasks.postgres.heartbeat import Heartbeat
from tasks.postgres.obeying import Obeying, obey
from tasks.postgres.order_client import Agent
from tasks.postgres.orders import Orders, Work
from tasks.postgres.reading import Deadline
from tasks.postgres.roles import cloud
from tasks.postgres.roles.fence import _first
from tasks.postgres.roles.fence_ways import Proof, agent_patience_seconds
from tasks.postgres.roles.posting import Post, Posted
from tasks.postgres.stopping import is_leash
from tasks.postgres.terms import Asking, OwnTerm, WitnessTerms
from tasks.s3_small import SmallObjects
from tasks.store_place import StorePlace
from tests.hands.faulty_s3 import Faults, faulty_s3
from tests.hands.site_scene import until

LEASE = Under(lease="shop", generation=1)
T0 = datetime(2026, 11, 24, 3, tzinfo=UTC)


def term(primary: str, generation: int = 1, run: str = "r1") -> Term:
    return Term(resource="orders-db", generation=generation, primary=primary, run=run, at=T0)


def test_at_the_witness_one_of_many_writers_wins_and_the_others_are_told(tmp_path: Path):
    terms = WitnessTerms(store=DirStore(tmp_path))
    assert terms.read("orders-db") is None
    found: list[Any] = []

    def write(number: int) -> None:
        try:
            found.append(terms.write(term("west", number, run=f"r{number}")))
        except Refused as refusal:
            found.append(refusal)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 9)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert terms.read("orders-db") == term("west", 8, run="r8"), "the newest generation stands, whoever came last"
    assert len(found) == 8
    with pytest.raises(Refused, match="generation 8"):
        terms.write(term("east", 7))
    assert terms.write(term("west", 8, run="again")).run == "r8"


def test_a_term_that_cannot_be_read_confirms_nothing(tmp_path: Path):
    store = DirStore(tmp_path)
    store.put(term_key("orders-db"), b'{"schema_version": 9}')
    with pytest.raises(Failed, match="no term of a known schema"):
        WitnessTerms(store=store).read("orders-db")


def test_an_agent_s_copy_survives_and_refuses_what_is_older(tmp_path: Path):
    own = OwnTerm(path=tmp_path / "state" / "term.json")
    assert own.read() is None
    assert own.accept(term("west", 3)) == term("west", 3)
    assert own.accept(term("west", 3, run="other")).run == "r1"
    for older in (term("east", 2), term("east", 3)):
        with pytest.raises(Refused, match="generation 3"):
            own.accept(older)
    assert OwnTerm(path=tmp_path / "state" / "term.json").read() == term("west", 3)


def test_an_agent_answers_with_the_newest_and_says_whether_the_witness_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "b")
    own = OwnTerm(path=tmp_path / "term.json")
    own.accept(term("west", 2))
    assert Asking(own=own, resource="orders-db", witness=None).answer()["witness"] == {  # type: ignore[index,call-overload]
        "answered": False, "why": "not configured",
    }  # fmt: skip
    with faulty_s3() as (endpoint, faults):
        small = SmallObjects(endpoint=endpoint, bucket="leases", timeout_seconds=0.5)
        asking = Asking(own=own, resource="orders-db", witness=small)
        assert told(asking)["term"]["generation"] == 2
        faults.objects[f"/leases/{term_key('orders-db')}"] = canonical(term("east", 3))
        assert told(asking)["term"]["primary"] == "east"
        assert told(asking)["witness"]["answered"]
        faults.always = "503 SlowDown"
        said = told(asking)
        assert (said["term"]["generation"], said["witness"]["answered"]) == (2, False)


def told(asking: Asking) -> dict[str, Any]:
    said = asking.answer()
    assert isinstance(said, dict)
    return said


def test_a_term_is_posted_to_every_agent_and_silence_is_told(tmp_path: Path):
    keys.make(tmp_path / "keys", "engine", "engine")
    sign = keys.signer(tmp_path / "keys", "engine")
    own = OwnTerm(path=tmp_path / "term.json")

    def keep(work: Any) -> dict[str, Any]:
        return {"term": own.accept(Term.model_validate(work.order.arguments["term"])).model_dump(mode="json")}

    orders = Orders(
        folder=tmp_path / "orders", site="west", resource="orders-db", trusted=(sign.fingerprint,),
        handlers={"term": keep}, now=lambda: T0,
    )  # fmt: skip
    orders.load()
    door = Door("127.0.0.1", 0)
    door.add("POST", "/orders", lambda _query, body: orders.post(body))
    door.add("GET", "/orders/", lambda query, _body: orders.get(query["below"], float(query.get("wait", 0))))
    thread = threading.Thread(target=door.serve_forever, args=(0.02,))
    thread.start()
    try:
        west = Agent(url=f"http://127.0.0.1:{door.server_port}", sign=sign, now=lambda: T0, under=lambda: LEASE)
        post = Post(witness=WitnessTerms(store=DirStore(tmp_path / "s")), agents=(("west", west),), order_id="a-1")
        posted = post(term("west"))
        assert (posted.witness, posted.agents) == ("", {"west": ""})
        assert own.read() == term("west")
        assert posted.lacking(("witness", "west"), "witness") == {}
        lacking = posted.lacking(("witness", "west", "north"), "witness")
        assert lacking == {"north": "no agent"}
    finally:
        door.shutdown()
        thread.join()
        door.server_close()


def test_a_site_that_may_still_confirm_is_named():
    posted = Posted(term=term("west"), at_mono=0.0, witness="it is silent", agents={"west": "refused"})
    assert posted.lacking(("witness", "west"), "witness") == {"witness": "it is silent", "west": "refused"}


def test_the_first_proof_counts_and_without_one_every_reason_is_told():
    answers: SimpleQueue[Proof] = SimpleQueue()
    answers.put(Proof(way="agent", why_not="silent"))
    answers.put(Proof(way="lease", facts={"waited_seconds": 2.2}))
    proof, why_not = _first(answers, 3, Deadline(5))
    assert proof is not None
    assert (proof.way, why_not) == ("lease", {"agent": "silent"})
    answers.put(Proof(way="agent", why_not="silent"))
    assert _first(answers, 2, Deadline(0.05)) == (
        None,
        {"agent": "silent", "patience": "the step's patience ended first"},
    )


@pytest.fixture
def obeying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Obeying, Faults]]:
    monkeypatch.setenv("FAULTY_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("FAULTY_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr("tasks.postgres.obeying.AT_WITNESS_SECONDS", 0.3)
    with faulty_s3() as (endpoint, faults):
        there = StorePlace(
            site="witness", bucket="leases", endpoint_url=endpoint.endpoint_url, credentials="env:FAULTY"
        )
        config = AgentConfig(
            site="west", resource="orders-db", dsn="host=/nowhere", data_dir=tmp_path / "data", bin_dir=tmp_path,
            socket=tmp_path / "s", local=there, witness=there, state_dir=tmp_path / "state", leash=tmp_path / "leash",
            lease_seconds=0.05,
        )  # fmt: skip
        yield obey(config, Alerts(tmp_path / "state")), faults


def watched(obeying: Obeying, holds: Callable[[], bool]) -> None:
    """Let it watch until that holds."""
    stop = threading.Event()
    thread = threading.Thread(target=obeying.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 15
    try:
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()


def test_an_order_that_is_on_disk_is_known_as_soon_as_the_door_opens(obeying: tuple[Obeying, Faults]):
    """The engine sends again the very moment that a killed agent listens: what is underway is not begun beside itself,
    and what is older than the newest is refused."""
    agent, _ = obeying
    begun: list[str] = []
    go_on = threading.Event()

    def stop(work: Work) -> dict[str, Any]:
        begun.append(work.order.id)
        assert go_on.wait(10)
        return {}

    agent.orders.handlers = {"stop": stop}
    folder = agent.config.state_dir / "keys"
    keys.make(folder, "engine", "engine")
    engine = keys.signer(folder, "engine")
    agent.orders.trusted = (f"folder:{folder}",)

    def order(name: str, generation: int) -> tuple[Order, bytes]:
        made = Order(
            id=name, what="stop", resource="orders-db", site="west", generation=generation, run="r" * 64, under=LEASE,
            expires_at=datetime.now(UTC) + timedelta(minutes=1),
        )  # fmt: skip
        signed = SignedOrder(order=made, public_key=engine.public_pem.decode(), signature=engine(canonical(made)))
        return made, canonical(signed)

    mine, body = order("a-1", 3)
    agent.orders.folder.mkdir(parents=True)
    cut_off = OrderState(order=mine, begun_at=datetime.now(UTC))
    (agent.orders.folder / "a-1.json").write_bytes(canonical(cut_off))
    door = Door("127.0.0.1", 0)
    try:
        agent.open(door)
        assert door.answer("POST", "/orders", order("a-0", 2)[1])[0] == 409
        assert door.answer("POST", "/orders", body)[0] == 200
        agent.orders.load()
        go_on.set()
        watched(agent, lambda: agent.orders.underway() == ())
    finally:
        door.server_close()
    assert begun == ["a-1"]


def alerts_of(obeying: Obeying) -> set[str]:
    return {str(each["subject"]) for each in obeying.alerts.standing()}  # type: ignore[index,call-overload]


def test_a_term_that_was_told_while_the_witness_was_silent_is_carried_there(obeying: tuple[Obeying, Faults]):
    agent, faults = obeying
    agent.home.own.accept(term("west", 2))
    faults.always = "503 SlowDown"
    watched(agent, lambda: "term" in alerts_of(agent))
    faults.always = ""
    key = f"/leases/{term_key('orders-db')}"
    watched(agent, lambda: key in faults.objects and "term" not in alerts_of(agent))
    assert Term.model_validate_json(faults.objects[key]) == term("west", 2)


def test_a_carried_term_never_overtakes_a_change_of_mind_in_its_own_generation(tmp_path: Path):
    terms = WitnessTerms(store=DirStore(tmp_path))
    terms.carry(term("west", 2))
    assert terms.read("orders-db") == term("west", 2)
    terms.carry(term("west", 3))
    given_back = terms.write(term("east", 3, run="r2"))
    assert (given_back.turn, given_back.primary) == (1, "east")
    terms.carry(term("west", 3))
    assert terms.read("orders-db") == given_back


def test_a_leash_is_known_by_its_beginning_too_and_not_by_a_pid_that_is_anothers_now():
    words = [sys.executable, "-c", "import time; time.sleep(60)", "tasks.postgres.leash"]
    with subprocess.Popen(words) as process:
        try:
            now = datetime.now(UTC)
            until(lambda: is_leash(process.pid, now))  # the kernel shows no words yet for a moment
            assert not is_leash(process.pid, now - timedelta(minutes=1)), "it began after that was said"
            assert not is_leash(os.getpid(), now)
        finally:
            process.kill()
    assert not is_leash(process.pid, datetime.now(UTC))


def test_a_primary_without_its_leash_takes_the_leash_s_word_back(
    obeying: tuple[Obeying, Faults], monkeypatch: pytest.MonkeyPatch
):
    agent, faults = obeying
    key = f"/leases/{leashed_key('orders-db', 'west')}"
    faults.objects[key] = b"{}"
    watched(agent, lambda: len(faults.seen) == 0)
    assert key in faults.objects, "while no server runs there is nothing to say"
    monkeypatch.setattr("tasks.postgres.obeying.servers_in", lambda folder: (1,))
    watched(agent, lambda: key not in faults.objects)
    assert alerts_of(agent) == {"leash"}


@pytest.mark.parametrize(("child", "kept"), [(True, True), (False, False)])
def test_the_word_of_a_leash_that_was_uninstalled_is_taken_back(
    obeying: tuple[Obeying, Faults], monkeypatch: pytest.MonkeyPatch, child: bool, kept: bool
):
    """Its agent was told so and knows of none any more; one that was never told of a leash keeps quiet."""
    agent, faults = obeying
    agent.config = agent.config.but(leash=None)
    key = f"/leases/{leashed_key('orders-db', 'west')}"
    faults.objects[key] = b"{}"
    looks: list[Path] = []
    monkeypatch.setattr("tasks.postgres.obeying.servers_in", lambda folder: (1,))
    monkeypatch.setattr("tasks.postgres.obeying.under_a_leash", lambda folder: looks.append(folder) or child)
    watched(agent, lambda: len(looks) > 2)
    assert (key in faults.objects) is kept


@pytest.mark.parametrize(("state", "kept"), [("in archive recovery", True), ("in production", False)])
def test_a_signal_file_makes_no_standby_of_a_server_that_takes_writes(
    obeying: tuple[Obeying, Faults], monkeypatch: pytest.MonkeyPatch, state: str, kept: bool
):
    agent, faults = obeying
    key = f"/leases/{leashed_key('orders-db', 'west')}"
    faults.objects[key] = b"{}"
    agent.config.data_dir.mkdir(parents=True, exist_ok=True)
    (agent.config.data_dir / "standby.signal").touch()
    looks: list[Path] = []
    monkeypatch.setattr("tasks.postgres.obeying.servers_in", lambda folder: (1,))
    monkeypatch.setattr("tasks.postgres.obeying.control_state", lambda folder: looks.append(folder) or state)
    watched(agent, lambda: len(looks) > 2)
    assert (key in faults.objects) is kept


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-east-1")
        made = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        yield str(made["Instances"][0]["InstanceId"])


def test_the_cloud_stops_the_machine_and_says_so(instance: str):
    assert cloud.answers(instance, region="us-east-1")
    facts = cloud.stop(instance, region="us-east-1", deadline=Deadline(10), over=lambda: False, poll_seconds=0.01)
    assert facts == {"instance": instance, "region": "us-east-1", "state": "stopped"}


def test_a_machine_that_the_cloud_does_not_know_is_no_fence(instance: str):
    assert not cloud.answers("i-0123456789abcdef0", region="us-east-1")
    with pytest.raises(Failed, match="did not stop"):
        cloud.stop("i-0123456789abcdef0", region="us-east-1", deadline=Deadline(10), over=lambda: False)


def test_a_machine_that_does_not_stop_in_time_is_no_fence(instance: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cloud, "_state", lambda ec2, name: "stopping")
    with pytest.raises(Failed, match="is stopping, not stopped"):
        cloud.stop(instance, region="us-east-1", deadline=Deadline(0.05), over=lambda: False, poll_seconds=0.01)


def test_a_silent_agent_is_waited_for_while_its_site_is_alive_and_not_when_it_is_lost_or_signed_away():
    patience = agent_patience_seconds
    assert patience(Mode.GRACEFUL, signed=False) > patience(Mode.UNGRACEFUL, signed=False)
    assert patience(Mode.UNGRACEFUL, signed=False) > patience(Mode.GRACEFUL, signed=True)


def test_a_server_that_is_kept_stopped_on_purpose_is_told_as_that(
    obeying: tuple[Obeying, Faults], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = obeying
    leash: dict[str, Any] = {"answers": True, "state": "held", "why": "run 1234 fenced it"}
    monkeypatch.setattr(type(one), "_leash", lambda self: leash)
    assert one.kept_down() == "run 1234 fenced it"
    leash["state"] = "asking"
    assert one.kept_down() == "", "nobody confirms: that is no purpose"
    leash["answers"] = False
    assert one.kept_down() == ""
    one.home.own.accept(term("north"))
    monkeypatch.setattr(one, "_barred", ("", float("-inf")))
    assert one.kept_down() == "north is the primary since generation 1", "without a leash that answers, by the term"
    (one.config.data_dir).mkdir(parents=True)
    (one.config.data_dir / "standby.signal").touch()
    assert one.kept_down() == "", "a standby belongs up"


def test_the_alert_of_a_held_server_asks_nobody_to_start_it(tmp_path: Path) -> None:
    alerts, why = Alerts(tmp_path), ["west is the primary since generation 3"]
    heart = Heartbeat("host=/nowhere", alerts=alerts, kept_down=lambda: why[0])
    stop = threading.Event()
    thread = threading.Thread(target=heart.run, args=(stop,))
    thread.start()
    try:
        (held,) = told_of(alerts, "on purpose")
        assert held["fact"] == "Postgres is kept stopped on purpose: west is the primary since generation 3"
        assert "don't start it by hand" in held["hint"]
        why[0] = ""
        (down,) = told_of(alerts, "be asked")
        assert "OperationalError" not in down["fact"]
        assert "see whether the server runs" in down["hint"]
    finally:
        stop.set()
        thread.join(20)


def told_of(alerts: Alerts, words: str) -> list[Any]:
    """The alerts, once one has these words."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and words not in str(alerts.standing()):
        time.sleep(0.02)
    return list(alerts.standing())
