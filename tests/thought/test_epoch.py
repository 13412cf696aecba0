"""The epoch of a service is read from evidence, and an older plan is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from recovery.epoch import epoch, facts_of_change, refuse_older
from recovery.errors import Refused
from recovery.evidence import GENESIS, Record


def record(service: str, number: JsonValue, kind: str = "epoch.changed") -> Record:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    return Record(
        run="r", sequence=0, previous=GENESIS, kind=kind, subject=service, begin=at, who="e", facts={"epoch": number}
    )


def test_a_service_begins_in_epoch_zero() -> None:
    assert epoch([], "shop") == 0


def test_only_changes_of_that_service_count() -> None:
    others = [
        record("bank", 9),
        record("shop", 5, "proof"),
        record("shop", True),
        record("shop", "8"),
        record("shop", -1),
    ]
    assert epoch([*others, record("shop", 2)], "shop") == 2


@given(st.permutations([1, 2, 3, 4]))
def test_the_order_of_merged_records_does_not_matter(numbers: list[int]) -> None:
    assert epoch([record("shop", n) for n in numbers], "shop") == 4


def test_a_change_leads_from_one_epoch_to_the_next() -> None:
    facts = facts_of_change(7, to="west")
    assert facts == {"epoch": 8, "before": 7, "to": "west"}


def test_an_older_plan_is_refused_and_a_present_one_is_not() -> None:
    refuse_older(8, 8, "shop")
    with pytest.raises(Refused, match="epoch 7 of shop, which is in epoch 8"):
        refuse_older(7, 8, "shop")
