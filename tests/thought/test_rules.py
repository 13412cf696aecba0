"""The numbered rules: the table and its picture are golden; what is judged at the act is judged by its number."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from recovery.breach import breaches, failover_path
from recovery.errors import Refused
from recovery.rules import ORDERS, RULES, diagram, dump, may_redirect, one_run
from recovery.runbook import Runbook, RunbookStep, flat
from recovery.step import Mode
from recovery.verb import VERBS, Place, Plane, calls
from tests.thought import failover_scene as scene

GOLDEN = Path(__file__).resolve().parents[1] / "words" / "golden"


def test_the_table_and_its_diagram_are_golden() -> None:
    assert dump() == (GOLDEN / "rules.md").read_text()
    assert diagram() == (GOLDEN / "rules.mmd").read_text()


def test_rules_are_numbered_without_a_gap_and_orders_cite_them() -> None:
    assert list(RULES) == list(range(1, len(RULES) + 1))
    assert {order.rule for order in ORDERS} <= set(RULES)
    assert {verb for order in ORDERS for verb in (*order.first, order.then)} <= set(VERBS)


@pytest.mark.parametrize("name", ["failover", "switchover", "failback"])
def test_taking_any_step_away_from_a_lawful_runbook_never_makes_a_lawful_danger(name: str) -> None:
    """Without its fence, quarantine, approval or protection, each of them is refused by the rule's number."""
    whole = scene.runbook(name)
    expected = {"fence": 1, "quarantine": 10, "approve": 14, "protect": 9, "losses": 12, "demote": 13}
    for verb, number in expected.items():
        if not any(step.verb == verb for step in whole.steps):
            continue
        gone = {step.id for step in whole.steps if step.verb == verb}
        needs = {step.id: step.needs for step in whole.steps}

        def through(
            names: tuple[str, ...], gone: set[str] = gone, needs: dict[str, tuple[str, ...]] = needs
        ) -> tuple[str, ...]:
            return tuple(found for each in names for found in (through(needs[each]) if each in gone else (each,)))

        left = tuple(
            step.but(needs=through(step.needs), until=None if step.until in gone else step.until)
            for step in whole.steps
            if step.id not in gone
        )
        assert number in {breach.rule.number for breach in breaches(whole.but(steps=left))}, (name, verb)


def test_an_undeclared_way_is_no_way_and_several_need_only_one_that_is_stable() -> None:
    failover = scene.runbook("failover")
    assert breaches(failover) == ()
    assert breaches(failover, {"dns": ("routing-control", "record-edit")}) == ()
    only = breaches(failover, {"dns": ("record-edit",)})
    assert [breach.words for breach in only] == [
        "rule 5 (static stability): `redirect` by record-edit needs Route53's record edits (us-east-1)"
    ]


def test_a_runbook_that_declares_no_fence_is_lawful_with_its_hazard() -> None:
    failover = scene.runbook("failover")
    bare = tuple(
        step.but(needs=tuple(need for need in step.needs if need != "fence"), until=None, arguments={"unfenced": "why"})
        if step.verb == "promote"
        else step.but(until=None)
        for step in failover.steps
        if step.verb != "fence"
    )
    assert breaches(failover.but(steps=bare)) == ()


def test_the_failover_path_ends_where_users_are_served() -> None:
    path = failover_path(scene.runbook("failover"))
    assert {"declare", "approve", "fence", "promote", "validate", "redirect", "converge"} <= path
    assert path.isdisjoint({"protect", "release", "bake", "notify"})
    assert failover_path(scene.runbook("restore")) == frozenset()


def test_rules_cannot_be_judged_on_steps_that_are_never_reached() -> None:
    a = RunbookStep(id="a", verb="notify", needs=("b",))
    b = RunbookStep(id="b", verb="notify", needs=("a",))
    with pytest.raises(ValueError, match="never be reached: a, b"):
        breaches(Runbook(name="x", version="1", title="x", purpose="x", steps=(a, b)))


def test_a_restore_is_judged_by_its_folder_too() -> None:
    restore = scene.runbook("restore")
    for into, lawful in (("/data", False), ("/data/new", False), ("/", False), ("/database", True), ("fresh", True)):
        first = restore.steps[0].but(arguments={"into": into})
        found = breaches(restore.but(steps=(first, *restore.steps[1:])), None, ("/data/",))
        assert (found == ()) is lawful, into
        assert {breach.rule.number for breach in found} <= {7}


def test_what_a_verb_calls_depends_on_its_variant_its_way_and_its_site() -> None:
    assert calls(VERBS["promote"], {}, ungraceful=True).places == {Place.TO}
    assert calls(VERBS["promote"], {}, ungraceful=False).places == {Place.FROM, Place.TO}
    assert calls(VERBS["fence"], {}, ungraceful=True, way="cloud").planes == {Plane.OF_FROM}
    assert calls(VERBS["probe"], {"site": "witness"}, ungraceful=True).places == {Place.WITNESS}
    assert calls(VERBS["probe"], {"site": "mars"}, ungraceful=True).places == frozenset()


def test_one_run_drives_a_service() -> None:
    one_run(None, "a" * 64)
    one_run("a" * 64, "a" * 64)
    with pytest.raises(Refused, match=r"rule 4 \(one run per service\): run bbbbbbbbbbbb"):
        one_run("b" * 64, "a" * 64)


def test_nothing_is_redirected_to_a_site_whose_probes_do_not_all_pass() -> None:
    may_redirect("west", {"app": "passed", "api": "passed"})
    for probes, why in (
        ({"app": "passed", "api": "failed"}, "api failed"),
        ({"app": "unproven"}, "app unproven"),
        ({}, "no probe"),
    ):
        with pytest.raises(Refused, match=rf"rule 3 \(never to a failing site\): west is not well: .*{why}"):
            may_redirect("west", probes)  # type: ignore[arg-type]


def test_every_pair_of_shipped_runbooks_can_stand_in_one_another_as_far_as_names_go() -> None:
    books = {name: scene.runbook(name) for name in ("switchover", "restore", "rehearse-dns")}
    for outer, inner in combinations(books, 2):
        step = RunbookStep(id="inner", verb="runbook", arguments={"runbook": inner}, needs=(books[outer].steps[-1].id,))
        opened = flat(books[outer].but(steps=(*books[outer].steps, step)), books)
        assert len(opened.steps) == len(books[outer].steps) + len(books[inner].steps)
        assert opened.step(f"inner-{books[inner].steps[0].id}").needs == (books[outer].steps[-1].id,)


def test_every_variant_of_a_shipped_runbook_has_a_step_that_is_performed() -> None:
    for name in ("failover", "switchover", "failback", "restore", "drill", "rehearse-dns"):
        book = scene.runbook(name)
        for mode in book.variants:
            assert any(not step.omitted(mode) for step in book.steps)
        assert book.mode in Mode
