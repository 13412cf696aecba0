"""No part of the lab and nothing of Prefect's tells anybody outside what is done here."""

from __future__ import annotations

from pathlib import Path

from deployments import flown
from deployments.lab.s3 import weed


def test_the_s3_server_is_started_with_its_telemetry_off(tmp_path: Path) -> None:
    argv = weed.argv(weed.prepare(tmp_path / "s3", address="127.99.3.4"), tmp_path)
    assert "-master.telemetry=false" in argv


def test_every_process_of_prefects_is_told_to_tell_nobody(tmp_path: Path) -> None:
    told = flown.settings(tmp_path, "http://127.0.0.1:1/api")
    assert (told["DO_NOT_TRACK"], told["PREFECT_SERVER_ANALYTICS_ENABLED"]) == ("1", "false")
    assert told["PREFECT_SERVER_UI_V2_ENABLED"] == "false"
