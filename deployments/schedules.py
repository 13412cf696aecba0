"""Prefect's deployments, derived from a catalog: which flow runs when, with which parameters. Writes prefect.yaml.

Separate so that a schedule is said once, in the catalog: the committed prefect.yaml is this module's answer for the
lab's catalog, and a test holds it to that. Every cron line is in UTC: an hour that a time zone skips is never skipped.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path
from typing import Any

from recovery.catalog import Catalog
from recovery.policy import Schedule

POOL = "standfast"
LAB_CATALOG = Path(__file__).parent / "lab" / "catalog.yaml"
SWEEP = Schedule(cron="0 7 * * *")
SCORECARD = Schedule(cron="30 7 * * *")
"""After the night's backups and proofs: retention spares what these proved, and the scorecard counts them."""
BUNDLE = Schedule(cron="45 7 * * *")
"""Daily: one older than a week is refused."""
DRILL = Schedule(cron="0 9 1 * *")
"""The full drill, where the catalog has no drill that runs the runbook `drill`: monthly."""
CHANGES = {
    "failover": "Leave a site that is lost: plan, hazards, consent, act, measure.",
    "switchover": "Move the service to the other site without loss: plan, consent, act, measure.",
    "failback": "Go home: rebuild the old site as a standby, then switch over to it.",
}
"""By hand only, and never held up by another run: what excludes two is the engine's lease, which refuses loudly."""
HEAD = """\
# Prefect's deployments for the lab's catalog, written by `python -m deployments.schedules`; a test compares the two.
# From the repository's root, with a server that PREFECT_API_URL names:
#   prefect work-pool create standfast --type process
#   prefect --no-prompt deploy --all --prefect-file deployments/prefect.yaml
#   DR_HOME=/path/of/the/home prefect worker start --pool standfast
# Another catalog: python -m deployments.schedules --catalog HOME/catalog.yaml
"""


def derive(catalog: Catalog) -> dict[str, Any]:
    """The document of prefect.yaml for this catalog."""
    return {
        "name": "standfast",
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}],
        "deployments": [
            _deployment(
                catalog, "backup", "Take what the schedules still wait for; late runs find nothing to do.",
                "flows.backup.backup", {"which": "due", **_only(catalog)}, _backups(catalog),
            ),
            _deployment(
                catalog, "marks", "Fingerprint the standby, for proofs of content.",
                "flows.backup.backup", {"which": "mark-due", **_only(catalog)}, _marks(catalog), tag="backup",
            ),
            _deployment(
                catalog, "prove",
                "Restore, check, measure, discard: the newest mark, the latest moment, a planted fault.",
                "flows.prove.prove_daily", {}, _proofs(catalog),
            ),
            _deployment(
                catalog, "sweep", "Remove what retention no longer keeps.",
                "flows.sweep.sweep", {}, [_slot(SWEEP, "daily")],
            ),
            _deployment(
                catalog, "scorecard", "Judge every promise from the evidence.",
                "flows.scorecard.scorecard", {}, [_slot(SCORECARD, "daily")],
            ),
            _deployment(
                catalog, "bundle", "Write the signed offline bundle anew, for break glass.",
                "flows.bundle.bundle", {}, [_slot(BUNDLE, "daily")],
            ),
            _deployment(
                catalog, "drill", "Rehearse the failover on a restored copy; nothing live changes.",
                "flows.drill.drill", _first_ends(catalog), _drills(catalog),
            ),
            *(_change(catalog, name, description) for name, description in CHANGES.items()),
        ],
    }  # fmt: skip


def render(catalog: Catalog) -> str:
    """prefect.yaml as text."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(derive(catalog), text)
    return HEAD + re.sub(r"^(?=  - name:)", "\n", text.getvalue(), flags=re.MULTILINE)


_UNFILLED = {  # what a lab fills in with more than a word
    "dns_ttl": "1 s",
    "name_servers": "[]",
    "resolvers": "[]",
    "probes": "{app-east: {site: east, url: http://nowhere.invalid/east}}",
    "approvers": "{}",
    "members": "{east: {dsn: host=nowhere, data_dir: /nowhere, bin_dir: /nowhere}}",
    "arc_endpoints": "{nowhere: file:arc}",
    "arc_controls": "{arc-east: east, arc-west: west}",
    "arc_rules": "[]",
}


def _unfilled(name: str) -> str:
    """Something of the right form: a secret's reference, an address, or what _UNFILLED says."""
    return _UNFILLED.get(name, f"file:{name}" if "credentials" in name else f"http://nowhere.invalid/{name}")


