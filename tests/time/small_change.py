"""A program: the flow `failover` in a made-up world, against the named server. With a digest that plan is taken up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def hurried(folder: Path) -> Iterator[None]:
    """While HOME/hurried is there, consent is awaited for seconds, and so is giving back."""
    from tasks import verbs, waiting

    def shortly(case: Any, screen: Any, *, wait_seconds: float, log: Any) -> Awaitable[None]:
        return consented(case, screen, wait_seconds=5.0 if (folder / "hurried").exists() else wait_seconds, log=log)

    consented = waiting.consented
    grace = 2.0 if (folder / "hurried").exists() else verbs.GIVE_BACK_SECONDS
    with patch("tasks.waiting.consented", shortly), patch("tasks.verbs.GIVE_BACK_SECONDS", grace):
        yield


def main(folder: Path, api_url: str, digest: str) -> None:
    """Settings first, Prefect after them."""
    from deployments.flown import connected

    with connected(folder, api_url):
        from flows.failover import failover
        from tests.time.change_scene import changing_home, made_up

        home = changing_home(folder)
        named, patience = patch("tasks.asking.home_at", lambda folder: home), patch("tasks.verbs.API_SECONDS", 2.0)
        with made_up(folder), named, patience, hurried(folder):
            asyncio.run(failover(service="core", to="west", digest=digest, return_state=True))  # type: ignore[arg-type,call-overload,unused-ignore]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
