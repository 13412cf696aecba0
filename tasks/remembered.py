"""What ended runs said, kept in the home: a look at a ledger of years reads only what is new.

Separate from scoring.py, which reads a ledger and knows no home. A run that is signed changes no more. What is kept is
gone by only while the ledger lists the run, signed, with as many records; report, scorecard and verification
read everything themselves. Lost, torn or another version's: it is read anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from recovery.past import Past
from tasks.home import Home
from tasks.scoring import Pasts, pasts

FOLDER = "remembered"
_FORM = 1
"""Raised when a field of Past is read from the records in another way."""


def pasts_of(home: Home) -> Pasts:
    """Every run of the home's ledger. Raises Failed when the ledger is silent."""
    ledger = home.ledger()
    path = home.folder / FOLDER / f"runs-{_name(ledger.place)}.jsonl"
    if not home.pasts:
        home.pasts.update(_kept(path))
    found = pasts(ledger, home.pasts)
    fresh = [each for each in found.runs if each.sealed == "signed" and home.pasts.get(each.run) != each]
    home.pasts.update((each.run, each) for each in fresh)
    with suppress(OSError):  # a home that cannot be written costs the next look its time, and nothing else
        _keep(path, fresh)
    return found


def _name(place: str) -> str:
    form = (str(_FORM), *Past.model_fields, place)
    return sha256("\0".join(form).encode()).hexdigest()[:16]


def _kept(path: Path) -> Iterable[tuple[str, Past]]:
    with suppress(OSError), path.open("rb") as lines:
        for line in lines:
            with suppress(ValueError):  # torn by a kill, or altered: that run is read again
                past = Past.model_validate_json(line)
                yield past.run, past


def _keep(path: Path, fresh: list[Past]) -> None:
    """One write behind what is there, on a line of its own: two may do so at once, and one may be killed."""
    if not fresh:
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    body = b"".join(b"\n" + each.model_dump_json().encode() for each in fresh) + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "ab") as file:
        file.write(body)
