"""A drill that people held, put on record: told and signed by one of them, closed by the engine as every run is.

Separate from recovery/drilled.py, which says what is due: here are keys and the ledger. What was done in a room cannot
be seen from here, so that the word of a listed person is the evidence, and it is kept as that person's word.
"""

from __future__ import annotations

from datetime import datetime

from recovery.check import Verdict
from recovery.drilled import HELD, Held
from recovery.errors import BadInput
from recovery.value import sha256_of
from tasks.approving import listed_signer
from tasks.endorsements import publish
from tasks.home import Home
from tasks.journal import Journal


def hold(home: Home, name: str, *, who: str, verdict: Verdict, held_at: datetime, why: str = "") -> tuple[Held, str]:
    """Put a drill of people on record; gives what was signed, and its run. Raises BadInput for a drill that is not
    theirs or has not been yet, Refused when the catalog does not list the key."""
    written = home.catalog.operations.drills
    people = [each for each, drill in written.items() if drill.runbook is None]
    if name not in written:
        raise BadInput(f"the catalog has no drill {name!r}", hint=f"people hold: {', '.join(people) or 'none'}")
    if (runbook := written[name].runbook) is not None:
        begins = "dr drill" if runbook == "drill" else f"dr plan {runbook}"
        raise BadInput(f"the engine runs {name}, and its run is the record of it", hint=f"begin it with '{begins}'")
    now = home.now()
    if held_at > now:
        raise BadInput(f"{name} cannot be told of before it was held", hint="write when it was: --on '2 h ago'")
    sign = listed_signer(home, who)
    draft = Held(drill=name, held_at=held_at, verdict=verdict, who=who, why=why, told_at=now)
    told = draft.model_copy(update={"signature": sign(draft.signed_bytes())})
    ledger, run = home.ledger(), sha256_of(told)
    publish(ledger, sign.public_pem)
    journal = Journal(ledger, run, who=who, generation=0, clock=home.now)
    facts = {"purpose": HELD, "told_from": home.who, **told.model_dump(mode="json")}
    journal.append("drill.held", name, facts=facts, begin=held_at, end=now)
    journal.end(verdict.value, home.signer())
    return told, run
