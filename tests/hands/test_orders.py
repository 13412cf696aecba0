"""Orders to an agent: only a trusted engine is obeyed, the same order is one order, a kill is followed by going on."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from recovery.errors import BadInput, Failed, Refused, Unproven
from recovery.lease import Under
from recovery.order import Order, OrderState, SignedOrder
from recovery.value import canonical
from tasks import keys
from tasks.postgres.agent_http import Door
from tasks.postgres.order_client import Agent, Done, Silent
from tasks.postgres.orders import Orders, Work
from tasks.signatures import Signer

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
RUN = "a" * 64
LEASE = Under(lease="shop", generation=7)


@dataclass
class Scene:
    folder: Path
    sign: Signer
    door: Door
    orders: Orders
    url: str
    done: list[Work] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def agent(self, **more: Any) -> Agent:
        return Agent(**{"url": self.url, "sign": self.sign, "now": lambda: NOW, "under": lambda: LEASE, **more})

    def order(self, order_id: str, what: str = "count", **more: Any) -> Done | Silent:
        words = {
            "resource": "orders-db", "site": "east", "generation": 3, "run": RUN, "patience_seconds": 10.0, **more,
        }  # fmt: skip
        agent = words.pop("agent", None) or self.agent()
        return agent.order(order_id, what, **words)


def machine(folder: Path, scene: Scene) -> Orders:
    def count(work: Work) -> dict[str, Any]:
        scene.done.append(work)
        work.say("counting", 0.5)
        return {"count": len(scene.done)}

    def slow(work: Work) -> dict[str, Any]:
        scene.done.append(work)
        work.say("half", 0.5)
        scene.begun.set()
        assert scene.release.wait(10)
        return {"slow": True}

    def fail(work: Work) -> dict[str, Any]:
        scene.done.append(work)
        raise {"failed": Failed, "refused": Refused, "unproven": Unproven}[work.text("how")]("no", hint="ask")

    def bug(work: Work) -> dict[str, Any]:
        return {"x": 1 // int(work.number("by", 0))}

    return Orders(
        folder=folder,
        site="east",
        resource="orders-db",
        trusted=(f"folder:{scene.folder / 'keys'}",),
        handlers={"count": count, "slow": slow, "fail": fail, "bug": bug},
        now=lambda: NOW,
    )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    keys.make(tmp_path / "keys", "engine", "engine")
    door = Door("127.0.0.1", 0)
    url = f"http://127.0.0.1:{door.server_port}"
    made = Scene(folder=tmp_path, sign=keys.signer(tmp_path / "keys", "engine"), door=door, orders=None, url=url)  # type: ignore[arg-type]
    made.orders = machine(tmp_path / "orders", made)
    made.orders.load()
    door.add("POST", "/orders", lambda _query, body: made.orders.post(body))
    door.add("GET", "/orders/", lambda query, _body: made.orders.get(query["below"], float(query.get("wait", 0))))
    thread = threading.Thread(target=door.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.release.set()
    door.shutdown()
    thread.join()
    door.server_close()


def test_an_order_is_carried_out_once_however_often_it_is_sent(scene: Scene):
    assert scene.order("a-1") == Done(facts={"count": 1})
    assert scene.order("a-1") == Done(facts={"count": 1})
    assert scene.order("a-2") == Done(facts={"count": 2})
    assert len(scene.done) == 2


def test_the_same_id_with_other_words_is_refused(scene: Scene):
    scene.order("a-1")
    with pytest.raises(Refused, match="another order before"):
        scene.order("a-1", arguments={"more": True})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resource": "other-db"}, "is for other-db"),
        ({"site": "west"}, "is for west"),
        ({"generation": 2}, "generation 3 was ordered before"),
    ],
)
def test_what_is_not_for_this_agent_or_is_older_is_refused(scene: Scene, change: dict[str, Any], said: str):
    scene.order("a-1")
    with pytest.raises(Refused, match=said):
        scene.order("a-2", **change)
    assert len(scene.done) == 1


def after(lease: str, generation: int) -> Any:
    return lambda: Under(lease=lease, generation=generation)


def test_an_engine_that_slept_while_another_took_its_lease_is_not_obeyed(scene: Scene):
    slept, newer = scene.agent(), scene.agent(under=after("shop", 8))
    assert scene.order("a-1", agent=slept) == Done(facts={"count": 1})
    assert scene.order("b-1", agent=newer) == Done(facts={"count": 2})
    for name in ("a-2", "a-1"):  # what it ordered before, it may not follow either: it is not its run any more
        with pytest.raises(Refused, match="under generation 7 of the lease on shop, and another engine has ordered"):
            scene.order(name, agent=slept)
    scene.orders = machine(scene.folder / "orders", scene)  # the agent was started again: it is on its disk
    scene.orders.load()
    with pytest.raises(Refused, match="under generation 8"):
        scene.order("a-3", agent=slept)
    assert len(scene.done) == 2


def test_who_takes_a_run_over_takes_its_orders_over_without_doing_them_again(scene: Scene):
    scene.order("a-1")
    newer = scene.agent(under=after("shop", 8))
    assert scene.order("a-1", agent=newer) == Done(facts={"count": 1})
    scene.orders = machine(scene.folder / "orders", scene)
    scene.orders.load()
    with pytest.raises(Refused, match="under generation 8"):
        scene.order("a-2")
    assert len(scene.done) == 1


def test_an_order_that_is_underway_is_taken_over_and_its_end_is_kept(scene: Scene):
    waiting = threading.Thread(target=lambda: scene.order("a-1", "slow", patience_seconds=1.5))
    waiting.start()
    assert scene.begun.wait(5)
    waiting.join()
    newer = scene.agent(under=after("shop", 8))
    assert isinstance(scene.order("a-1", "slow", agent=newer, patience_seconds=0.2), Silent)
    scene.release.set()
    assert scene.order("a-1", "slow", agent=newer) == Done(facts={"slow": True})
    kept = OrderState.model_validate_json((scene.folder / "orders" / "a-1.json").read_bytes())
    assert (kept.state, kept.order.under) == ("done", Under(lease="shop", generation=8))
    assert len(scene.done) == 1


def test_another_lease_s_generations_are_its_own_and_an_order_without_a_lease_is_none(scene: Scene):
    scene.order("a-1", agent=scene.agent(under=after("bank", 99)))
    scene.order("a-2")
    with pytest.raises(Refused, match="under no lease"):
        scene.order("a-3", agent=scene.agent(under=lambda: None))
    assert len(scene.done) == 2


def test_an_end_that_a_full_disk_cannot_keep_is_told_all_the_same(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    from tasks.postgres import orders

    whole, seen = orders.write_durably, []

    def full(path: Path, body: bytes) -> None:
        seen.append(path)
        if len(seen) > 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        whole(path, body)

    monkeypatch.setattr(orders, "write_durably", full)
    assert scene.order("a-1") == Done(facts={"count": 1})
    assert scene.orders.underway() == ()
    assert OrderState.model_validate_json((scene.folder / "orders" / "a-1.json").read_bytes()).state == "underway"


def test_an_expired_order_is_refused_unless_it_was_taken_before(scene: Scene):
    late = scene.agent(now=lambda: NOW - timedelta(minutes=5))
    with pytest.raises(Refused, match="expired"):
        scene.order("a-1", agent=late)
    assert scene.done == []
    scene.order("a-2")
    assert scene.order("a-2", agent=late) == Done(facts={"count": 1})


def told_to_be(scene: Scene, at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's machine has that time: its door tells it in every answer."""
    scene.orders.now = lambda: at
    told = format_datetime(at, usegmt=True)
    monkeypatch.setattr("tasks.postgres.agent_http._Handler.date_time_string", lambda self, timestamp=None: told)


