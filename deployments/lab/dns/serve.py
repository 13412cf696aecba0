"""The process `dns`. Run as `python -m deployments.lab.dns.serve CONFIG_FILE`.

CONFIG: {"address", "port", "desk_port", "folder", "scale", "patience_seconds", "arc": [replica files]}. The folder
holds zone.json (the last published state, written by the emulator), weather.json (a fault of the lab), verdicts.json.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from deployments.lab.dns.checkers import Checkers
from deployments.lab.dns.desk import open_desk
from deployments.lab.dns.neutral import Neutral
from deployments.lab.dns.wire import NameServer, Sky

LOOK_EVERY_SECONDS = 0.03


def serve(config: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    neutral = Neutral(Path(config["folder"]), scale=config["scale"], arc=tuple(map(Path, config["arc"])))
    checkers = Checkers(neutral, patience_seconds=config["patience_seconds"])
    neutral.look()
    checkers.keep(neutral.published.checks)
    server = NameServer(
        config["address"],
        config["port"],
        neutral.respond,
        weather=Sky(Path(config["folder"]) / "weather.json"),
    )
    server.start()
    open_desk(neutral, config["address"], config["desk_port"])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(LOOK_EVERY_SECONDS):
        if neutral.look():
            checkers.keep(neutral.published.checks)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
