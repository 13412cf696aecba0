"""What a printed runbook tells of a name: commands that can be typed as they stand, also with a port or an endpoint."""

from __future__ import annotations

import failover_scene as scene
import pytest

from recovery.catalog import S3Endpoint
from recovery.names import Names, names


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
