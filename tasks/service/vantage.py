"""A vantage point as a process of its own, at a third place: `python -m tasks.service.vantage CONFIG`.

Separate from the agents, which are vantage points beside their databases: what stands at neither site still sees when
the sites no longer see each other. It opens no bucket and no database; `GET /probes` is all that it answers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from recovery.errors import BadInput, DrError
from tasks.postgres.agent_http import Door
from tasks.prober import ProberConfig, part

__all__ = ["VantageConfig", "load", "main", "part", "run"]


class VantageConfig(ProberConfig):
    """A prober, and where it answers (port 0: any that is free; it is printed)."""

    address: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8472


def load(path: Path) -> VantageConfig:
    """The configuration of a file. Raises BadInput naming every wrong key."""
    try:
        return VantageConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(
            f"{path} can't be read: {error.strerror}", hint="name the vantage point's configuration"
        ) from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        hint = "correct these keys; see VantageConfig in tasks/service/vantage.py"
        raise BadInput(f"{path}: {wrong}", hint=hint) from None


def run(config: VantageConfig) -> int:
    """Ask and answer until SIGTERM or SIGINT (0). Raises Failed when the port is taken."""
    stop = threading.Event()
    door = Door(config.address, config.port)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    body, route = part(config)
    door.add("GET", "/probes", route)
    door.add("GET", "/health", lambda _query, _body: {"ok": True, "pid": os.getpid()})
    asking = threading.Thread(target=body, args=(stop,), name="probes", daemon=True)
    serving = threading.Thread(target=door.serve_forever, args=(0.1,), name="door", daemon=True)
    for thread in (asking, serving):
        thread.start()
    sys.stdout.write(f"http://{config.address}:{door.server_address[1]}\n")
    sys.stdout.flush()
    stop.wait()
    door.shutdown()
    door.server_close()
    asking.join(config.patience_seconds + 1.0)
    return 0


def main(argv: list[str]) -> int:
    """`python -m tasks.service.vantage CONFIG`. Exit codes as DrError's."""
    try:
        return run(load(Path(argv[1])))
    except IndexError:
        sys.stderr.write("hint: python -m tasks.service.vantage CONFIG\n")
        return BadInput.exit_code
    except DrError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