def lab_catalog() -> Catalog:
    """The lab's catalog before a lab gave it addresses: its schedules need none."""
    from tasks.catalog_file import CatalogWrong, judge
    from tasks.yaml_positions import read

    text = re.sub(r"\$\{(\w+)\}", lambda found: _unfilled(found[1]), LAB_CATALOG.read_text())
    catalog, problems = judge(read(text))
    if catalog is None:
        raise CatalogWrong(LAB_CATALOG, problems)
    return catalog


def _deployment(
    catalog: Catalog,
    name: str,
    description: str,
    entrypoint: str,
    parameters: dict[str, Any],
    schedules: list[dict[str, Any]],
    *,
    tag: str = "",
) -> dict[str, Any]:
    """One at a time of each: a backup that waits finds its slot kept, and two proofs would distort each other's RTO."""
    return {
        "name": f"{catalog.name}-{name}",
        "description": description,
        "entrypoint": entrypoint,
        "parameters": parameters,
        "enforce_parameter_schema": True,
        "tags": ["standfast", tag or name],
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        "work_pool": {"name": POOL},
        "schedules": schedules,
    }


def _change(catalog: Catalog, name: str, description: str) -> dict[str, Any]:
    made = _deployment(catalog, name, description, f"flows.{name}.{name}", _first_ends(catalog), [])
    del made["concurrency_limit"]
    if name == "failback":
        made["parameters"]["to"] = next(each for each, site in catalog.sites.items() if site.role == "primary")
    return made


def _first_ends(catalog: Catalog) -> dict[str, Any]:
    """What the form shows before anybody has chosen."""
    services = list(catalog.services)
    to = next((name for name, site in catalog.sites.items() if site.role == "recovery"), "")
    return {"service": services[0] if len(services) == 1 else "", "to": to}


def choices(catalog: Catalog) -> dict[str, list[str]]:
    """Parameter → what a form offers for it, where the catalog knows; the empty word is the catalog's default."""
    from tasks.asking import NO_FAULT
    from tasks.keeping import plantable

    sites = [name for name, site in catalog.sites.items() if site.role != "witness"]
    faults = {fault for each in catalog.resources.values() for fault in plantable(each.engine)}
    return {
        "service": ["", *catalog.services],
        "to": ["", *sites],
        "resource": sorted(catalog.resources),
        "resources": sorted(catalog.resources),
        "mutate": ["", NO_FAULT, "random", *sorted(faults)],
    }


def _only(catalog: Catalog) -> dict[str, str]:
    """The resource that a form shows before anybody has chosen: the catalog's only one."""
    return {"resource": next(iter(catalog.resources))} if len(catalog.resources) == 1 else {}


def _slot(schedule: Schedule, slug: str, **parameters: Any) -> dict[str, Any]:
    slot = {"cron": schedule.cron, "timezone": "UTC", "slug": slug, "active": True}
    return {**slot, "parameters": parameters} if parameters else slot


def _backups(catalog: Catalog) -> list[dict[str, Any]]:
    slots = []
    for name, resource in sorted(catalog.resources.items()):
        policy = catalog.backups[resource.backup]
        slots.append(_slot(policy.full.schedule, f"{name}-full", resource=name))
        if policy.incremental is not None:
            slots.append(_slot(policy.incremental.schedule, f"{name}-incremental", resource=name))
    return slots


def _marks(catalog: Catalog) -> list[dict[str, Any]]:
    return [
        _slot(catalog.backups[resource.backup].marks, f"{name}-mark", resource=name)
        for name, resource in sorted(catalog.resources.items())
    ]


def _proofs(catalog: Catalog) -> list[dict[str, Any]]:
    slots = []
    for policy, proof in sorted(catalog.proofs.items()):
        names = sorted(name for name, resource in catalog.resources.items() if resource.proof == policy)
        if not names:
            continue
        slots.append(_slot(proof.schedule, policy, resources=names))
        if proof.deep is not None:
            slots.append(_slot(proof.deep, f"{policy}-deep", resources=names, level="deep"))
    return slots


def _drills(catalog: Catalog) -> list[dict[str, Any]]:
    """The due dates of the drills that the engine runs by itself; the others are people's."""
    found = [
        _slot(drill.schedule, f"{name}-{service}", service=service)
        for name, drill in sorted(catalog.operations.drills.items())
        if drill.runbook == "drill"
        for service in sorted(catalog.services)
    ]
    return found or [_slot(DRILL, f"monthly-{service}", service=service) for service in sorted(catalog.services)]


def main() -> int:
    """Print prefect.yaml for the lab's catalog, or for the one that is named."""
    words = argparse.ArgumentParser(prog="python -m deployments.schedules", description=main.__doc__)
    words.add_argument("--catalog", type=Path, help="another catalog than the lab's")
    given = words.parse_args()
    if given.catalog is None:
        sys.stdout.write(render(lab_catalog()))
        return 0
    from tasks.catalog_file import load

    sys.stdout.write(render(load(given.catalog)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