def test_an_agent_whose_clock_is_ahead_obeys_and_by_its_own_clock_an_order_expires(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    ahead = NOW + timedelta(minutes=20)
    told_to_be(scene, ahead, monkeypatch)
    assert scene.order("a-1", patience_seconds=10.0) == Done(facts={"count": 1})
    kept = OrderState.model_validate_json((scene.folder / "orders" / "a-1.json").read_bytes())
    assert kept.order.expires_at == ahead + timedelta(seconds=10)
    assert scene.order("a-1") == Done(facts={"count": 1})


def test_a_clock_that_is_hours_ahead_is_told_to_people(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    told_to_be(scene, NOW + timedelta(hours=2), monkeypatch)
    with pytest.raises(Refused, match=r"expired at 2026-11-24T03:00:10.*, here it is 2026-11-24T05"):
        scene.order("a-1", patience_seconds=10.0)
    assert scene.done == []


def test_a_stranger_s_order_and_a_changed_one_are_refused(scene: Scene):
    keys.make(scene.folder / "others", "engine", "engine")
    with pytest.raises(Refused, match="does not trust"):
        scene.order("a-1", agent=scene.agent(sign=keys.signer(scene.folder / "others", "engine")))
    order = Order(
        id="a-2", what="count", resource="orders-db", site="east", generation=3, run=RUN, under=LEASE,
        expires_at=NOW + timedelta(seconds=9),
    )  # fmt: skip
    pem = scene.sign.public_pem.decode()
    signed = SignedOrder(order=order, public_key=pem, signature=scene.sign(canonical(order)))
    forged = signed.but(order=order.but(generation=4))
    with pytest.raises(Refused, match="signature is not valid"):
        scene.orders.post(canonical(forged))
    with pytest.raises(BadInput, match="no signed order"):
        scene.orders.post(b'{"what": "count"}')
    with pytest.raises(BadInput, match="not an ed25519 key"):
        scene.orders.post(canonical(signed.but(public_key="x")))
    assert scene.done == []


def test_an_approver_s_key_in_the_same_folder_orders_nothing(scene: Scene):
    keys.make(scene.folder / "keys", "ann", "approver")
    with pytest.raises(Refused, match="does not trust"):
        scene.order("a-1", agent=scene.agent(sign=keys.signer(scene.folder / "keys", "ann")))


def test_what_an_agent_cannot_do_is_said_with_what_it_can(scene: Scene):
    with pytest.raises(BadInput, match="cannot 'dance'") as trouble:
        scene.order("a-1", "dance")
    assert "count" in trouble.value.hint


@pytest.mark.parametrize(("how", "kind"), [("failed", Failed), ("refused", Refused), ("unproven", Refused)])
def test_a_failure_says_whether_trying_again_can_help(scene: Scene, how: str, kind: type[Exception]):
    for _ in range(2):
        with pytest.raises(kind, match="no"):
            scene.order("a-1", "fail", arguments={"how": how})
    assert len(scene.done) == 1, "a failed order stays failed: the next attempt has its own id"


def test_a_defect_of_a_handler_is_a_failure_with_its_name(scene: Scene):
    with pytest.raises(Failed, match="ZeroDivisionError"):
        scene.order("a-1", "bug")


def test_progress_is_told_and_a_patience_that_ends_is_silence_with_the_order_underway(scene: Scene):
    said: list[tuple[str, float | None]] = []
    answer = scene.order("a-1", "slow", patience_seconds=1.5, say=lambda text, share: said.append((text, share)))
    assert isinstance(answer, Silent)
    assert answer.underway
    assert ("half", 0.5) in said
    scene.release.set()
    assert scene.order("a-1", "slow") == Done(facts={"slow": True})
    assert len(scene.done) == 1


def test_an_agent_that_is_not_there_is_silence_and_never_an_error(scene: Scene):
    nowhere = scene.agent(url="http://127.0.0.1:9")
    answer = scene.order("a-1", agent=nowhere, patience_seconds=0.3)
    assert isinstance(answer, Silent)
    assert not answer.underway
    assert isinstance(nowhere.get("/status", patience_seconds=0.3), Silent)


def test_an_order_that_nobody_wants_any_more_is_not_sent_again_but_one_that_was_taken_may_be_waited_for(scene: Scene):
    nowhere = scene.agent(url="http://127.0.0.1:9")
    assert isinstance(scene.order("a-1", agent=nowhere, patience_seconds=600, until=lambda: True), Silent)
    answer = scene.order("a-2", "slow", until=lambda: True, say=lambda text, share: None)
    assert answer == Silent(why="slow was still underway after 10 s", underway=True)
    threading.Timer(0.2, scene.release.set).start()
    assert scene.order("a-2", "slow", until=lambda: True, to_the_end=True) == Done(facts={"slow": True})


def test_an_agent_that_was_killed_in_the_middle_goes_on_with_the_order(scene: Scene):
    scene.order("a-1", "slow", patience_seconds=1.5)
    assert scene.begun.wait(5)
    kept = OrderState.model_validate_json((scene.folder / "orders" / "a-1.json").read_bytes())
    assert kept.state == "underway"
    (scene.folder / "orders" / "broken.json").write_text("{")
    scene.begun.clear()
    scene.orders = machine(scene.folder / "orders", scene)  # another process would read the same folder
    scene.orders.load()
    assert scene.begun.wait(5), "it began again by itself"
    assert scene.orders.underway() == ("a-1",)
    scene.release.set()
    assert scene.order("a-1", "slow") == Done(facts={"slow": True})
    assert (scene.folder / "orders" / "broken.damaged").exists()


def test_old_orders_are_forgotten_and_the_newest_generation_is_not(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tasks.postgres.orders.MOST_KEPT", 2)
    scene.order("new", generation=9)
    for number in range(5):
        scene.order(f"a-{number}", generation=9)
    assert len(list((scene.folder / "orders").glob("*.json"))) <= 4
    with pytest.raises(Refused, match="generation 9 was ordered before"):
        scene.order("late", generation=8)


def test_old_orders_are_forgotten_and_the_newest_generation_of_a_lease_is_not(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tasks.postgres.orders.MOST_KEPT", 2)
    scene.order("new", agent=scene.agent(under=after("shop", 8)))
    for number in range(5):
        scene.order(f"a-{number}", agent=scene.agent(under=after("bank", 7)))
    with pytest.raises(Refused, match="under generation 8"):
        scene.order("late")


def test_an_unknown_order_is_told_so_over_http(scene: Scene):
    status, said = scene.door.answer("GET", "/orders/none?wait=0", b"")
    assert status == 400
    assert "no order 'none'" in json.dumps(said)


def test_an_order_of_another_version_says_so(scene: Scene):
    order = Order(
        id="a-2", what="count", resource="orders-db", site="east", generation=3, run=RUN, under=LEASE,
        expires_at=NOW + timedelta(seconds=9),
    )  # fmt: skip
    newer = {**json.loads(canonical(order)), "quorum": 2}
    signed = SignedOrder(order=order, public_key=scene.sign.public_pem.decode(), signature=scene.sign(canonical(newer)))
    body = {**json.loads(canonical(signed)), "order": newer}
    with pytest.raises(BadInput, match="says what this agent does not know: quorum") as caught:
        scene.orders.post(canonical(body))
    assert "of a newer version: update this agent" in caught.value.hint
    older = {name: each for name, each in json.loads(canonical(order)).items() if name != "under"}
    filled_in = signed.but(order=order.but(under=None), signature=scene.sign(canonical(older)))
    with pytest.raises(Refused, match="signature is not valid") as changed:
        scene.orders.post(canonical(filled_in))
    assert "different versions" in changed.value.hint
    assert scene.done == []


def test_a_new_folder_is_durable_before_what_lies_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tasks.postgres import orders

    synced: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    orders.write_durably(tmp_path / "state" / "orders" / "a-1.json", b"{}")
    folders = [each for each in synced if Path(each).is_dir()]
    assert folders == [str(each) for each in (tmp_path, tmp_path / "state", tmp_path / "state" / "orders")]
    synced.clear()
    orders.write_durably(tmp_path / "state" / "orders" / "a-2.json", b"{}")
    assert [each for each in synced if Path(each).is_dir()] == [str(tmp_path / "state" / "orders")]
