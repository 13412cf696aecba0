"""Old connections have left when the old site says so, when what they stood on is fenced, or when their time is up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from name_scene import Play, app, catalog, step
from site_scene import closed_port, plain, site

from recovery.drive import Truth
from recovery.errors import BadInput, Failed, Refused, Unproven
from recovery.step import Mode
from tasks.kind import Facts
from tasks.route53 import drain

FENCE = step("fence", "db")


class App:
    """An application with so many old connections; each drain lets one go."""

    def __init__(self, old: int) -> None:
        self.old, self.drained = old, 0
        self.stubborn = False

    def __call__(self, method: str, path: str, _body: bytes) -> tuple[int, bytes]:
        if (method, path) == ("POST", "/drain"):
            self.drained += 1
        elif not self.stubborn and self.drained and self.old:
            self.old -= 1
        return 200, plain({"site": "east", "open": self.old + 1, "old": self.old, "draining": True})


def play(folder: Path, url: str | None, *, patience: str | None = None, fenced_by: str | None = None) -> Play:
    words = {} if patience is None else {"patience": patience}
    steps = (FENCE, step("redirect"), step("drain", needs=("redirect",), patience_seconds=2.0, **words))
    found = catalog(dns={"app": app("127.0.0.1:9")}, drain={} if url is None else {"east": url})
    run = Play(catalog=found, folder=folder, steps=steps)
    if fenced_by is not None:
        run.results["fence"] = {"by": fenced_by}
    return run


def dead() -> str:
    return f"http://127.0.0.1:{closed_port()}"


def test_the_old_site_is_told_nothing_again_once_the_lease_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the site that users are to come back to by now."""
    monkeypatch.setattr(drain, "TELL_AGAIN_SECONDS", 0.0)
    east = App(old=3)
    east.stubborn = True

    def may_act() -> None:
        if east.drained:
            raise Refused("the lease is lost", hint="act again")

    with site(east) as at:
        run = play(tmp_path, at.url)
        run.may_act = may_act
        with pytest.raises(Refused, match="the lease is lost"):
            run.perform("drain")
    assert east.drained == 1


def test_the_old_site_is_told_to_let_go_and_asked_until_none_is_left(tmp_path: Path) -> None:
    east = App(old=3)
    with site(east) as at:
        run = play(tmp_path, at.url)
        assert run.observe("drain").truth is Truth.ABSENT
        facts = run.perform("drain")
        assert (facts["by"], facts["old"], east.drained) == ("drained", 0, 1)
        assert run.observe("drain").truth is Truth.HOLDS
        east.old, east.stubborn = 1, True  # who connects later is not who was there before
        assert run.observe("drain").truth is Truth.HOLDS


def test_connections_that_stay_are_a_failure_with_their_number(tmp_path: Path) -> None:
    east = App(old=2)
    east.stubborn = True
    with site(east) as at, pytest.raises(Failed, match="2 old connections stay at east"):
        play(tmp_path, at.url, fenced_by="agent").perform("drain")


@pytest.mark.parametrize("by", ["agent", "cloud", "lease"])
def test_a_silent_site_whose_databases_are_fenced_has_nothing_left_to_stay_with(tmp_path: Path, by: str) -> None:
    run = play(tmp_path, dead(), fenced_by=by)
    facts = run.perform("drain")
    assert (facts["by"], facts["old"]) == ("terminated", "unproven")
    assert f"fenced (db by {by})" in str(facts["proof"])
    assert run.observe("drain").truth is Truth.HOLDS


@pytest.mark.parametrize("by", ["hazard", None])
def test_silence_alone_is_no_proof_nor_is_an_accepted_danger(tmp_path: Path, by: str | None) -> None:
    with pytest.raises(Unproven, match="is not known: its connections can't be asked for"):
        play(tmp_path, dead(), fenced_by=by).perform("drain")


@pytest.mark.parametrize("said", [(200, b"ok"), (200, b'{"open": "many"}'), (503, b"{}"), (404, b"")])
def test_an_answer_that_is_none_is_silence(tmp_path: Path, said: tuple[int, bytes]) -> None:
    def says(method: str, _path: str, _body: bytes) -> tuple[int, bytes]:
        return (200, b"") if method == "POST" else said

    with site(says) as at, pytest.raises(Unproven, match="connections answered"):
        play(tmp_path, at.url).perform("drain")


def test_without_a_url_the_fence_or_the_lifetime_has_to_say_it(tmp_path: Path) -> None:
    assert play(tmp_path, None, fenced_by="agent").perform("drain")["by"] == "terminated"
    with pytest.raises(Unproven, match="names no `drain` of east"):
        play(tmp_path, None).perform("drain")


def test_the_pools_lifetime_counts_from_the_redirect(tmp_path: Path) -> None:
    run = play(tmp_path, dead(), patience="10 min")
    run.results["redirect"] = {"at": (datetime.now(UTC) - timedelta(minutes=9, seconds=59.7)).isoformat()}
    facts: Facts = run.perform("drain")
    assert facts["by"] == "lifetime"
    assert 0.2 < float(str(facts["seconds"])) < 10


@pytest.mark.parametrize("patience", ["soon", "10 min"])
def test_a_lifetime_that_is_none_or_beyond_the_patience_is_refused(tmp_path: Path, patience: str) -> None:
    with pytest.raises(BadInput):
        play(tmp_path, dead(), patience=patience).perform("drain")


def test_a_fence_that_the_variant_leaves_out_is_not_waited_for(tmp_path: Path) -> None:
    run = play(tmp_path, dead(), fenced_by="agent")
    other = step("fence", "db-2", id="fence-2", ungraceful={"omitted": "why not"})
    run.steps = (*run.steps, other)
    assert run.perform("drain")["by"] == "terminated"
    run.mode = Mode.GRACEFUL
    with pytest.raises(Unproven):
        run.perform("drain")


def test_a_rehearsal_never_closes_a_user_s_connection(tmp_path: Path) -> None:
    east = App(old=3)
    with site(east) as at:
        run = play(tmp_path, at.url)
        run.live = False
        with pytest.raises(Refused, match="rule 11"):
            run.perform("drain")
        run.live = True
        run.catalog = run.catalog.but(dns={"app": run.catalog.dns["app"].but(use="rehearsal")})
        with pytest.raises(Refused, match="rule 11"):
            run.perform("drain")
        assert at.asked == []
