"""A vantage point knows since when a site fails, says so over HTTP, and ends cleanly."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from site_scene import site, until

import tasks
from recovery.errors import BadInput
from tasks.prober import Known, Prober, ProberConfig
from tasks.probing import Answer
from tasks.service import vantage

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


def known(*said: str) -> tuple[Known, list[Known]]:
    """One answer a second from second 1 on, each after 0.2 s."""
    here, all_of_them = Known(), []
    for second, outcome in enumerate(said, start=1):
        answer = Answer(outcome=outcome, seconds=0.2)  # type: ignore[arg-type]
        here = here.after(answer, now=NOW + timedelta(seconds=second), mono=float(second), due_seconds=1.0)
        all_of_them.append(here)
    return here, all_of_them


def test_the_failure_counts_from_its_first_question_and_the_outage_from_the_last_pass() -> None:
    told = known("passed", "passed", "failed", "failed")[0].told(5.0)
    assert told["failing_since"] == "2026-11-24T03:00:02.000000Z"
    assert told["failing_seconds"] == 2.2
    assert told["age_seconds"] == 1.0


def test_after_a_restart_no_pass_is_remembered_but_the_row_of_failures_counts() -> None:
    told = known("failed", "failed")[0].told(3.0)
    assert (told["failing_since"], told["last_passed_at"], told["failing_seconds"]) == (None, None, 2.2)


def test_a_pass_ends_it_and_what_could_not_be_asked_breaks_the_row() -> None:
    flapping = known("passed", "failed", "passed", "failed")[0].told(4.0)
    assert flapping["failing_since"] == "2026-11-24T03:00:03.000000Z"
    assert flapping["failing_seconds"] == 0.2
    broken = known("passed", "failed", "unproven", "failed")[0].told(4.0)
    assert broken["failing_since"] == "2026-11-24T03:00:01.000000Z"
    assert broken["failing_seconds"] == 0.2
    assert known("passed", "failed", "unproven")[0].told(3.0)["failing_seconds"] == 0.0


def test_a_time_in_which_the_prober_itself_stood_still_is_no_failure_of_the_site() -> None:
    """Stopped for a minute behind one bad answer, it knows of two moments and of nothing between them."""
    here = known("passed", "failed")[0]
    late = NOW + timedelta(seconds=62)
    woken = here.after(Answer(outcome="failed", seconds=0.2), now=late, mono=62.0, due_seconds=1.0).told(62.0)
    assert woken["failing_seconds"] == 0.2
    assert woken["failing_since"] == "2026-11-24T03:00:01.000000Z"
    busy = here.after(Answer(outcome="failed", seconds=0.2), now=late, mono=5.0, due_seconds=1.0).told(5.0)
    assert busy["failing_seconds"] == 3.2, "a little late is no gap"


def test_a_prober_follows_a_site_that_falls_and_comes_back() -> None:
    stop = threading.Event()
    with site() as east:
        config = ProberConfig.model_validate(
            {
                "name": "west",
                "every_seconds": 0.02,
                "patience_seconds": 0.3,
                "probes": [{"name": "app", "site": "east", "url": east.url, "expect": "ok"}],
            }
        )
        prober = Prober(config)
        thread = threading.Thread(target=prober.run, args=(stop,))

        def now() -> dict[str, Any]:
            told: Any = prober.answer({}, b"")
            found: dict[str, Any] = told["probes"]["app"]
            return found

        assert now()["outcome"] == "unproven"
        thread.start()
        try:
            until(lambda: now()["outcome"] == "passed")
            east.say = lambda *_: (503, b"")
            first = until(lambda: now() if now()["outcome"] == "failed" else None)
            assert first["failing_since"] == first["last_passed_at"] is not None
            later = until(lambda: now() if now()["failing_seconds"] > first["failing_seconds"] else None)
            assert later["failing_since"] == first["failing_since"]
            east.say = lambda *_: (200, b"ok")
            assert until(lambda: now() if now()["outcome"] == "passed" else None)["failing_since"] is None
        finally:
            stop.set()
            thread.join(3)
    assert not thread.is_alive()


def test_as_a_process_it_answers_and_ends_at_sigterm(tmp_path: Path) -> None:
    file = tmp_path / "probe.json"
    with site() as east:
        probes = [{"name": "app", "site": "east", "url": east.url}]
        config = {"name": "witness", "port": 0, "every_seconds": 0.05, "patience_seconds": 0.5, "probes": probes}
        file.write_text(json.dumps(config))
        root = Path(tasks.__file__).parents[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.service.vantage", str(file)], cwd=root, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()

            def told() -> Any:
                with urllib.request.urlopen(f"{url}/probes", timeout=2) as answer:
                    return json.load(answer)

            found = until(lambda: said if (said := told())["probes"]["app"]["outcome"] == "passed" else None)
            assert (found["name"], found["site"]) == ("witness", None)
            process.terminate()
            assert process.wait(5) == 0
        finally:
            process.kill()
            process.communicate()


def test_it_needs_no_bucket_no_database_and_no_prefect() -> None:
    heavy = "import sys, tasks.service.vantage; print([m for m in ('boto3','psycopg','prefect') if m in sys.modules])"
    root = Path(tasks.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", heavy], cwd=root, capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_a_wrong_configuration_names_the_key(tmp_path: Path) -> None:
    file = tmp_path / "probe.json"
    file.write_text('{"name": "w", "every": 1}')
    with pytest.raises(BadInput, match="every"):
        vantage.load(file)
    with pytest.raises(BadInput, match="can't be read"):
        vantage.load(tmp_path / "none.json")
    assert vantage.main(["vantage", str(file)]) == BadInput.exit_code
    assert vantage.main(["vantage"]) == BadInput.exit_code
