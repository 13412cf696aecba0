"""Sweeping: scratch whose time is over, whoever made it; retention and leftovers in the buckets.

Separate because it runs when nobody watches: it discards only what carries an owner and an expiry, and says why.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from recovery.errors import DrError
from recovery.value import Value, in_utc
from tasks import backing
from tasks.home import Home
from tasks.postgres.restoring import keep_log
from tasks.postgres.scratch import Scratch, discard
from tasks.retaining import Swept


class Scratches(Value):
    """What became of the scratch folders: discarded, kept with the reason, and what could not be judged or removed."""

    discarded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def sweep_scratch(home: Home) -> Scratches:
    """Discard every scratch past its expiry. A folder without an owner's note is never touched, only told."""
    discarded: list[str] = []
    kept: list[str] = []
    troubles: list[str] = []
    for folder in sorted(home.scratch.glob("*")) if home.scratch.is_dir() else []:
        expires_at = _expiry(folder)
        if expires_at is None:
            troubles.append(f"{folder.name}: no owner's note, so it is not ours to discard")
        elif home.now() <= expires_at:
            kept.append(f"{folder.name}: until {expires_at:%Y-%m-%d %H:%M:%S}Z")
        else:
            keep_log(folder, home.folder / "log")
            try:
                discard(Scratch(folder=folder, bin_dir=Path(), user="postgres"))
            except DrError as trouble:
                troubles.append(f"{folder.name}: {trouble.fact}")
            else:
                discarded.append(folder.name)
    return Scratches(discarded=tuple(discarded), kept=tuple(kept), troubles=tuple(troubles))


def _expiry(folder: Path) -> datetime | None:
    try:
        return in_utc(datetime.fromisoformat(json.loads((folder / "owner.json").read_text())["expires_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Sweep(Value):
    """All that one sweep did."""

    scratch: Scratches
    sites: dict[str, tuple[Swept, ...]]


def sweep(home: Home, *, proven: frozenset[str], really: bool = True) -> Sweep:
    """Scratch, and every resource's buckets at all sites in one go: no site copies back what another removed."""
    scratches = sweep_scratch(home) if really else Scratches()
    sites = {name: backing.sweep(home, name, proven=proven, really=really) for name in sorted(home.catalog.resources)}
    return Sweep(scratch=scratches, sites=sites)
