"""The deployments: derived from the catalog, loadable, and with forms that explain themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prefect.flows import load_flow_from_entrypoint

from deployments.schedules import choices, derive, lab_catalog, render
from flows.backup import backup
from flows.prove import prove_daily
from recovery.cron import parse
from tasks.keeping import plantable

YAML = Path(__file__).resolve().parents[2] / "deployments" / "prefect.yaml"
DEPLOYMENTS: list[dict[str, Any]] = derive(lab_catalog())["deployments"]
SCHEDULES = [slot for each in DEPLOYMENTS for slot in each["schedules"]]


def test_prefect_yaml_is_what_the_labs_catalog_says() -> None:
    hint = "python -m deployments.schedules > deployments/prefect.yaml"
    assert YAML.read_text() == render(lab_catalog()), hint


def test_the_catalogs_schedules_are_all_there_and_in_utc() -> None:
    catalog = lab_catalog()
    backups, proofs = catalog.backups["postgres-daily"], catalog.proofs["daily"]
    assert backups.incremental is not None
    assert proofs.deep is not None
    wanted = {backups.full.schedule.cron, backups.incremental.schedule.cron, backups.marks.cron}
    wanted |= {proofs.schedule.cron, proofs.deep.cron}
    assert wanted <= {slot["cron"] for slot in SCHEDULES}
    assert {slot["timezone"] for slot in SCHEDULES} == {"UTC"}
    for slot in SCHEDULES:
        parse(slot["cron"])


def test_what_a_schedule_starts_does_nothing_when_its_slot_was_kept() -> None:
    scheduled = [each for each in DEPLOYMENTS if each["entrypoint"] == "flows.backup.backup"]
    assert {each["parameters"]["which"] for each in scheduled} == {"due", "mark-due"}


def test_sweep_and_scorecard_come_after_the_nights_proofs() -> None:
    hours = {each["name"]: min(parse(slot["cron"]).hours) for each in DEPLOYMENTS for slot in each["schedules"][:1]}
    assert hours["lab-prove"] < hours["lab-sweep"] <= hours["lab-scorecard"]


@pytest.mark.parametrize("entrypoint", sorted({each["entrypoint"] for each in DEPLOYMENTS}))
def test_every_entrypoint_loads_as_a_flow_whose_form_explains_each_field(entrypoint: str) -> None:

    flow: Any = load_flow_from_entrypoint(entrypoint)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", flow.name)
    assert flow.persist_result is False
    assert flow.retries == 0
    for name, field in flow.parameters.properties.items():
        assert field.get("description"), f"{flow.name}: {name} has no description"


def test_the_forms_offer_their_choices() -> None:

    definitions: Any = {**prove_daily.parameters.definitions, **backup.parameters.definitions}
    assert definitions["Asked"]["enum"] == ["daily", "mark", "latest", "random", "time"]
    assert definitions["Level"]["enum"] == ["daily", "deep"]
    assert definitions["Which"]["enum"] == ["due", "full", "incremental", "mark", "mark-due"]


def test_what_a_catalog_names_is_chosen_from_a_list_and_its_only_resource_is_chosen_already() -> None:
    offered = choices(lab_catalog())
    assert offered["resource"] == offered["resources"] == ["orders-db"]
    assert offered["mutate"][:3] == ["", "none", "random"]
    assert set(offered["mutate"][3:]) == set(plantable("native"))
    assert [each["parameters"]["resource"] for each in DEPLOYMENTS if each["name"] in ("lab-backup", "lab-marks")] == [
        "orders-db",
        "orders-db",
    ]


def test_no_field_of_a_form_has_a_type_to_choose() -> None:
    for entrypoint in sorted({each["entrypoint"] for each in DEPLOYMENTS}):
        flow: Any = load_flow_from_entrypoint(entrypoint)
        assert [name for name, field in flow.parameters.properties.items() if "anyOf" in field] == [], entrypoint


def test_every_slots_parameters_are_ones_that_the_flow_takes() -> None:

    for each in DEPLOYMENTS:
        flow: Any = load_flow_from_entrypoint(each["entrypoint"])
        for slot in each["schedules"]:
            flow.validate_parameters({**each["parameters"], **slot.get("parameters", {})})


def test_no_limit_of_prefects_stands_in_the_way_of_a_change_of_roles() -> None:
    limited = {each["name"]: "concurrency_limit" in each for each in DEPLOYMENTS}
    assert [name for name, held in limited.items() if not held] == ["lab-failover", "lab-switchover", "lab-failback"]
    for each in DEPLOYMENTS:
        assert set(each["work_pool"]) == {"name"}, "a queue could carry a limit of its own"
    found = [file for room in ("flows", "tasks") for file in Path(room).rglob("*.py")
             if re.search(r"prefect\.concurrency|task_run_concurrency", file.read_text())]  # fmt: skip
    assert found == []
