"""How large a site of the sample platform is: instances that are counted, asked for, and take a moment to serve.

Separate because it is the lab's stand-in for a cloud's group of machines: files of its folder say what the lab made of
the site (`capacity`: small, or limited) and what it was asked for since (`at_least`).
"""

from __future__ import annotations

import time
from pathlib import Path

FULL = 3
"""So many instances carry all users; a site that nobody made smaller has them."""
FEW = 1
MOST = 20
STARTS_SECONDS = 0.3
"""From one instance that serves to the next."""


class Capacity:
    """One site's instances."""

    def __init__(self, folder: Path) -> None:
        self._made = folder / "capacity"
        self._asked = folder / "at_least"

    def told(self) -> dict[str, int]:
        """`at_least`, `desired`, `in_service`, `at_most`."""
        made = _text(self._made)
        first = FEW if made else FULL
        at_least = int(_text(self._asked) or FEW)
        at_most = FEW if made == "limited" else MOST
        desired = min(at_most, max(first, at_least))
        return {
            "at_least": at_least,
            "desired": desired,
            "in_service": self._serving(first, desired),
            "at_most": at_most,
        }

    def raise_to(self, at_least: int) -> None:
        """Have at least so many. Raises ValueError beyond the most."""
        told = self.told()
        if not 1 <= at_least <= told["at_most"]:
            raise ValueError(f"{at_least} instances are more than {told['at_most']}, the most that there may be")
        if at_least > told["at_least"]:
            fresh = self._asked.with_suffix(".new")
            fresh.write_text(f"{at_least}\n")
            fresh.replace(self._asked)

    def _serving(self, first: int, desired: int) -> int:
        try:
            since = time.time() - self._asked.stat().st_mtime
        except FileNotFoundError:
            return first
        return min(desired, first + max(0, int(since / STARTS_SECONDS)))


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
