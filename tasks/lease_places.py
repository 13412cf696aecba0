"""The same leases at several places: at the ledger's home, and at the recovery site for when the home is silent.

Separate from a lease at one place because here silence is met. A lease is taken at every place that answers, home
first, in one generation; it holds while it holds at one of them and none has another owner. So two engines exclude each
other as long as they reach one place in common. Two that reach none may both go on, which is why a live change needs
the home, or the hazard `ledger-degraded` accepted. Proofs, backups, marks and sweeps need neither: what they make is
named by their plan's digest or written once, and of two of them one is work that was not needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from recovery.errors import BadInput, Failed, Refused
from recovery.lease import Lease, Terms, following
from tasks.circuit import Circuit, Silence
from tasks.home import Home
from tasks.leases import Holding, Leases, wall_clock


@dataclass(frozen=True, kw_only=True, slots=True)
class LeasePlace:
    """The leases at one place, called `name` for people, with the circuit of that place."""

    name: str
    leases: Leases
    circuit: Circuit


class Holdings:
    """A lease held at one place or more. `silent`: why the home does not hold it, or nothing."""

    def __init__(self, held: Sequence[Holding], silent: str) -> None:
        self._held = tuple(held)
        self.silent = silent

    @property
    def generation(self) -> int:
        """The generation that records and fenced effects carry."""
        return max(each.generation for each in self._held)

    def check(self, now: datetime | None = None) -> None:
        """Raises Refused when another has taken it at any place, or its time has passed at all of them."""
        lost = [each for each in self._held if each.lost]
        refusals = []
        for each in lost or self._held:
            try:
                return each.check(now)
            except Refused as refusal:
                refusals.append(refusal)
        raise refusals[0]


class PlacedLeases:
    """Leases at several places as one owner sees them, the home first.

    `need_home`: what is driven under them is live, so that they are refused while the home is silent; asked only then.
    """

    def __init__(
        self,
        places: Sequence[LeasePlace],
        *,
        clock: Callable[[], datetime] = wall_clock,
        need_home: Callable[[], bool] = lambda: False,
    ) -> None:
        self._places = tuple(places)
        self._clock = clock
        self._need_home = need_home

    def look(self, service: str) -> Lease | None:
        """The lease of the newest generation, of all places that answer. Raises Failed when none does."""
        found = [lease for _, lease in self._look(service) if lease is not None]
        return max(found, key=lambda each: (each.generation, each.expires_at), default=None)

    @contextmanager
    def hold(self, service: str, run: str, *, patience_seconds: float = 0.0, least: int = 0) -> Iterator[Holdings]:
        """Take it at every place that answers, renew it meanwhile, release it at the end; see Leases.hold.

        `least`: the generation is this or a newer one. Raises Refused when another holds it at any place, or when the
        home is needed and silent; Failed when no place answers.
        """
        deadline = time.monotonic() + patience_seconds
        looked = self._look(service)
        if looked[0][0] is not self._places[0] and self._need_home():
            raise self._without_home(service)
        # A silent place may hold a newer generation than those that answer: it counts as one that was lost.
        known = [lease for _, lease in looked] + [None] * (len(self._places) - len(looked))
        least = max([least, *(following(lease, run, self._clock()) for lease in known)])
        with ExitStack() as stack:
            held: list[Holding] = []
            for place, _ in looked:
                left = max(0.0, deadline - time.monotonic())
                holding = place.leases.hold(service, run, patience_seconds=left, least=least)
                entered = place.circuit.ask(
                    lambda holding=holding: stack.enter_context(holding),  # type: ignore[misc]
                    silence=self._silence_of(place),
                )
                held += entered or ()
                if entered is None and place is self._places[0] and self._need_home():
                    raise self._without_home(service)  # it answered a look and takes nothing: a full disk, a lost right
            if not held:
                raise self._silence()
            yield Holdings(held, self._places[0].circuit.trouble)

    def _look(self, service: str) -> list[tuple[LeasePlace, Lease | None]]:
        """The places that answer, with the lease that each holds."""
        found: list[tuple[LeasePlace, Lease | None]] = []
        for place in [each for each in self._places if not each.circuit.rests] or self._places:
            answer = place.circuit.ask(
                lambda place=place: place.leases.look(service),  # type: ignore[misc]
                silence=self._silence_of(place),
            )
            if answer is not None:
                found.append((place, answer[0]))
        if not found:
            raise self._silence()
        return found

    def _silence_of(self, place: LeasePlace) -> Silence:
        """What is wrong with a second place, like a bucket that nobody has made there, is no reason to stop."""
        return Failed if place is self._places[0] else (Failed, BadInput)

    def _without_home(self, service: str) -> Refused:
        home = self._places[0]
        return Refused(
            f"the lease on {service} cannot be taken at {home.name}: {home.circuit.trouble}",
            hint="mend the way there; or accept the hazard 'ledger-degraded' in an approval, and act again",
        )

    def _silence(self) -> Failed:
        facts = "; ".join(f"{place.name}: {place.circuit.trouble}" for place in self._places)
        return Failed(
            f"no place that keeps leases can be reached ({facts})",
            hint="mend the way to one of them; without a lease nothing is begun",
        )


def leases_of(home: Home, terms: Terms, *, need_home: Callable[[], bool] = lambda: False) -> PlacedLeases:
    """The leases of a home, at every place that the catalog gives them."""
    places = [
        LeasePlace(
            name=name,
            leases=Leases(store, terms, clock=home.now, reachable=lambda circuit=circuit: not circuit.rests),  # type: ignore[misc]
            circuit=circuit,
        )
        for name, store, circuit in home.lease_places()
    ]
    return PlacedLeases(places, clock=home.now, need_home=need_home)
