"""The agent's supervisor, configuration, door and heartbeat."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from deployments.lab.scratch_cluster import cluster
from recovery.errors import BadInput, Failed, Refused
from tasks.postgres import heartbeat as beats
from tasks.postgres.agent import Agent, AgentConfig, build, load
from tasks.postgres.agent_http import Door
from tasks.postgres.agent_memory import Alerts, Memory, Position, utc_now
from tasks.postgres.archive_socket import listen
from tasks.postgres.heartbeat import Heartbeat
from tasks.postgres.supervise import Pace
from tests.hands.test_agent_shipper import eventually


def test_a_dying_worker_is_started_again_ever_more_slowly_and_for_ever() -> None:
    pace = Pace()
    assert [pace.pause_seconds(n) for n in (1, 2, 3, 4, 5, 6, 100)] == [0.2, 0.4, 0.8, 1.6, 3.2, 30.0, 30.0]


def config(folder: Path, **more: object) -> Path:
    path = folder / "agent.json"
    path.write_text(
        json.dumps(
            {
                "site": "east",
                "resource": "orders",
                "dsn": "host=/nowhere",
                "data_dir": "/nowhere",
                "bin_dir": "/nowhere",
                "socket": str(folder / "s"),
                "local": {"site": "east", "bucket": "b"},
                **more,
            }
        )
    )
    return path


def test_a_configuration_is_read_and_wrong_keys_are_named(tmp_path: Path) -> None:
    good = load(config(tmp_path))
    assert isinstance(good, AgentConfig)
    assert good.state_dir == tmp_path / "agent"
    with pytest.raises(BadInput, match=r"colour: Extra inputs.*; port|port.*; .*colour"):
        load(config(tmp_path, colour="red", port=70000))
    with pytest.raises(BadInput, match="can't be read"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"dsn": "host=h password=hunter2 hunter2"}, "dsn: .*no row of name=value"),
        ({"upstreams": {"west": "host=h password=hunter2"}}, "upstreams: .*holds a secret"),
        ({"upstreams": {"west": "postgresql://u:hunter2@h/db"}}, "upstreams: .*holds a secret"),
        ({"upstreams": {"west": "postgresql://u:%hunter2@h/db"}}, "upstreams: .*no URI"),
    ],
)
def test_a_configuration_repeats_no_secret_and_what_is_streamed_from_holds_none(
    tmp_path: Path, wrong: dict[str, object], why: str
) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        load(config(tmp_path, **wrong))
    assert "hunter2" not in str(caught.value)


def test_the_door_answers_routes_and_turns_errors_into_fact_and_hint() -> None:
    def refuse(query: object, body: object) -> None:
        raise Refused("no", hint="ask")

    door = Door("127.0.0.1", 0)
    try:
        door.add("GET", "/echo", lambda query, body: {"query": dict(query), "body": body.decode()})
        door.add("POST", "/no", refuse)
        door.add("POST", "/bug", lambda query, body: 1 // 0)
        assert door.answer("GET", "/echo?a=1", b"x") == (200, {"query": {"a": "1"}, "body": "x"})
        assert door.answer("POST", "/no", b"")[0] == 409
        assert door.answer("POST", "/bug", b"")[0] == 500
        status, said = door.answer("GET", "/nothing", b"")
        assert status == 404
        assert "GET /echo" in str(said)
        with pytest.raises(Failed, match="can't be listened on"):
            Door("127.0.0.1", door.server_address[1])
    finally:
        door.server_close()


def test_a_living_agents_socket_is_not_taken_a_dead_ones_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listen(path, lambda asked: None)
    try:
        with pytest.raises(Refused, match="another agent listens"):
            listen(path, lambda asked: None)
    finally:
        first.server_close()
    second = listen(path, lambda asked: None)
    second.server_close()
    with pytest.raises(BadInput, match="longer than"):
        listen(tmp_path / ("x" * 120), lambda asked: None)


def test_positions_survive_and_never_move_back(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    late, early = (Position(segment=f"{n:024X}", lsn=n, at=utc_now()) for n in (9, 5))
    memory.set_archived(1, late)
    memory.set_archived(1, early)
    memory.set_shipped("west", 1, early)
    again = Memory(tmp_path)
    assert (again.archived(1), again.shipped("west"), again.shipped("east")) == (late, early, None)
    (tmp_path / "positions.json").write_text('{"archived": {"1":')
    assert Memory(tmp_path).archived(1) is None
    assert (tmp_path / "positions.damaged").exists()


def test_an_alert_is_written_once_and_so_is_its_end(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path)
    for _ in range(3):
        alerts.tell("disk", "the disk is full", "make room")
    alerts.over("disk")
    alerts.over("disk")
    lines = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [line["over"] for line in lines] == [False, True]
    assert alerts.standing() == []


@contextmanager
def beating(dsn: str, alerts: Alerts, *, beats: bool = True) -> Iterator[Heartbeat]:
    stop = threading.Event()
    one = Heartbeat(dsn, alerts=alerts, beats=beats, every_seconds=0.05)
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        yield one
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_the_heart_beats_on_a_primary_only_looks_on_a_standby_and_outlives_a_stopped_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(beats, "LONGEST_PAUSE_SECONDS", 0.5)
    alerts = Alerts(tmp_path / "state")
    with cluster(tmp_path / "pg", standby=True) as pg:
        assert pg.standby is not None
        with beating(pg.dsn, alerts) as primary, beating(pg.standby.dsn, alerts) as standby:
            eventually(lambda: primary.pulse is not None and primary.pulse.beat_at, "a beat")
            eventually(lambda: standby.pulse is not None and standby.pulse.replayed_at, "the standby's pulse")
            assert primary.pulse is not None
            assert standby.pulse is not None
            assert (primary.pulse.role, primary.pulse.timeline) == ("primary", 1)
            assert (standby.pulse.role, standby.pulse.timeline, standby.pulse.beat_at) == ("standby", 1, None)
            eventually(lambda: standby.pulse.replayed_lsn >= primary.pulse.flushed_lsn - 100000, "replay")
            os.killpg(pg.pid, signal.SIGSTOP)
            try:
                _stop_backends(pg.pid)
                eventually(alerts.standing, "the alert of a stopped server", 15)
            finally:
                _continue(pg.pid)
            before = time.time()
            eventually(
                lambda: primary.pulse.beat_at is not None and primary.pulse.beat_at.timestamp() > before,
                "the next beat",
                15,
            )
            eventually(lambda: not alerts.standing(), "the alert's end", 15)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


ARCHIVED = "select archived_count from pg_stat_archiver"


@pytest.mark.parametrize("beats_too", [True, False])
def test_a_segment_that_a_started_server_leaves_open_beyond_its_timeout_is_ended_by_the_agent(
    tmp_path: Path, beats_too: bool
) -> None:
    """By itself this server would do so after five minutes: its checkpointer sleeps for `checkpoint_timeout` first."""
    settings = {"archive_mode": "on", "archive_command": "/bin/true", "archive_timeout": "1s"}
    alerts = Alerts(tmp_path / "state")
    with ExitStack() as stack:
        pg = stack.enter_context(cluster(tmp_path / "pg", settings=settings))
        sql = stack.enter_context(psycopg.connect(pg.dsn, autocommit=True))
        sql.execute("create role agent login")
        checkpointer = sql.execute("select pid from pg_stat_activity where backend_type = 'checkpointer'").fetchone()
        assert checkpointer is not None
        stack.enter_context(stopped(checkpointer[0]))  # else it depends on its first look whether it sleeps
        with beating(pg.dsn.replace("user=postgres", "user=agent"), alerts, beats=False):
            eventually(lambda: "pg_switch_wal" in str(alerts.standing()), "the alert of a role that may not", 30)
        assert sql.execute(ARCHIVED).fetchone() == (0,)
        with beating(pg.dsn, alerts, beats=beats_too):
            sql.execute("create table something ()")
            eventually(lambda: sql.execute(ARCHIVED).fetchone() != (0,), "the segment in the archive", 30)
            eventually(lambda: "pg_switch_wal" not in str(alerts.standing()), "the alert's end")


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stop_backends(pid: int) -> None:
    for child in _children(pid):
        with suppress(ProcessLookupError):  # a worker that has ended
            os.kill(child, signal.SIGSTOP)


def _continue(pid: int) -> None:
    for each in (*_children(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGCONT)


def test_a_disk_that_fills_is_warned_of_long_before_and_so_is_wal_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "data" / "pg_wal" / "archive_status"
    status.mkdir(parents=True)
    agent = build(load(config(tmp_path, data_dir=str(tmp_path / "data"), ready_limit=1)))
    free = [5 * 2**30]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=100 * 2**30, free=free[0]))
    for number in (1, 2):
        (status / f"{number:024X}.ready").touch()
    stop = threading.Event()
    watching = threading.Thread(target=agent.watch, args=(stop,))
    watching.start()
    try:
        eventually(lambda: {"disk", "backlog"} <= subjects(agent), "both alerts")
        assert "5.0 GiB left" in str(agent.alerts.standing())
        free[0] = 50 * 2**30
        (status / f"{1:024X}.ready").unlink()
        eventually(lambda: not {"disk", "backlog"} & subjects(agent), "the end of both")
    finally:
        stop.set()
        watching.join()
        agent.archiver.close()
        agent.door.server_close()


def subjects(agent: Agent) -> set[object]:
    return {each["subject"] for each in agent.alerts.standing() if isinstance(each, dict)}
