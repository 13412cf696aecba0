"""Side effects are parked and let go at the site itself; people, commands and long watches leave their facts behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import apprise
import pytest
from service_scene import Act, catalog
from site_scene import Site, closed_port, plain, site

from recovery.drive import Truth
from recovery.errors import BadInput, Failed, Unproven
from tasks import channels as channels_
from tasks.probing import Answer
from tasks.service import watching
from tasks.service.running import shown


def platform(east: Site, *, deaf: bool = False) -> dict[str, bool]:
    """A site whose side effects can be parked; a deaf one takes the order and does nothing."""
    state = {"parked": False}

    def say(method: str, _path: str, body: bytes) -> tuple[int, bytes]:
        if method == "PUT" and not deaf:
            state.update(json.loads(body))
        return 200, plain({**state, "waiting": 3, "sent": 7, "more": 1})

    east.say = say
    return state


def test_quarantine_parks_and_release_lets_go(tmp_path: Path) -> None:
    with site() as west:
        state = platform(west)
        made = catalog({"side_effects": {"west": f"{west.url}/side-effects"}})
        park = Act(tmp_path, made, "quarantine", arguments={"site": "west"})
        free = Act(tmp_path, made, "release", arguments={"site": "west"})
        assert park.observe().truth is Truth.ABSENT
        assert park.perform() == {"site": "west", "parked": True, "waiting": 3, "sent": 7, "before": False}
        assert (park.observe().truth, park.observe().why) == (Truth.HOLDS, "parked, 3 wait")
        assert west.asked[2][:2] == ("PUT", "/side-effects"), "after it was asked how it stood before"
        assert free.perform()["parked"] is False
        assert free.observe().truth is Truth.HOLDS
        assert park.observe().truth is Truth.ABSENT
        state["parked"] = True
        assert free.observe().truth is Truth.ABSENT


def test_a_site_that_is_silent_is_unknown_and_one_that_does_not_obey_fails(tmp_path: Path) -> None:
    with site() as west:
        platform(west, deaf=True)
        made = catalog({"side_effects": {"west": west.url, "east": f"http://127.0.0.1:{closed_port()}"}})
        deaf = Act(tmp_path, made, "quarantine", arguments={"site": "west"})
        with pytest.raises(Failed, match="west was told, but its side effects are going out"):
            deaf.perform()
        silent = Act(tmp_path, made, "quarantine", arguments={"site": "east"})
        assert silent.observe().truth is Truth.UNKNOWN
        with pytest.raises(Failed, match="can't be asked for"):
            silent.perform()
        west.say = lambda *_: (500, b"")
        with pytest.raises(Failed, match="answered 500"):
            deaf.perform()
        west.say = lambda *_: (200, b"parked")
        assert deaf.observe().truth is Truth.UNKNOWN


def test_without_a_url_it_says_not_configured_and_on_scratch_nothing_live_is_touched(tmp_path: Path) -> None:
    bare = Act(tmp_path, catalog({}), "quarantine", arguments={"site": "west"})
    assert bare.observe().truth is Truth.ABSENT
    assert bare.perform()["state"] == "not configured"
    assert bare.observe().why == "not configured for west"
    with site() as west:
        made = catalog({"side_effects": {"west": west.url}})
        scratch = Act(tmp_path, made, "quarantine", arguments={"site": "west", "scratch": True})
        assert scratch.observe().truth is Truth.ABSENT
        assert scratch.perform()["scratch"] is True
        assert scratch.observe().truth is Truth.HOLDS
        assert west.asked == []


class Channels:
    """In the place of the library: what was handed to which URL."""

    def __init__(self, bad: tuple[str, ...] = ()) -> None:
        self.bad, self.sent = bad, list[tuple[str, str]]()

    def __call__(self) -> Channels:
        return self

    def add(self, url: str) -> bool:
        self.url = url
        return url not in self.bad

    def notify(self, *, title: str, body: str) -> bool:
        self.sent.append((title, body))
        return True


def test_people_are_told_by_reference_and_no_url_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site() as chat:
        monkeypatch.setenv("CHANNEL", f"json://127.0.0.1:{chat.url.rpartition(':')[2]}/s3cret")
        (tmp_path / "pager").write_text("nonsense\n")
        made = catalog({"notify": {"team": "env:CHANNEL", "pager": "file:pager", "nobody": "env:NO_SUCH"}})
        act = Act(tmp_path, made, "notify")
        assert act.observe().truth is Truth.ABSENT
        facts = act.perform()
        assert facts == {"channels": {"nobody": "not configured", "team": "told", "pager": "failed"}}
        assert act.observe().truth is Truth.HOLDS
        said = json.loads(chat.asked[0][3])
    assert said["title"] == "core: failover from east to west"
    assert act.plan.digest[:8] in said["message"]
    assert "s3cret" not in str(facts)


def test_with_no_channel_it_says_so_and_when_all_fail_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Act(tmp_path, catalog({}), "notify")
    assert bare.perform()["state"] == "not configured"
    assert (bare.observe().truth, bare.observe().why) == (Truth.HOLDS, "not configured")
    (tmp_path / "pager").write_text("s3cret://x")
    monkeypatch.setattr(apprise, "Apprise", Channels(bad=("s3cret://x",)))
    made = catalog({"notify": {"pager": "file:pager", "gone": "file:gone"}})
    with pytest.raises(Failed, match="nobody could be told: pager") as trouble:
        Act(tmp_path, made, "notify").perform()
    assert "s3cret" not in str(trouble.value)
    assert Act(tmp_path, made, "notify", arguments={"whom": "gone"}).perform()["state"] == "not configured"
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="folder can't be read"):
        Act(tmp_path, catalog({"notify": {"a": "file:folder"}}), "notify").perform()


def test_a_drill_says_that_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = Channels()
    monkeypatch.setattr(apprise, "Apprise", channels)
    monkeypatch.setenv("CHANNEL", "x://")
    Act(tmp_path, catalog({"notify": {"team": "env:CHANNEL"}}), "notify", live=False).perform()
    assert channels.sent[0][0].startswith("Drill, nothing live was changed.")
    assert channels_.CHANNEL_SECONDS > 0


def test_a_person_is_asked_once_and_awaited_until_the_word_is_signed(tmp_path: Path) -> None:
    act = Act(tmp_path, catalog({}), "person", arguments={"ask": "close the valve"})
    assert act.observe().truth is Truth.ABSENT
    assert act.perform() == {"asked": "close the valve", "confirm": "'dr run confirm RUN it'"}
    assert act.said == ["close the valve — then 'dr run confirm RUN it'"]
    assert act.observe().truth is Truth.UNDERWAY
    act.confirmed["it"] = "ann"
    assert (act.observe().truth, act.observe().why) == (Truth.HOLDS, "confirmed by ann")


def test_a_command_runs_once_its_end_is_kept_and_secrets_are_not_shown(tmp_path: Path) -> None:
    counted = tmp_path / "count"
    code = f"open({str(counted)!r}, 'a').write('x'); print('password=hunter2', 'x' * 9000, 'end')"
    argv = [sys.executable, "-c", code]
    act = Act(tmp_path, catalog({}), "run", arguments={"site": "east", "command": argv}, patience_seconds=20)
    assert act.observe().truth is Truth.ABSENT
    facts = act.perform()
    assert (facts["code"], facts["site"], len(facts["out"])) == (0, "east", 4000)
    assert facts["out"].endswith("end\n")
    assert act.observe().truth is Truth.HOLDS
    killed_before_the_record = Act(tmp_path, catalog({}), "run", arguments=act.step.arguments, patience_seconds=20)
    assert killed_before_the_record.perform() == facts
    assert counted.read_text() == "x"


@pytest.mark.parametrize(
    ("command", "error", "match"),
    [
        ("rm -rf /", BadInput, "no list of words"),
        ([], BadInput, "no list of words"),
        ([sys.executable, "-c", "import sys; sys.exit('token: abc')"], Failed, r"ended with 1: token: \*\*\*"),
    ],
)
def test_a_command_that_is_none_or_fails_is_told(tmp_path: Path, command: Any, error: Any, match: str) -> None:
    arguments = {"site": "east", "command": command}
    with pytest.raises(error, match=match):
        Act(tmp_path, catalog({}), "run", arguments=arguments, patience_seconds=20).perform()
    assert not (tmp_path / "commands").exists()


def test_a_command_where_no_machine_is_known_is_refused(tmp_path: Path) -> None:
    arguments = {"site": "west", "command": ["true"]}
    with pytest.raises(BadInput, match="no machine is known at west"):
        Act(tmp_path, catalog({}), "run", arguments=arguments).perform()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("password=hunter2 x", "password=*** x"),
        ('{"secret": "a b"}', '{"secret": ***}'),
        ("postgres://u:hunter2@h/d", "postgres://u:***@h/d"),
        ("key AKIAABCDEFGHIJKLMNOP.", "key ***."),
        ("all is well", "all is well"),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(said: str, kept: str) -> None:
    assert shown(said) == kept


def test_a_secret_that_the_cut_parts_from_its_name_is_not_shown() -> None:
    assert "hunter2" not in shown("password=" + "hunter2" * 20 + " " + "x" * 3990)


@contextmanager
def baking(folder: Path, say: Callable[[], int], span: str, **core: Any) -> Iterator[Act]:
    with site(lambda *_: (say(), b"ok")) as west:
        probes = {"app-west": {"site": "west", "url": west.url}}
        arguments = {"site": "west", **({"for": span} if span else {})}
        yield Act(folder, catalog({"probes": probes, **core}), "bake", arguments=arguments)


def test_a_site_that_stays_well_is_watched_for_as_long_as_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.05)
    answers = iter([200, 503, 200])
    with baking(tmp_path, lambda: next(answers, 200), "900 ms") as act:
        assert act.observe().truth is Truth.ABSENT
        facts = act.perform()
        assert 0.9 <= facts["watched_seconds"] < 20
        assert facts["asked"] >= 3
        assert act.observe().truth is Truth.HOLDS
    with baking(tmp_path, lambda: 200, "", bake="50 ms") as by_catalog:
        assert by_catalog.perform()["watched_seconds"] < 20


def test_one_that_fails_too_long_fails_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(watching, "LONGEST_SECONDS", 0.1)
    failed = "probe app-west at west failed for more than"
    with baking(tmp_path, lambda: 503, "900 ms") as act, pytest.raises(Failed, match=failed):
        act.perform()
    with baking(tmp_path, lambda: 503, "50 ms") as short, pytest.raises(Failed, match="app-west at west f"):
        short.perform()  # shorter than what a watch lets pass: it could never fail if it ended with its time
    probes = {"app-west": {"site": "west", "url": "http://127.0.0.1:1/"}}
    unseen = Act(tmp_path, catalog({"probes": probes}), "bake", arguments={"site": "west", "for": "900 ms"})
    monkeypatch.setattr(watching.probing, "asked", lambda *_: {"app-west": Answer(outcome="unproven", why="no net")})
    with pytest.raises(Unproven, match="could not be asked"):
        unseen.perform()


def test_a_watch_does_not_end_on_a_bad_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.02)
    answers = iter([503] * 6)
    with baking(tmp_path, lambda: next(answers, 200), "10 ms") as act:
        facts = act.perform()
    assert facts["asked"] > 6, "it went on beyond its time until the site was well"
    assert facts["longest_failure_seconds"] > 0
    monkeypatch.setattr(watching, "LONGEST_SECONDS", 0.3)
    turns = count()
    said = {0: Answer(outcome="failed", why="no"), 1: Answer(outcome="passed", why="yes")}
    monkeypatch.setattr(watching.probing, "asked", lambda *_: {"a": said[(n := next(turns)) % 2], "b": said[1 - n % 2]})
    with pytest.raises(Failed, match="fails when the watch is over: no"):
        Act(tmp_path, catalog({}), "bake", arguments={"site": "west", "for": "10 ms"}).perform()


@pytest.mark.parametrize(("span", "match"), [("5", "`for` is wrong"), ("2 s", "the step's patience is shorter")])
def test_a_watch_that_cannot_be_is_refused(tmp_path: Path, span: str, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        Act(tmp_path, catalog({}), "bake", arguments={"site": "west", "for": span}).perform()
