"""What a printed runbook tells of a name: commands that can be typed as they stand, also with a port or an endpoint."""

from __future__ import annotations

import failover_scene as scene
import pytest

from recovery.catalog import Catalog, LedgerPlace, S3Endpoint, Site
from recovery.doors import RoutingCluster
from recovery.manual import access, aws
from recovery.manual_restore import restored
from recovery.names import Names, names
from recovery.policy import FencePolicy


def told(**changes: object) -> Names:
    catalog = scene.catalog()
    sites = {name: site.but(**changes) for name, site in catalog.sites.items()} if "s3" in changes else catalog.sites
    dns = catalog.dns["app"] if "s3" in changes else catalog.dns["app"].but(**changes)
    catalog = catalog.but(sites=sites, dns={**catalog.dns, "app": dns})
    return names(catalog, service="core", resource="app", source="east", target="west")


@pytest.mark.parametrize(
    ("server", "asked"),
    [
        ("ns-1.example.net", "ns-1.example.net"),
        ("127.1.2.3:5300", "127.1.2.3 -p 5300"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_server_with_a_port_is_written_as_dig_wants_it(server: str, asked: str) -> None:
    found = told(name_servers=(server,), resolvers=(server,))
    assert found["dns.server"] == found["dns.resolver"] == (asked,)


def test_a_marker_in_a_bucket_with_an_endpoint_of_its_own_names_that_endpoint() -> None:
    found = told(s3=S3Endpoint(endpoint_url="http://s3.test:8333"))
    assert "--endpoint-url http://s3.test:8333" in found["dns.move"][0]
    assert "--endpoint-url" not in told(ttl="30 s")["dns.move"][0]


def of_database(catalog: Catalog) -> Names:
    return names(catalog, service="core", resource=next(iter(catalog.resources)), source="east", target="west")


def leashed(**changes: object) -> Catalog:
    catalog = scene.catalog()
    name, database = next(iter(catalog.resources.items()))
    sites = {**catalog.sites, "witness": Site(role="witness", region="us-east-2")}
    resources = {**catalog.resources, name: database.but(fence=FencePolicy(lease="1.5 s", clock_bound="1 s"))}
    return catalog.but(**{"sites": sites, "resources": resources, "ledger": LedgerPlace(home="witness"), **changes})


@pytest.mark.parametrize(
    ("door", "options"),
    [
        (S3Endpoint(), "--region eu-1"),
        (S3Endpoint(credentials="profile:west"), "--region eu-1 --profile west"),
        (
            S3Endpoint(credentials="file:k.json", endpoint_url="http://s3.test"),
            "--region eu-1 --endpoint-url http://s3.test",
        ),
    ],
)
def test_aws_goes_through_the_same_door_as_the_engine(door: S3Endpoint, options: str) -> None:
    assert aws(door, "eu-1") == options
    assert aws(S3Endpoint()) == ""


def test_a_page_says_beforehand_whose_keys_aws_needs_at_which_door() -> None:
    catalog = scene.catalog()
    keys = {"east": "profile:e", "west": "file:keys/west.json", "witness": "env:WITNESS"}
    sites = {
        name: (catalog.sites.get(name) or Site(role="witness", region="x")).but(
            s3=S3Endpoint(credentials=each), compute=S3Endpoint(credentials=each)
        )
        for name, each in keys.items()
    }
    app = catalog.dns["app"]
    dns = {"a": app.but(moved_by="routing-control"), "b": app.but(moved_by="record-edit")}
    routing = RoutingCluster(endpoints={"r": "http://arc"}, controls={"c": "arn"}, credentials="profile:e")
    keys_of_west = "the keys in keys/west.json, exported as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    used = "$ aws route53-recovery-cluster x\n$ aws route53 x\n" + "".join(
        f"# aws s3 ls {aws(site.s3, site.region)} s3://b\n" for site in sites.values()
    )
    used += "".join(
        f"$ aws autoscaling x {aws(sites[name].compute, sites[name].region)}\n" for name in ("east", "west")
    )
    assert list(access(catalog.but(sites=sites, dns=dns, routing=routing), used)) == [
        "S3 at east, instances at east, the routing controls: aws's profile e",
        f"S3 at west, instances at west: {keys_of_west}",
        "S3 at witness: WITNESS_ACCESS_KEY_ID and WITNESS_SECRET_ACCESS_KEY, exported as AWS_…",
        "Route53's records: aws's own default credentials",
    ]
    west = f"$ aws s3 ls {aws(sites['west'].s3, sites['west'].region)} s3://b"
    assert [each.partition(":")[0] for each in access(catalog.but(sites=sites, routing=routing), west)] == [
        "S3 at west"
    ]


def test_leashes_are_told_by_hand_with_a_turn_more_so_that_the_engine_s_next_change_is_newer() -> None:
    found = of_database(leashed())
    written = found["fence.term"][-1]
    assert written.startswith("$ aws s3 cp --region us-east-2 - s3://standfast-leases/terms/")
    assert '"generation":1,"turn":0,"primary":"west","run":"by-hand","at":"\'$(date -u +%FT%TZ)\'"}' in written
    assert found["fence.lease"][0].startswith("- Since that was written 3 s have passed")
    assert found["fence.lease"][1].endswith("/east.json -")


def test_where_no_leash_would_read_it_no_term_is_written_by_hand() -> None:
    bare = leashed(sites=scene.catalog().sites) if "witness" not in scene.catalog().sites else None
    name, database = next(iter(scene.catalog().resources.items()))
    unleashed = leashed(resources={name: database.but(fence=None)})
    for catalog in filter(None, (bare, unleashed)):
        assert not {"fence.term", "fence.lease"} & set(of_database(catalog))


@pytest.mark.parametrize(
    ("dsn", "host", "port"),
    [
        ("host=db.x port=6000 user=u", "db.x", "6000"),
        ("user=u dbname=d", "localhost", "5432"),
        ("postgresql://u:secret@db.x/d", "db.x", "5432"),
        ("postgresql:///d", "localhost", "5432"),
    ],
)
def test_a_server_s_address_is_known_in_both_forms_of_its_dsn(dsn: str, host: str, port: str) -> None:
    catalog = scene.catalog()
    name, database = next(iter(catalog.resources.items()))
    members = {site: member.but(dsn=dsn, host="local") for site, member in database.members.items()}
    found = of_database(catalog.but(resources={name: database.but(members=members)}))
    assert (found["to.host"], found["to.port"]) == ((host,), (port,))
    assert found["to.machine"] == (f"the machine of {host}",)
    assert "secret" not in str(found)


def test_users_names_are_asked_of_every_resolver_and_probes_by_name() -> None:
    found = told(resolvers=("10.0.0.1:5300",))
    assert found["names.ask"] == (f"$ dig +short +time=2 +tries=1 {found['names'][0]} A @10.0.0.1 -p 5300",)
    assert all(found["names"][0] in each for each in found["to.probe_by_name"])
    assert told(resolvers=())["names.ask"][0].endswith(" A")


def test_an_edit_of_records_goes_through_the_catalog_s_own_door() -> None:
    catalog = scene.catalog()
    app = catalog.dns["app"].but(moved_by="record-edit")
    edited = catalog.but(dns={**catalog.dns, "app": app}, route53=S3Endpoint(endpoint_url="http://r53.test"))
    found = names(edited, service="core", resource="app", source="east", target="west")
    assert "change-resource-record-sets --endpoint-url http://r53.test --hosted-zone-id" in found["dns.move"][0]


def test_the_doors_of_the_application_are_named_where_the_catalog_has_them() -> None:
    catalog = scene.catalog()
    core = catalog.services["core"]

    def at(**doors: object) -> Names:
        there = catalog.but(services={**catalog.services, "core": core.but(**doors)})
        return names(there, service="core", resource="core", source="east", target="west")

    found = at(side_effects={"west": "http://app.west/effects"}, drain={"east": "http://app.east/"})
    assert (found["to.side_effects"], found["from.drain"]) == (("http://app.west/effects",), ("http://app.east",))
    assert not {"from.side_effects", "to.drain"} & set(found)
    assert not {each for each in at(side_effects={}, drain={}) if each.endswith(("side_effects", "drain"))}


def test_a_restore_by_hand_names_only_what_its_database_has() -> None:
    name, database = next(iter(scene.catalog().resources.items()))
    (by_tool,) = restored(leashed(resources={name: database.but(engine="pgbackrest")}), name, "west")
    assert by_tool.startswith("The backups are pgbackrest's: restore with its own tool")
    assert by_tool.endswith("never into /var/lib/postgresql/18/main.")
    elsewhere = leashed(resources={name: database.but(members={"east": database.members["east"]})})
    assert list(restored(elsewhere, name, "west")) == []
    assert "restore" not in of_database(elsewhere)
    assert not {"copy", "copy.assertions", "to.assertions"} & set(of_database(elsewhere))
    policy = scene.catalog().backups[database.backup].but(encryption=None)
    plain = list(restored(leashed(backups={database.backup: policy}), name, "west"))
    assert not any("unseal" in each or ".enc" in each for each in plain)
    sealed = list(restored(scene.catalog(), name, "west"))
    assert any("keys/" not in each and "its key, backup.key." in each for each in sealed)


@pytest.mark.parametrize(
    ("dsn", "asked"),
    [
        ("host=db.x dbname=postgres user=u password=secret", 'psql "host=db.x user=u dbname=validation"'),
        (
            "postgresql://u:secret@db.x/postgres?sslmode=require",
            'psql "postgresql://u@db.x/validation?sslmode=require"',
        ),
    ],
)
def test_an_assertion_is_asked_in_its_own_database_in_both_forms_of_a_dsn(dsn: str, asked: str) -> None:
    name, database = next(iter(scene.catalog().resources.items()))
    west = database.members["west"].but(dsn=dsn)
    told = of_database(leashed(resources={name: database.but(members={**database.members, "west": west})}))
    fact, command = told["to.assertions"]
    assert fact == "no-annotation-without-video, which must say 0:"
    assert command.startswith(f"$ {asked} -Atc 'select count(*) from annotations")
