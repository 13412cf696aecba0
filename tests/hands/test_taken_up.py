"""A run is taken up from a ledger that others write to: its first record counts for what people signed, and no more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recovery.begun import vouched_bytes
from recovery.drive import Move
from recovery.errors import Refused
from recovery.evidence import GENESIS, Record, record_key
from recovery.failover import Proposal
from recovery.hazard import Acceptance
from recovery.journal import RUN_BEGUN, RUN_ENDED
from recovery.plan import Plan
from recovery.value import canonical
from tasks import approving, changing, keys
from tasks.beginning import claim
from tasks.endorsements import Endorsement, endorse, publish
from tasks.engine import Act
from tasks.home import Home
from tasks.journal import read_records
from tasks.kind import Facts
from tasks.signatures import Signer
from tests.time.change_scene import changing_home, made_up, performed

LASTS = timedelta(hours=1)


class Dies(BaseException):
    """The engine, in the midst of its run."""


def dies_at(step: str) -> Callable[[Move, Callable[[], Facts]], Facts]:
    def door(move: Move, perform: Callable[[], Facts]) -> Facts:
        if move.step.id == step:
            raise Dies
        return perform()

    return door


def planned(home: Home) -> Plan:
    made = changing.plan(home, "failover", to="west")
    assert isinstance(made, Proposal)
    return made.plan


def approve(home: Home, plan: Plan, lasts: timedelta = LASTS) -> None:
    shown: Any = changing.proposal(home, plan.digest)
    accepted = tuple(
        Acceptance(klass=each["klass"], limit=each["figure"], unit=each["unit"]) for each in shown["hazards"]
    )
    for who in ("ann", "bob"):
        approving.approve(home, plan, who=who, accepted=accepted, lasts=lasts)


def first_record(plan: Plan, home: Home, consent: dict[str, Any], sign: Signer | None = None) -> None:
    """As whoever can write to the bucket writes it."""
    now = home.now()
    facts: dict[str, Any] = {"purpose": plan.purpose, "arguments": plan.arguments, "consent": consent, "hazards": []}
    if sign is not None:
        facts["signed"] = sign(vouched_bytes(plan.run, now, facts)).model_dump(mode="json")
    record = Record(
        run=plan.run, sequence=0, previous=GENESIS, kind=RUN_BEGUN, subject=plan.service, digest=plan.digest,
        begin=now, who="engine", generation=1, facts={**facts, "door": "dr"},
    )  # fmt: skip
    home.ledger().put(record_key(plan.run, 0), canonical(record))


def test_a_run_goes_on_in_another_home_when_its_approvals_are_over(tmp_path: Path) -> None:
    home = changing_home(tmp_path / "one", n_of_m=2)
    other = Home(folder=tmp_path / "two", catalog=home.catalog, now=lambda: home.now() + 2 * LASTS)
    with made_up(home.folder):
        plan = planned(home)
        approve(home, plan)
        with pytest.raises(Dies):
            changing.act(Act(home=home, door=dies_at("promote")), plan)
        assert claim(home, plan, read_records(home.ledger(), plan.run)[0]).vouched
        shutil.copytree(home.folder / "keys", other.folder / "keys")
        (other.folder / "ledger").symlink_to(home.folder / "ledger")
        told = changing.act(Act(home=other), plan)
    assert told.stopped is None
    assert read_records(other.ledger(), plan.run)[-1].kind == RUN_ENDED
    assert performed(home.folder).count("promote") == 1


@pytest.mark.parametrize(
    "consent",
    [
        {"by": ["ann", "bob"], "spends": [], "standing": "", "accepted": []},
        {"by": ["policy"], "spends": [], "standing": "", "accepted": []},
        {},
    ],
)
def test_a_first_record_that_somebody_wrote_into_the_bucket_starts_nothing(
    tmp_path: Path, consent: dict[str, Any]
) -> None:
    home = changing_home(tmp_path, n_of_m=2)
    with made_up(home.folder):
        plan = planned(home)
        first_record(plan, home, consent)
        with pytest.raises(Refused, match="its first record is not what people signed"):
            changing.act(Act(home=home), plan)
        assert performed(home.folder) == []
        assert len(read_records(home.ledger(), plan.run)) == 1, "and nothing is written behind it"


def test_a_first_record_that_accepts_more_than_its_approvals_starts_nothing(tmp_path: Path) -> None:
    home = changing_home(tmp_path, n_of_m=2)
    with made_up(home.folder):
        plan = planned(home)
        approve(home, plan)
        ids = [each.approval.id for each in approving.consents(home, plan).given]
        consent = {"by": ["ann", "bob"], "spends": ids, "standing": "", "accepted": [{"klass": "split-brain"}]}
        first_record(plan, home, consent)
        with pytest.raises(Refused, match="nobody accepted split-brain"):
            changing.act(Act(home=home), plan)
        assert performed(home.folder) == []


def test_a_first_record_that_lay_there_before_people_signed_passes_nothing_by(tmp_path: Path) -> None:
    home = changing_home(tmp_path, n_of_m=2)
    with made_up(home.folder):
        plan = planned(home)
        first_record(plan, home, {"by": [], "spends": [], "standing": "", "accepted": []})
        approve(home, plan, timedelta(microseconds=1))
        with pytest.raises(Refused, match="expired"):
            changing.act(Act(home=home), plan)
        approve(home, plan)
        assert changing.act(Act(home=home), plan).stopped is None, "what a start is asked is asked, and held"
        assert len(approving.consents(home, plan).spent or {}) == 2, "and spent"


def test_a_first_record_is_vouched_for_by_its_own_engine_alone(tmp_path: Path) -> None:
    home = changing_home(tmp_path / "one", n_of_m=2)
    with made_up(home.folder):
        plan = planned(home)
        approve(home, plan)
        with pytest.raises(Dies):
            changing.act(Act(home=home, door=dies_at("promote")), plan)
    first = read_records(home.ledger(), plan.run)[0]
    assert claim(home, plan, first).vouched
    assert not claim(home, plan, first.but(begin=first.begin - LASTS)).vouched
    assert not claim(home, plan, first.but(facts={**first.facts, "hazards": []})).vouched
    assert not claim(home, plan, first.but(facts={**first.facts, "signed": None})).vouched
    keys.make(tmp_path / "two" / "keys", "engine", "engine")
    assert not claim(Home(folder=tmp_path / "two", catalog=home.catalog), plan, first).vouched


def test_whoever_lays_a_key_of_his_own_into_the_ledger_vouches_for_nothing(tmp_path: Path) -> None:
    home = changing_home(tmp_path / "one", n_of_m=2)
    keys.make(tmp_path / "theirs", "engine", "engine")
    theirs = keys.signer(tmp_path / "theirs", "engine")
    with made_up(home.folder):
        plan = planned(home)
    publish(home.ledger(), theirs.public_pem)
    first_record(plan, home, {"by": [], "spends": [], "standing": "", "accepted": []}, theirs)
    first = read_records(home.ledger(), plan.run)[0]
    assert first.facts["signed"]
    assert not claim(home, plan, first).vouched
    shutil.copy(tmp_path / "theirs" / "engine.pub", home.folder / "keys" / "engine-theirs.pub")
    assert claim(home, plan, first).vouched, "the home's people alone say whose engine it is"


def test_the_engine_whose_key_was_rotated_is_known_by_the_key_that_another_home_has(tmp_path: Path) -> None:
    home = changing_home(tmp_path / "one", n_of_m=2)
    other = Home(folder=tmp_path / "two", catalog=home.catalog)
    shutil.copytree(home.folder / "keys", other.folder / "keys")
    (other.folder / "ledger").symlink_to(home.folder / "ledger")
    card, before = keys.rotate(home.folder / "keys", "engine")
    with made_up(home.folder):
        plan = planned(home)
        approve(home, plan)
        with pytest.raises(Dies):
            changing.act(Act(home=home, door=dies_at("promote")), plan)
    first = read_records(home.ledger(), plan.run)[0]
    assert not claim(other, plan, first).vouched
    assert before is not None
    publish(home.ledger(), before.public_pem)
    publish(home.ledger(), home.signer().public_pem)
    endorse(home.ledger(), Endorsement(key=card.fingerprint, name="engine", role="engine", at=home.now()), before)
    assert claim(other, plan, first).vouched
