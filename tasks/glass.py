"""Break glass: this process promises that Prefect is nowhere in it, and keeps the promise by force.

Separate because it is a property of the whole process and of no module. `dr act` never needs Prefect; after `forbid`
whatever would still reach for it fails at once, instead of waiting for a server that hangs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

from recovery.errors import Failed

DOOR: Final = "glass"
"""The word on record for the door that such a run came through."""


class _Forbidden(MetaPathFinder):
    """Finds nothing, and lets nobody after it find Prefect either."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 -- the finder's shape
        target: ModuleType | None = None,  # noqa: ARG002 -- the finder's shape
    ) -> ModuleSpec | None:
        """See MetaPathFinder."""
        if fullname.partition(".")[0] == "prefect":
            raise ImportError(f"{fullname} is not used under --glass")
        return None


def forbid() -> None:
    """From here on nothing in this process can import Prefect. Raises Failed when something has done so already."""
    if "prefect" in sys.modules:
        raise Failed(
            "Prefect is loaded in this process already",
            hint="report this defect; dr act works without --glass",
        )
    if not any(isinstance(each, _Forbidden) for each in sys.meta_path):
        sys.meta_path.insert(0, _Forbidden())


def allow() -> None:
    """Take the promise back: for tests, which share their process."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Forbidden)]
