"""A name before the event: what would keep it from being moved is failed, what could not be asked is unproven."""

from __future__ import annotations

from typing import Any

import failover_scene as scene
import pytest

from recovery.zone_lint import lint

CATALOG = scene.catalog()
APP = CATALOG.dns["app"]
CHECK, WRITTEN = next((each, CATALOG.health_checks[each]) for each in CATALOG.health_checks if each == "east-serves")
Sets = list[dict[str, Any]]


def zone(**east: Any) -> Sets:
    sets: Sets = []
    for record in APP.records.values():
        check = {"HealthCheckId": WRITTEN.id} if record.health_check else {}
        sets.append({"Name": APP.name, "Type": "A", "SetIdentifier": record.set_identifier, "TTL": 30, **check})
    return [{**sets[0], **east}, *sets[1:]]


def told(sets: Sets | str, config: dict[str, Any] | str | None = None, **check: Any) -> dict[str, tuple[str, str]]:
    configs = {CHECK: {"Inverted": True} if config is None else config}
    written = {CHECK: WRITTEN.but(**check)}
    return {
        each.name: (each.outcome.value, each.fact) for each in lint("app", APP, written, sets=sets, configs=configs)
    }


def test_a_sound_name_passes() -> None:
    assert {name: outcome for name, (outcome, _) in told(zone()).items()} == {
        "dns app records": "passed",
        "dns app ttl": "passed",
        f"dns app health {CHECK}": "passed",
    }


@pytest.mark.parametrize(
    ("sets", "config", "check", "what", "fact"),
    [
        (zone()[:1], None, {}, "records", "has no record for west: users cannot be sent there"),
        (zone(TTL=300), None, {}, "ttl", "for up to 300 s"),
        (zone(), {"Inverted": True, "Disabled": True}, {}, f"health {CHECK}", "disabled, which counts as healthy"),
        (zone(), {}, {}, f"health {CHECK}", "is not inverted in Route53"),
        (zone(), {"Inverted": True}, {"inverted": False}, f"health {CHECK}", "is inverted in Route53"),
        (zone(), {"Inverted": True}, {"marker": None}, f"health {CHECK}", "no marker moves it"),
        (zone(HealthCheckId="other"), None, {}, f"health {CHECK}", "has the health check other"),
        (zone(HealthCheckId=None), None, {}, f"health {CHECK}", "has the health check none"),
    ],
)
def test_what_would_keep_it_from_being_moved_is_failed_alone(
    sets: Sets, config: dict[str, Any] | None, check: dict[str, Any], what: str, fact: str
) -> None:
    found = told(sets, config, **check)
    outcome, said = found.pop(f"dns app {what}")
    assert outcome == "failed"
    assert fact in said
    assert {each for each, _ in found.values()} == {"passed"}


def test_what_could_not_be_asked_is_unproven() -> None:
    assert told("silent", "silent") == {
        "dns app records": ("unproven", "silent"),
        f"dns app health {CHECK}": ("unproven", "silent"),
    }
    assert told("silent")[f"dns app health {CHECK}"][0] == "passed"
    assert [each.outcome.value for each in lint("app", APP, {CHECK: WRITTEN}, sets=zone(), configs={})][
        -1
    ] == "unproven"


def test_an_alias_has_no_ttl_and_a_name_without_health_checks_has_none() -> None:
    bare = APP.but(records={site: record.but(health_check=None) for site, record in APP.records.items()})
    sets = [{key: value for key, value in each.items() if key != "TTL"} for each in zone()]
    found = {each.name: each.outcome.value for each in lint("app", bare, {}, sets=sets, configs={})}
    assert found == {"dns app records": "passed", "dns app ttl": "not configured", "dns app health": "not configured"}
    assert [each.name for each in lint("app", APP, {}, sets=zone(), configs={})] == ["dns app records", "dns app ttl"]
