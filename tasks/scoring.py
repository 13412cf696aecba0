"""Reading the past from a ledger: every run in three small documents, many at once.

Separate from the journal, which reads whole chains: lists, status and scorecard need thousands of runs and few records
of each. A damaged chain is the verification's to find; here its run is told as unreadable, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from recovery.errors import BadInput
from recovery.evidence import Link, Record, manifest_key, read_link
from recovery.past import Past, past
from recovery.value import Value
from tasks.ledger import Ledger
from tasks.ledger_mirrored import silent_of

READERS = 16


class Unreadable(Value):
    """A run whose documents cannot be read, and why."""

    run: str
    why: str


class Pasts(Value):
    """All runs of a ledger, newest first, and those that cannot be read."""

    place: str
    runs: tuple[Past, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    silent: dict[str, str] = {}
    """Copies of the ledger that did not answer, and why; what is told here is what the others hold."""


def pasts(ledger: Ledger, known: Mapping[str, Past] | None = None) -> Pasts:
    """Every run. One listing, then at most three small documents a run. Raises Failed when the ledger is silent.

    `known`: what was read of them before; a run that is signed changes no more, and is not read again."""
    found: list[Past | Unreadable] = []
    unread: list[tuple[str, tuple[str, ...]]] = []
    for run, keys in _runs(ledger):
        before = (known or {}).get(run)
        if before is not None and _is_same(before, run, keys):
            found.append(before)
        else:
            unread.append((run, keys))
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        found += pool.map(lambda each: _past(ledger, *each), unread)
    runs = [each for each in found if isinstance(each, Past)]
    return Pasts(
        place=ledger.place,
        runs=tuple(sorted(runs, key=lambda each: (each.begun_at, each.run), reverse=True)),
        unreadable=tuple(each for each in found if isinstance(each, Unreadable)),
        silent=silent_of(ledger),
    )


def _is_same(before: Past, run: str, keys: Sequence[str]) -> bool:
    return before.sealed == "signed" and before.records == len(keys) - 1 and keys[-1] == manifest_key(run)


def one(ledger: Ledger, run: str) -> Past | None:
    """One run by its name; None where there is none, or none that can be read."""
    found = _past(ledger, run, tuple(ledger.list(f"runs/{run}/")))
    return found if isinstance(found, Past) else None


def resolve(ledger: Ledger, prefix: str) -> tuple[str, ...]:
    """The runs and plans whose name begins so (at most 20). Raises BadInput when there is none."""
    if not prefix or not all(each in "0123456789abcdef" for each in prefix):
        raise BadInput(f"{prefix!r} is no run or plan", hint="name it by its first hexadecimal digits, see 'dr runs'")
    names: list[str] = []
    for place in (f"runs/{prefix}", f"plans/{prefix}"):
        for key in _names(ledger, place):
            if key not in names:
                names.append(key)
            if len(names) == 20:
                return tuple(names)
    if not names:
        raise BadInput(f"no run or plan begins with {prefix}", hint="'dr runs' lists the runs")
    return tuple(names)


def _names(ledger: Ledger, prefix: str) -> Iterator[str]:
    """Names below `runs/` or `plans/`, skipping the rest of each run's documents."""
    last = ""
    while True:
        key = next(ledger.list(prefix, last), None)
        if key is None:
            return
        name = key.split("/")[1].removesuffix(".json")
        yield name
        last = f"{key.split('/')[0]}/{name}0"  # behind every key of the run: '0' follows '/' and '.'


def _runs(ledger: Ledger) -> Iterator[tuple[str, tuple[str, ...]]]:
    for run, keys in groupby(ledger.list("runs/"), key=lambda key: key.split("/")[1]):
        yield run, tuple(keys)


def _past(ledger: Ledger, run: str, keys: Sequence[str]) -> Past | Unreadable:
    chain = [key for key in keys if key != manifest_key(run)]
    wanted = dict.fromkeys((*chain[:1], *chain[-2:-1], *chain[-1:]))
    found: dict[str, Record] = {}
    for key in wanted:
        link = read_link(key, ledger.get(key) or b"")
        if not isinstance(link, Link):
            return Unreadable(run=run, why=link)
        found[key] = link.record
    if not chain:
        return Unreadable(run=run, why="it has a manifest and no record")
    said = found[chain[-2]] if len(chain) > 1 else None
    signed = len(chain) != len(keys)
    return past(run, first=found[chain[0]], said=said, last=found[chain[-1]], records=len(chain), signed=signed)


def chain(ledger: Ledger, run: str) -> tuple[Record, ...]:
    """The readable records of a run, in order, for looking at it; what is wrong with others the verification says."""
    keys = [key for key in ledger.list(f"runs/{run}/") if key != manifest_key(run)]
    links = [read_link(key, ledger.get(key) or b"") for key in keys]
    return tuple(link.record for link in links if isinstance(link, Link))
