"""Which engine keeps a resource's backups at a site: the catalog's word in, the engine behind the port out.

Separate because this is the one place that knows all engines; an absent tool or a wrong option is told here, before
anything is touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from recovery.catalog import PostgresResource, S3Endpoint
from recovery.engine_options import BarmanCloudOptions, PgBackRestOptions, wrong
from recovery.errors import BadInput
from tasks.aws import credentials
from tasks.host import Host, LocalHost
from tasks.postgres.engines import barman_cloud, pgbackrest
from tasks.postgres.engines.native import Native
from tasks.postgres.engines.port import Engine, Expires
from tasks.postgres.engines.tool import Tool
from tasks.postgres.seal import Keys
from tasks.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a resource's backups are looked for: the site's endpoint and region, and the resource's bucket there."""

    site: str
    endpoint: S3Endpoint
    region: str
    store: Store
    keys: Keys = field(default_factory=dict)
    host: Host = field(default_factory=LocalHost)


def engine_of(name: str, resource: PostgresResource, place: Place) -> Engine:
    """The engine of a resource at a site. Raises BadInput for an absent tool or wrong options."""
    refused = wrong(resource.engine, resource.engine_options)
    if refused:
        raise BadInput(refused[0].fact, hint=refused[0].hint)
    match resource.engine:
        case "native":
            return Native(store=place.store, keys=place.keys, host=place.host)
        case "pgbackrest":
            return _pgbackrest(name, resource, place)
        case "barman-cloud":
            return _barman(name, resource, place)


def retention_of(engine: Engine) -> Expires | None:
    """The engine's own retention; None where retention is ours. Never both."""
    return engine if isinstance(engine, pgbackrest.PgBackRest | barman_cloud.BarmanCloud) else None


def _pgbackrest(name: str, resource: PostgresResource, place: Place) -> Engine:
    options = PgBackRestOptions.model_validate(resource.engine_options)
    member = resource.members.get(place.site) or next(iter(resource.members.values()))
    tool = Tool(bin_dir=options.bin_dir, install=pgbackrest.INSTALL, host=place.host)
    tool.program(pgbackrest.PROGRAM)
    if options.config is not None and not Path(options.config).is_file():
        raise BadInput(
            f"there is no pgbackrest configuration {options.config}",
            hint="correct engine_options.config in the catalog",
        )
    return pgbackrest.PgBackRest(tool=tool, options=options, resource=name, data_dir=Path(member.data_dir))


def _barman(name: str, resource: PostgresResource, place: Place) -> Engine:
    options = BarmanCloudOptions.model_validate(resource.engine_options)
    who = credentials(place.endpoint.credentials)
    env = {"AWS_DEFAULT_REGION": place.region}
    if who.access_key_id and who.secret_access_key:
        env |= {"AWS_ACCESS_KEY_ID": who.access_key_id, "AWS_SECRET_ACCESS_KEY": who.secret_access_key}
        env["AWS_SESSION_TOKEN"] = who.session_token or ""
    tool = Tool(bin_dir=options.bin_dir, install=barman_cloud.INSTALL, env=env, host=place.host)
    tool.program("barman-cloud-backup-list")
    url = place.endpoint.endpoint_url
    arguments = ["--endpoint-url", url, "--addressing-style", "path"] if url else []
    arguments += ["--aws-profile", who.profile] if who.profile else []
    folder = "/".join(part for part in (resource.bucket, resource.prefix.strip("/")) if part)
    return barman_cloud.BarmanCloud(
        tool=tool, options=options, resource=name, place=tuple(arguments), source_url=f"s3://{folder}",
        store=place.store,
    )  # fmt: skip
