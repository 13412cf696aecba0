"""The lab's catalog: the template in catalog.yaml with the addresses of this lab filled in."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from deployments.lab import layout, people
from deployments.lab.aws import part as aws
from deployments.lab.dns import names
from deployments.lab.parts import postgres_bin_dir
from deployments.lab.probe import part as probe
from deployments.lab.world import World

TEMPLATE = Path(__file__).with_name("catalog.yaml")


def _member(world: World, member: str) -> dict[str, str]:
    """A server of the database; the second one at a site says where it is."""
    site = layout.site_of(member)
    where = {"agent": world.agent_url(member), **({"site": site} if member != site else {})}
    bin_dir = str(postgres_bin_dir())
    data_dir = str(world.data_dir(member))
    return {"dsn": world.dsn(member), "data_dir": data_dir, "bin_dir": bin_dir, "host": "local", **where}


def render(world: World) -> Path:
    """Write HOME/catalog.yaml; gives its path. Values are quoted as JSON, which YAML reads."""
    values = {
        **{f"region_{place}": world.region(place) for place in ("east", "west", "witness")},
        "members": {member: _member(world, member) for member in world.members},
        **{f"s3_{place}": world.s3(place).endpoint_url for place in ("east", "west", "witness")},
        **{f"credentials_{place}": world.s3(place).credentials for place in ("east", "west", "witness")},
        **{f"app_{site}": world.url("app", site) for site in ("east", "west")},
        **{f"side_effects_{site}": world.url("app", site) + "/side-effects" for site in ("east", "west")},
        **{f"capacity_{site}": world.url("app", site) + "/capacity" for site in ("east", "west")},
        **names.catalog_values(world),
        "route53": world.url("aws", "east"),
        "aws_credentials": f"file:{aws.credentials(world)}",
        "probes": {each.pop("name"): each for each in probe.probes(world, source="engine")},
        "approvers": {name: {"key": mark} for name, mark in people.listed(world).items()},
    }
    text = Template(TEMPLATE.read_text()).substitute({name: json.dumps(value) for name, value in values.items()})
    path = world.home / "catalog.yaml"
    fresh = world.home / "catalog.new"
    fresh.write_text(text)
    fresh.replace(path)
    return path
