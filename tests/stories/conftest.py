"""One lab for all stories of hazards and troubles that a worker runs: raising it costs more than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from troubled import lab

from deployments.lab.world import World
from tasks.home import Home


@pytest.fixture(scope="session")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Home]]:
    """A lab with a full backup and a mark. Who breaks it heals it."""
    with lab(tmp_path_factory.mktemp("troubled") / "home") as made:
        yield made
