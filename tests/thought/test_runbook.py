"""Runbooks by themselves: variants, nesting, what is wrong with them; and binding them to a catalog."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.binding import Ends, bind, data_dirs, ends, groups, live_ids, moved_by, resources, unbound
from recovery.contradictions_of_doors import of_doors
from recovery.doors import Approver, DnsRecord, Probe, StandingTerms
from recovery.errors import BadInput
from recovery.names import filled, names, unknown_names
from recovery.runbook import Runbook, RunbookStep, flat, nested, troubles
from recovery.step import Mode
from tests.thought import failover_scene as scene

EAST_TO_WEST = Ends(service="core", source="east", target="west")


def step(id_: str, *needs: str, **more: Any) -> RunbookStep:
    return RunbookStep.model_validate({"id": id_, "verb": "notify", "needs": needs, **more})


def book(*steps: RunbookStep, name: str = "book", **more: Any) -> Runbook:
    return Runbook.model_validate({"name": name, "version": "1", "title": "t", "purpose": "p", "steps": steps, **more})


def told(runbook: Runbook) -> list[str]:
    return [each.fact for each in troubles(runbook, list(enumerate(runbook.steps)), [s.id for s in runbook.steps])]


def test_a_variant_adds_its_arguments_and_may_leave_a_step_out() -> None:
    one = step("a", arguments={"whom": "all"}, ungraceful={"omitted": "they know"})
    assert one.arguments_in(Mode.GRACEFUL) == {"whom": "all"}
    assert not one.omitted(Mode.GRACEFUL)
    assert one.omitted(Mode.UNGRACEFUL)
    assert book(one).step("a") is not None
    with pytest.raises(KeyError):
        book(one).step("b")


def test_a_rehearsal_and_scratch_are_not_live() -> None:
    assert step("a", verb="redirect", resource="dns").live
    assert not step("a", verb="redirect", resource="rehearsal").live
    assert not step("a", verb="promote", resource="database", arguments={"scratch": True}).live
    assert not step("a", verb="no-verb").live


@given(st.data())
def test_any_graph_is_either_a_plan_or_told_wholly_where_it_is_not(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    ids = [f"s{number}" for number in range(count)]
    needs = [data.draw(st.lists(st.sampled_from([*ids, "gone"]), max_size=2, unique=True)) for _ in ids]
    made = book(*(step(name, *need) for name, need in zip(ids, needs, strict=True)))
    facts = " ".join(told(made))
    reached: set[str] = set()
    while fresh := {i for i, need in zip(ids, needs, strict=True) if i not in reached and reached.issuperset(need)}:
        reached |= fresh
    for name, need in zip(ids, needs, strict=True):
        if name in reached:
            assert f"`{name}` can never" not in facts
        else:
            assert name in facts or "gone" in need
    if len(reached) == count:
        assert facts == ""


def test_a_step_that_could_not_be_read_is_not_called_unknown() -> None:
    made = book(step("a", "b"))
    assert list(troubles(made, [(0, made.steps[0])], ["a", "b"])) == []


def test_nested_runbooks_are_opened_in_their_place() -> None:
    inner = book(step("x", until="y"), step("y", "x"), step("z", "x"), name="inner")
    middle = book(step("m", verb="runbook", arguments={"runbook": "inner"}), name="middle")
    outer = book(
        step("a", until="b"),
        step("b", "a", verb="runbook", arguments={"runbook": "middle"}),
        step("c", "b"),
    )
    opened = flat(outer, {"inner": inner, "middle": middle})
    assert [each.id for each in opened.steps] == ["a", "b-m-x", "b-m-y", "b-m-z", "c"]
    assert opened.step("b-m-x").needs == ("a",)
    assert opened.step("c").needs == ("b-m-y", "b-m-z")
    assert opened.step("a").until == "b-m-x"
    assert opened.step("b-m-x").until == "b-m-y"
    assert nested(outer) == ("middle",)
    assert nested(None) == ()
    with pytest.raises(ValueError, match="there is no runbook `middle`; the runbooks are inner"):
        flat(outer, {"inner": inner})
    with pytest.raises(ValueError, match="`middle` within it is wrong"):
        flat(outer, {}, ("middle",))
    around = book(step("m", verb="runbook", arguments={"runbook": "book"}), name="middle")
    with pytest.raises(ValueError, match="circle: book → middle → book"):
        flat(outer, {"middle": around, "book": outer})


def test_a_role_with_several_resources_gives_a_step_for_each_and_what_follows_needs_all() -> None:
    catalog = scene.catalog()
    again = catalog.dns["app"].but(name="api.validation.example")
    core = catalog.services["core"].but(dns=("app", "api"))
    two = catalog.but(dns={"app": catalog.dns["app"], "api": again}, services={"core": core})
    made = book(
        step("before", until="go"),
        step("go", "before", verb="redirect", resource="dns", arguments={"site": "to"}),
        step("after", "go"),
    )
    bound = bind(made, two, EAST_TO_WEST)
    assert [each.id for each in bound] == ["before", "go-app", "go-api", "after"]
    assert bound[0].until == "go-app"
    assert bound[3].needs == ("go-app", "go-api")
    assert bound[1].arguments == {"site": "west", "by": ["inverted-health-check"]}
    assert groups(bound) == (("before",), ("go-app", "go-api"), ("after",))
    assert live_ids(made, two, EAST_TO_WEST) == {"go-app", "go-api"}
    named = book(step("go", verb="redirect", resource="app", arguments={"site": "to", "by": "routing-control"}))
    assert bind(named, two, EAST_TO_WEST)[0].arguments["by"] == "routing-control"
    assert live_ids(book(step("r", verb="redirect", resource="rehearsal")), catalog, EAST_TO_WEST) == frozenset()


def test_binding_refuses_what_the_catalog_does_not_have() -> None:
    catalog = scene.catalog()
    with pytest.raises(BadInput, match="acts on `orders`, which core doesn't have"):
        bind(book(step("a", resource="orders")), catalog, EAST_TO_WEST)
    with pytest.raises(BadInput, match=r"names \{moon\}, which the catalog doesn't have"):
        bind(book(step("a", manual="go to {moon}")), catalog, EAST_TO_WEST)
    assert [each[2] for each in unbound(book(step("a", resource="orders"), step("b")), catalog)] == [
        "there is no resource `orders`"
    ]
    bare = catalog.but(dns={}, services={"core": catalog.services["core"].but(dns=())})
    assert [each[2] for each in unbound(scene.runbook("rehearse-dns"), bare)] == [
        "there is no resource `rehearsal`"
    ] * 5
    assert moved_by(bare) == {}
    assert data_dirs(catalog) == ("/var/lib/postgresql/18/main",) * 2


def test_the_ends_come_from_the_catalog_unless_they_are_given() -> None:
    catalog = scene.catalog()
    failover, failback = scene.runbook("failover"), scene.runbook("failback")
    assert ends(catalog, failover) == EAST_TO_WEST
    assert ends(catalog, failback) == Ends(service="core", source="west", target="east")
    assert ends(catalog, failover, to="east") == Ends(service="core", source="west", target="east")
    several = catalog.but(services={"core": catalog.services["core"], "video": catalog.services["core"]})
    assert ends(several, failover, service="video").service == "video"
    for where, given_, fact in (
        (several, {}, "several services"),
        (catalog, {"service": "mail"}, "no service 'mail'"),
        (catalog, {"to": "witness"}, "no site 'witness' that could serve"),
        (catalog.but(sites={"east": catalog.sites["east"]}), {"to": "east"}, "there is no second site"),
        (catalog.but(sites={"east": catalog.sites["east"]}), {}, "no site is recovery"),
        (catalog.but(services={}), {}, "no service ''"),
    ):
        with pytest.raises(BadInput, match=fact):
            ends(where, failover, **given_)
    assert resources(catalog, "core", "validation-db") == ("validation-db",)
    assert resources(catalog, "core", "nothing") == ()


def test_lines_are_repeated_for_each_value_and_left_out_where_an_optional_name_is_missing() -> None:
    known = {"a": ("1",), "b": ("x", "y")}
    assert filled("at {a}\n{b} of {a}\n{c?} gone\n{b?}", known) == "at 1\nx of 1\ny of 1\nx\ny"
    assert unknown_names("{c} {c} {d?} {b} {e}", known) == ("c", "e")
    with pytest.raises(KeyError):
        filled("{c}", known)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("health-check", "nothing to do: the health check moves app.validation.example by itself"),
        (
            "inverted-health-check",
            "$ aws s3api put-object --region us-west-2 --profile standfast-west --bucket validation-platform-failover-",
        ),
        ("routing-control", "one of these is enough"),
        ("record-edit", "$ aws route53 change-resource-record-sets --hosted-zone-id Z08157623QK1EXAMPLE1"),
    ],
)
def test_each_way_of_moving_a_name_has_its_exact_commands(how: str, line: str) -> None:
    catalog = scene.catalog()
    app = catalog.dns["app"]
    records = {site: record.but(control=f"app-{site}") for site, record in app.records.items()}
    moved = catalog.but(dns={"app": app.but(moved_by=how, records=records)})
    there = names(moved, service="core", resource="app", source="east", target="west")["dns.move"]
    assert there[0].startswith(line)
    if how == "routing-control":
        assert len(there) == 6
        assert "cc33dd44,RoutingControlState=On" in there[1]
        assert "aa11bb22,RoutingControlState=Off" in there[1]
    if how == "record-edit":
        assert '"Value":"198.51.100.20"' in there[0]
        alone = catalog.but(dns={"app": app.but(moved_by=how, records={"east": app.records["east"]})})
        lacking = names(alone, service="core", resource="app", source="east", target="west")["dns.move"]
        assert lacking == ("app.validation.example has no record for west: it cannot be moved there",)
    back = names(moved, service="core", resource="app", source="east", target="west")["dns.back"]
    if how == "inverted-health-check":
        marker = "s3://validation-platform-failover-west/standfast/east-is-out"
        assert back == (f"$ aws s3 rm --region us-west-2 --profile standfast-west {marker}",)


def test_without_controls_there_is_no_command_and_a_manual_that_needs_one_says_so() -> None:
    catalog = scene.catalog()
    lame = catalog.dns["app"].but(moved_by="routing-control")
    for changed in (catalog.but(dns={"app": lame}), catalog.but(dns={"app": lame}, routing=None)):
        known = names(changed, service="core", resource="app", source="east", target="west")
        assert unknown_names("{dns.move}", known) == ("dns.move",)


def test_passwords_are_never_printed_and_a_bare_member_still_has_names() -> None:
    catalog = scene.catalog()
    database = catalog.resources["validation-db"]
    east = database.members["east"].but(dsn="postgresql://u:s3cret@h/db", host="local", agent=None, instance=None)
    west = database.members["west"].but(dsn="host=h password='s3 cret' user=u")
    changed = catalog.but(
        ledger=catalog.ledger.but(home="directory:ledger"),
        consent=catalog.consent.but(approvers={"ann": Approver(key="a" * 64)}),
        resources={"validation-db": database.but(members={"east": east, "west": west}, prefix="/p/")},
    )
    known = names(changed, service="core", resource="validation-db", source="east", target="west")
    assert known["from.dsn"] == ("postgresql://u@h/db",)
    assert known["to.dsn"] == ("host=h user=u",)
    assert known["from.machine"] == ("the machine of h",)
    assert known["prefix"] == ("p/",)
    assert known["approver"] == ("ann",)
    assert "from.instance" not in known
    assert "ledger.region" not in known
    one = changed.but(resources={"validation-db": database.but(members={"west": west})})
    assert "from.dsn" not in names(one, service="core", resource="validation-db", source="east", target="west")


def test_the_doors_of_a_catalog_lead_somewhere() -> None:
    catalog = scene.catalog()
    assert list(of_doors(catalog)) == []
    app, check = catalog.dns["app"], catalog.health_checks["east-serves"]
    lost = DnsRecord(value="1", set_identifier="x", health_check="nothing", control="none")
    standing = StandingTerms.model_validate({"runbook": "failover", "service": "x", "conditions": {"p": "15 s"}})
    core = catalog.services["core"].but(dns=("no",), probes={"p": Probe(site="mars", url="http://u")})
    same = {"ann": Approver(key="a" * 64), "bob": Approver(key="a" * 64)}
    wrong = catalog.but(
        dns={"validation-db": app.but(records={"mars": lost}), "edited": app.but(moved_by="record-edit")},
        health_checks={"east-serves": check.but(site="mars")},
        routing=None,
        services={"core": core},
        consent=catalog.consent.but(n_of_m=3, approvers=same, standing={"s": standing}),
    )
    assert sorted(fact for _, fact, _ in of_doors(wrong)) == [
        "3 approvals are asked for, but 2 people may give one",
        "`bob` and `ann` hold the same key",
        "`validation-db` is also a resource",
        "`validation-db` is moved by inverted-health-check, but no record has a health check with a marker",
        "there is no DNS name `no`",
        "there is no health check `nothing`",
        "there is no routing control `none`",
        "there is no service `x`",
        "there is no site `mars`",
        "there is no site `mars`",
        "there is no site `mars`",
    ]
    for how in ("health-check", "routing-control"):
        lame = app.but(moved_by=how, records={"east": DnsRecord(value="1", set_identifier="x")})
        assert "but no record has a" in next(of_doors(catalog.but(dns={**catalog.dns, "app": lame})))[1]
