"""Choosing a point by the rates that restores of this resource reached at this site, as the ledger tells them.

Separate from proving.py, which acts on what was chosen. The newest restores are found from the leases that they ran
under, each naming the one before it: a ledger of years is not read for it. A ledger that is silent costs the forecast
its figures, never the restore.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from recovery import choose
from recovery.choose import Point, Rates, Target
from recovery.errors import DrError
from recovery.rates import USUAL, Measured, measured_of, rates
from recovery.wal_kept import retired
from tasks.engine import Act
from tasks.home import Home
from tasks.postgres.looking import Points
from tasks.scoring import one

MOST_RUNS = 6
"""Of each sort, the newest; older ones were measured on older data."""
LEASES = ("prove-latest", "prove-mark", "prove-time", "prove-random", "prove-own-end", "restore-by-hand")


def chosen(home: Home, name: str, site: str, target: Target, points: Points) -> Point:
    """The point with the least forecast time at that site. Raises NoPoint with the reason. Where a tool keeps the WAL
    its own retention says what goes: ours retires nothing."""
    resource = home.resource(name)
    policy = home.catalog.backups[resource.backup]
    native = resource.engine == "native"
    return choose.choose(
        target, backups=points.backups, archive=points.archive, timeline=points.timeline, known=points.known,
        rates=rates_at(home, name, site), reached=points.reached,
        retired=retired(points.archive, points.backups, policy, now=home.now()) if native else None,
    )  # fmt: skip


def rates_at(home: Home, name: str, site: str) -> Rates:
    """The rates of a resource's restores at a site; the usual ones where nothing tells of any."""
    try:
        with ThreadPoolExecutor(len(LEASES), thread_name_prefix="rates") as pool:
            found = list(pool.map(lambda lease: _under(home, f"{name}-{lease}"), LEASES))
    except DrError:
        return USUAL.but(why="from usual rates: what is on record of past restores could not be read")
    return rates([each for few in found for each in few], site)


def _under(home: Home, lease: str) -> list[Measured]:
    last = Act(home=home).leases().look(lease)
    run = last.run if last is not None else ""
    found: list[Measured] = []
    ledger = home.ledger()
    for _ in range(MOST_RUNS):
        past = one(ledger, run) if run else None
        if past is None:
            break
        measured = measured_of(past)
        found += [measured] if measured is not None else []
        run = past.before
    return found
