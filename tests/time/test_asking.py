"""What a schedule or a form asks for, and which proofs it means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.schedules import lab_catalog
from recovery.errors import BadInput
from tasks import asking
from tasks.asking import Asked
from tasks.home import Home
from tasks.postgres.faults import catalogue
from tasks.postgres.faults.fault import Stage

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def here(tmp_path: Path) -> Home:
    return Home(folder=tmp_path, catalog=lab_catalog(), now=lambda: NOW)


def test_the_daily_proof_is_the_mark_the_latest_and_one_planted_fault(here: Home) -> None:
    made = asking.proofs(here, (), asked=Asked.DAILY)
    assert [(each.resource, each.sort, each.mutate is not None) for each in made] == [
        ("orders-db", "mark", False),
        ("orders-db", "latest", False),
        ("orders-db", "mark", True),
    ]
    assert made[2].mutate in catalogue.names()


def test_a_policy_that_never_plants_plants_nothing(here: Home) -> None:
    never = here.catalog.proofs["daily"].but(planted_fault="never")
    calm = Home(folder=here.folder, catalog=here.catalog.but(proofs={"daily": never}), now=here.now)
    assert [each.mutate for each in asking.proofs(calm, (), asked=Asked.DAILY)] == [None, None]


def test_none_spares_the_planted_fault(here: Home) -> None:
    assert [each.mutate for each in asking.proofs(here, (), asked=Asked.DAILY, mutate="none")] == [None, None]


def test_a_named_fault_is_planted_in_one_restore(here: Home) -> None:
    name = catalogue.names()[0]
    (made,) = asking.proofs(here, ["orders-db"], asked=Asked.DAILY, mutate=name)
    assert (made.sort, made.mutate) == ("mark", name)


def test_away_from_the_mark_only_faults_are_planted_that_are_found_there(here: Home) -> None:
    for _ in range(50):
        (made,) = asking.proofs(here, (), asked=Asked.LATEST, mutate="random")
        assert catalogue.of(str(made.mutate)).stage is not Stage.SQL


def test_a_moment_is_resolved_once(here: Home) -> None:
    (made,) = asking.proofs(here, (), asked=Asked.TIME, as_of="15 min ago")
    assert made.at == NOW - timedelta(minutes=15)


@pytest.mark.parametrize(
    ("asked", "as_of", "mutate", "resources", "fact"),
    [
        (Asked.TIME, " ", "", (), "needs the moment"),
        (Asked.DAILY, "15 min ago", "", (), "a proof of sort daily takes none"),
        (Asked.MARK, "", "gremlins", (), "there is no fault 'gremlins'"),
        (Asked.MARK, "", "", ("nope",), "no resource 'nope'"),
        (Asked.LATEST, "", "rows-missing", (), "compared with a mark alone"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_touched(
    here: Home, asked: Asked, as_of: str, mutate: str, resources: tuple[str, ...], fact: str
) -> None:
    with pytest.raises(BadInput, match=fact):
        asking.proofs(here, resources, asked=asked, as_of=as_of, mutate=mutate)
