"""Converged means that every listed server answers the site, and that each one's first new answer was not missed."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from name_scene import EAST, WEST, NameServer, Play, always, app, catalog, name_server, step

from recovery.drive import Truth
from recovery.errors import BadInput, Failed, Unproven
from tasks.resolving import Resolved
from tasks.route53.converge import ANSWER_FIRST_SECONDS, Watch, unfinished

STEPS = (step("redirect"), step("converge", needs=("redirect",)))


def play(folder: Path, *servers: NameServer, resolvers: tuple[str, ...] = (), **more: object) -> Play:
    names = {"app": app(*(each.where for each in servers), resolvers=resolvers, **more)}
    return Play(catalog=catalog(dns=names), folder=folder, steps=STEPS)


def seconds(facts: Any, server: NameServer) -> float:
    return float(facts["servers"][server.where]["seconds"])


def impatient(found: Play, patience_seconds: float) -> Play:
    found.steps = (step("redirect"), step("converge", needs=("redirect",), patience_seconds=patience_seconds))
    return found


def test_each_server_is_timed_from_the_redirect_and_the_last_one_is_the_tail(tmp_path: Path) -> None:
    turned: list[float] = []

    def late(_name: str) -> list[str]:
        return [WEST] if turned and time.monotonic() > turned[0] else [EAST]

    with name_server(always(WEST)) as authority, name_server(late) as resolver:
        run = play(tmp_path, authority, resolvers=(resolver.where,))
        run.results["redirect"] = {"at": (datetime.now(UTC) - timedelta(seconds=0.5)).isoformat()}
        turned.append(time.monotonic() + 0.4)
        facts = run.perform("converge")
    assert 0.5 <= seconds(facts, authority) < seconds(facts, resolver)
    assert seconds(facts, resolver) >= 0.9
    assert facts["servers"][resolver.where]["kind"] == "resolver"  # type: ignore[index,call-overload]
    assert facts["tail_seconds"] == facts["p99_seconds"] == seconds(facts, resolver)
    assert facts["p50_seconds"] == seconds(facts, authority)
    assert (facts["promise_seconds"], facts["kept"]) == (2.0, seconds(facts, resolver) <= 2)
    assert facts["asked"] == [authority.where, resolver.where]
    since, at = (datetime.fromisoformat(str(facts[key])) for key in ("since", "at"))
    assert (at - since).total_seconds() == pytest.approx(facts["tail_seconds"], abs=0.01)


def test_a_slow_server_is_late_alone(tmp_path: Path) -> None:
    with name_server(always(WEST)) as fast, name_server(always(WEST)) as slow:
        slow.slow_seconds = 0.6
        facts = play(tmp_path, fast, resolvers=(slow.where,)).perform("converge")
        assert fast.asked > 2 * slow.asked
    assert seconds(facts, fast) < seconds(facts, slow)
    assert seconds(facts, slow) >= 0.6


def test_a_stale_server_is_a_failure_that_names_it(tmp_path: Path) -> None:
    with name_server(always(WEST)) as authority, name_server(always(EAST)) as stale:
        run = impatient(play(tmp_path, authority, resolvers=(stale.where,)), 2.0)
        with pytest.raises(Failed, match=f"{stale.where} answers {EAST}"):
            run.perform("converge")


@pytest.mark.parametrize("manner", ["silent", "garbage", "SERVFAIL", "REFUSED"])
def test_a_server_that_gives_no_answer_leaves_it_unproven(tmp_path: Path, manner: str) -> None:
    with name_server(always(WEST)) as authority, name_server(always(WEST)) as dead:
        dead.manner = manner
        run = impatient(play(tmp_path, authority, resolvers=(dead.where,)), 1.2)
        with pytest.raises(Unproven, match=f"{dead.where} does not answer"):
            run.perform("converge")


def test_a_server_that_comes_back_in_time_is_waited_for(tmp_path: Path) -> None:
    with name_server(always(WEST)) as authority, name_server(always(WEST)) as dead:
        dead.manner = "SERVFAIL"
        threading.Timer(0.4, setattr, (dead, "manner", "well")).start()
        facts = play(tmp_path, authority, resolvers=(dead.where,)).perform("converge")
    assert seconds(facts, dead) >= 0.4


def test_an_address_with_two_caches_behind_it_has_not_converged_while_one_of_them_is_old(tmp_path: Path) -> None:
    caches = [EAST, WEST]

    def flapping(_name: str) -> list[str]:
        caches.append(caches.pop(0))
        return [caches[0]]

    with name_server(always(WEST)) as authority, name_server(flapping) as pool:
        run = play(tmp_path, authority, resolvers=(pool.where,))
        with pytest.raises(Failed, match="is not west's everywhere"):
            impatient(run, 2.0).perform("converge")
        threading.Timer(0.3, caches.__setitem__, (slice(None), [WEST, WEST])).start()
        facts = impatient(run, 20.0).perform("converge")
    assert seconds(facts, pool) >= 0.25


def test_a_question_that_the_end_of_the_watch_cuts_short_is_no_silence(tmp_path: Path) -> None:
    """It was `does not answer`, once in some hundred watches, of a server that had answered the old site all along."""

    def asked(_server: str, _dns: object, *, patience_seconds: float) -> Resolved:
        if patience_seconds == ANSWER_FIRST_SECONDS:
            return Resolved(outcome="answered", values=(EAST,))
        time.sleep(patience_seconds)
        return Resolved(outcome="silent", why="Timeout")

    dns = catalog(dns={"app": app("one:53")}).dns["app"]
    watch = Watch(dns=dns, site="west", ask=asked)
    found, _ = watch.until(ANSWER_FIRST_SECONDS + 0.3, lambda _text, _share: None)
    error = unfinished(found, dns, "west")
    assert isinstance(error, Failed)
    assert f"one:53 answers {EAST}" in error.fact


def test_an_answer_of_both_sites_or_of_none_is_not_the_new_one(tmp_path: Path) -> None:
    for values in ([EAST, WEST], []):
        with name_server(always(*values)) as both, pytest.raises(Failed):
            impatient(play(tmp_path, both), 2.0).perform("converge")


def test_it_is_watched_once_even_where_it_is_so_already_and_an_old_answer_undoes_it(tmp_path: Path) -> None:
    with name_server(always(WEST)) as authority, name_server(always(WEST)) as resolver:
        run = play(tmp_path, authority, resolvers=(resolver.where,))
        assert run.observe("converge").truth is Truth.ABSENT
        run.perform("converge")
        assert run.observe("converge").truth is Truth.HOLDS
        resolver.manner = "silent"  # it sends nobody elsewhere
        assert run.observe("converge").truth is Truth.HOLDS
        resolver.manner, resolver.values = "well", always(EAST)
        found = run.observe("converge")
        assert (found.truth, found.why) == (Truth.ABSENT, f"{resolver.where} answers {EAST}")


def test_without_a_redirect_before_it_the_watching_itself_is_timed(tmp_path: Path) -> None:
    with name_server(always(WEST)) as authority:
        run = play(tmp_path, authority)
        run.steps = (step("converge"),)
        assert 0 <= float(str(run.perform("converge")["tail_seconds"])) < 10


def test_a_redirect_to_the_other_site_is_not_what_is_timed(tmp_path: Path) -> None:
    """A rehearsal moves a name away and back: each watch is timed by its own redirect."""
    with name_server(always(WEST)) as authority:
        run = play(tmp_path, authority)
        run.steps = (step("redirect", site="east"), step("converge", needs=("redirect",)))
        run.results["redirect"] = {"at": (datetime.now(UTC) - timedelta(seconds=60)).isoformat()}
        assert float(str(run.perform("converge")["tail_seconds"])) < 30


def test_a_name_without_listed_servers_is_refused_before_anything(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lists no name server"):
        play(tmp_path).perform("converge")
    run = play(tmp_path)
    run.steps = (step("converge", "nothing"),)
    with pytest.raises(BadInput, match="no DNS name 'nothing'"):
        run.perform("converge")
