"""Changes of roles in the lab, under load, against a user outside: what ends met, what is refused, what never happens.

One lab for all of them; each begins and ends with the service at home. `make test` runs a sample, `make storm` all.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from moved import (
    ROOT,
    acted,
    agents_awake,
    another_home,
    answering,
    approved,
    as_if_never_killed,
    home_of,
    killed_at,
    lab,
    lost,
    moved,
    outage,
    planned,
    primary,
    seen,
    standing_still,
)

from deployments.lab import breaking, observer
from deployments.lab.claimed import unlisted
from deployments.lab.world import World
from recovery.errors import Refused
from recovery.journal import outcome
from recovery.plan import Plan
from tasks import approving, changing
from tasks.engine import Act
from tasks.home import Home
from tasks.journal import read_records
from tasks.postgres.roles import losses

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with lab(tmp_path_factory.mktemp("moved") / "home") as made:
        yield made


@pytest.fixture
def world(raised: World) -> Iterator[World]:
    """Before: served by the east. After: nothing is broken, all went home, and no writer was ever beside another."""
    seen(raised, "east")
    agents_awake(home_of(raised))
    yield raised
    breaking.end(raised)
    if primary(raised)[0] == "west":
        answering(raised, "west")  # on a starved machine the leash may have ended it in the very moment it was asked
        back = moved(home_of(raised), "failback", "east")
        assert (back.outcome, back.lost_commits, back.rpo_seconds) == ("met", 0, 0.0), back
    seen(raised, "east")
    assert observer.look(raised)["two_writers"] == []


@pytest.fixture
def home(world: World) -> Home:
    return home_of(world)


def test_killed_where_the_effect_is_there_and_its_record_is_not_it_is_taken_up_from_another_home(
    world: World, home: Home, tmp_path: Path
) -> None:
    """A sample of test_killed.py."""
    other = another_home(world, tmp_path / "other")
    _, before = primary(world)
    lost(world, "site:east")
    plan = approved(home, planned(home, "failover", "west"))
    for turn, point in enumerate(("fence:done", "promote:done", "redirect:begun")):
        assert killed_at((home, other)[turn % 2], plan, point) is None
    told = killed_at(other, plan, "never")
    assert told is not None
    as_if_never_killed(home, world, plan, told)
    assert primary(world) == ("west", before + 1), "promoted once"
    seen(world, "west")
    assert told.rto_seconds is not None
    assert told.rto_seconds > outage(world, told) - 1.0, "never told better than it was; how near: make storm"


@pytest.mark.slow
def test_graceful_there_and_home_again_nothing_is_lost(world: World, home: Home) -> None:
    there = moved(home, "switchover", "west")
    assert (there.outcome, there.lost_commits, there.rpo_seconds) == ("met", 0, 0.0), there
    assert primary(world)[0] == "west"
    seen(world, "west")
    back = moved(home, "switchover", "east")
    assert (back.outcome, back.lost_commits) == ("met", 0)
    seen(world, "east")
    observed = observer.look(world)
    assert (observed["missing"], observed["two_writers"]) == ([], [])
    assert back.rto_seconds is not None
    assert back.rto_seconds > outage(world, back) - 1.0


@pytest.mark.slow
def test_two_operators_at_once_one_acts_and_the_other_is_refused(world: World, home: Home, tmp_path: Path) -> None:
    lost(world, "postgres:east")
    first, second = planned(home, "failover", "west"), planned(home, "failover", "west")
    assert first.plan.digest != second.plan.digest
    for each in (first, second):
        approved(home, each)
    folders = (home.folder, another_home(world, tmp_path / "other").folder)
    command = [sys.executable, "-m", "deployments.cli.main", "act", "--json", "--home"]
    acting = [
        subprocess.Popen(
            [*command, str(folder), made.plan.digest],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder, made in zip(folders, (first, second), strict=True)
    ]
    said = [each.communicate(timeout=120) for each in acting]
    assert sorted(each.returncode for each in acting) == [0, 4], said
    assert primary(world)[0] == "west"


@pytest.mark.slow
def test_the_control_plane_lost_alone_stops_nobody_and_is_not_needed(world: World, home: Home) -> None:
    lost(world, "aws:east")
    seen(world, "east")
    lost(world, "site:east")
    told = moved(home, "failover", "west")
    assert told.outcome == "met", told
    seen(world, "west")


@pytest.mark.slow
def test_a_site_that_serves_is_not_declared_lost_because_its_neighbour_cannot_see_it(world: World, home: Home) -> None:
    lost(world, "network:east-west")
    seen(world, "east")
    told = standing_still(home, approved(home, planned(home, "failover", "west")))
    assert told.stopped is not None
    assert told.stopped.step == "declare"
    assert primary(world)[0] == "east"
    _cancel(home, told.run)


@pytest.mark.slow
def test_an_old_primary_that_everybody_but_the_witness_has_lost_ends_before_the_new_one_begins(
    world: World, home: Home
) -> None:
    """It lives, and whoever stands beside it could write into it."""
    for path in ("east-west", "engine-east", "user-east", "witness-east"):
        lost(world, f"network:{path}")
    writer = Writer(world)
    told = moved(home, "failover", "west")
    ended = writer.end()
    assert told.outcome == "met", told
    promoted = next(each for each in read_records(home.ledger(), told.run) if each.facts.get("step") == "promote")
    assert ended is not None, "the east wrote to the end"
    assert ended < promoted.begin
    assert told.lost_commits == "unproven", "what it wrote is not known yet"
    seen(world, "west")


class Writer:
    """Rows written inside the east, one by one, until it takes no more."""

    def __init__(self, world: World) -> None:
        self._dsn = world.dsn("east", source="east")
        self._last: datetime | None = None
        self._stop, self._failed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                with psycopg.connect(self._dsn, autocommit=True) as sql:
                    sql.execute("create table if not exists beside (at timestamptz)")
                    sql.execute("insert into beside values (clock_timestamp())")
                self._last, self._failed = datetime.now(UTC), False
            except psycopg.Error:
                self._failed = True

    def end(self) -> datetime | None:
        """The last write, or None when it was still writing."""
        self._stop.set()
        self._thread.join(10)
        return self._last if self._failed else None


@pytest.mark.slow
def test_a_dead_witness_stops_nobody_and_once_it_is_back_nobody_waits_for_its_old_silence(
    world: World, home: Home
) -> None:
    lost(world, "witness")
    seen(world, "east")
    made = planned(home, "switchover", "west")
    assert "ledger-degraded" in {each.klass for each in made.hazards}
    there = acted(home, approved(home, made))
    assert (there.outcome, there.lost_commits) == ("met", 0), there
    seen(world, "west")
    breaking.end(world)
    seen(world, "west")
    back = moved(home, "switchover", "east")
    assert (back.outcome, back.lost_commits) == ("met", 0), back


@pytest.mark.slow
def test_without_a_witness_and_without_an_answer_nothing_is_promoted(world: World, home: Home) -> None:
    lost(world, "witness", "blackhole")
    seen(world, "east")
    lost(world, "site:east", "blackhole")
    made = planned(home, "failover", "west")
    classes = {each.klass for each in made.hazards}
    assert {"split-brain", "ledger-degraded"} <= classes
    with pytest.raises(Refused):
        changing.act(Act(home=home), approved(home, made, accept=sorted(classes - {"split-brain"})))
    breaking.end(world)
    assert primary(world)[0] == "east"


@pytest.mark.slow
def test_a_recovery_site_that_is_too_small_gets_no_users_until_it_has_grown(world: World, home: Home) -> None:
    """It may not have more: that is told before, with its figure, and whoever goes on all the same stops in time."""
    lost(world, "capacity:west", "limited")
    lost(world, "site:east")
    made = planned(home, "failover", "west")
    assert "capacity-limit 2 instances" in {each.words for each in made.hazards}
    plan = approved(home, made)
    told = standing_still(home, plan)
    assert told.stopped is not None
    assert told.stopped.step == "validate"
    assert not [each for each in read_records(home.ledger(), plan.run) if each.facts.get("step") == "redirect"]
    breaking.end(world, "capacity:west")
    _order(home, plan, "retry", "validate")
    assert acted(home, plan).outcome == "met"
    seen(world, "west")


@pytest.mark.slow
def test_a_recovery_site_that_is_too_small_is_given_its_instances_before_users_come(
    world: World, home: Home, tmp_path: Path
) -> None:
    """Killed in the midst of it and taken up from another home: it is asked for once, and never made fewer."""
    lost(world, "capacity:west")
    lost(world, "site:east")
    plan = approved(home, planned(home, "failover", "west"))
    other = another_home(world, tmp_path / "other")
    assert killed_at(home, plan, "scale:begun") is None
    assert killed_at(other, plan, "scale:done") is None
    told = killed_at(home, plan, "never")
    assert told is not None
    as_if_never_killed(home, world, plan, told)
    records = read_records(home.ledger(), plan.run)
    (scaled,) = [each for each in records if each.kind == "step.ended" and each.facts["step"] == "scale"]
    result = scaled.facts["result"]
    assert isinstance(result, dict)
    west = result["components"]["platform"]  # type: ignore[call-overload,index]
    assert (west["wanted"], west["in_service"], west["short"]) == (3, 3, 0)  # type: ignore[call-overload,index]
    at = {each.facts["step"]: each.end for each in records if each.kind == "step.ended" and each.end}
    assert at["scale"] < at["validate"] < at["redirect"]
    seen(world, "west")


@pytest.mark.slow
def test_an_old_primary_that_comes_back_in_mid_run_stays_stopped(world: World, home: Home) -> None:
    lost(world, "site:east")
    plan = approved(home, planned(home, "failover", "west"))
    healed = threading.Event()

    def heal() -> None:
        while not any(each.facts.get("step") == "promote" for each in read_records(home.ledger(), plan.run)):
            time.sleep(0.05)
        breaking.end(world)
        healed.set()

    threading.Thread(target=heal, daemon=True).start()
    told = acted(home, plan)
    assert told.outcome == "met"
    assert healed.wait(60)
    assert primary(world)[0] == "west", "the east is held"
    seen(world, "west")


@pytest.mark.slow
def test_a_slow_name_server_delays_and_breaks_nothing(world: World, home: Home) -> None:
    lost(world, "dns", "delay")
    lost(world, "site:east")
    assert moved(home, "failover", "west").outcome == "met"
    seen(world, "west")


@pytest.mark.slow
def test_what_the_failover_gave_up_is_listed_before_the_old_data_goes(world: World, home: Home) -> None:
    """The standby is cut off first, so that acknowledged rows are truly lost."""
    with psycopg.connect(world.dsn("west"), autocommit=True) as sql:
        sql.execute("select pg_wal_replay_pause()")
    lost(world, "network:east-west")
    time.sleep(2)
    known = set(observer.look(world)["missing"])  # what other changes gave up stands in their lists
    lost(world, "site:east")
    with psycopg.connect(world.dsn("west"), autocommit=True) as sql:
        sql.execute("select pg_wal_replay_resume()")
    told = moved(home, "failover", "west")
    assert told.lost_commits == "unproven"
    assert told.outcome == "met", told
    seen(world, "west")
    missing = set(observer.look(world)["missing"]) - known
    breaking.end(world)
    back = moved(home, "failback", "east")
    assert back.outcome == "met"
    listed = losses.read(home, told.run)
    assert missing, "nothing was lost: the story proves nothing"
    assert unlisted(missing, [each.losses for each in listed]) == []


@pytest.mark.slow
def test_consent_given_in_advance_acts_alone_within_thirty_seconds(world: World, home: Home) -> None:
    approving.approve_standing(home, "east-is-out", who="ann")
    watching = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli.main", "watch", "--act", "--json", "--home", str(home.folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        time.sleep(3)
        lost(world, "site:east")
        out, err = watching.communicate(timeout=90)
        assert watching.returncode == 0, err
        assert '"outcome": "met"' in out
        seen(world, "west")
        assert observer.look(world)["outages"][-1]["seconds"] < 30
    finally:
        watching.kill()


@pytest.mark.slow
def test_consent_that_is_none_moves_nothing(world: World, home: Home) -> None:
    lost(world, "app:east")
    made = planned(home, "failover", "west")
    with pytest.raises(Refused, match="not approved"):
        changing.act(Act(home=home), made.plan)
    other = approved(home, planned(home, "failover", "west"))
    assert other.digest != made.plan.digest
    with pytest.raises(Refused, match="not approved"):
        changing.act(Act(home=home), made.plan)
    assert primary(world)[0] == "east"


def _cancel(home: Home, run: str) -> None:
    command = [sys.executable, "-m", "deployments.cli.main", "run", "cancel", run, "--as", "ann", "--json"]
    for words in (command, [sys.executable, "-m", "deployments.cli.main", "act", run, "--json"]):
        subprocess.run([*words, "--home", str(home.folder)], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert outcome(read_records(home.ledger(), run)) == "cancelled"


def _order(home: Home, plan: Plan, what: str, step: str) -> None:
    command = [sys.executable, "-m", "deployments.cli.main", "run", what, plan.digest, step, "--as", "ann", "--json"]
    ran = subprocess.run(
        [*command, "--home", str(home.folder)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
