"""What a look asks of Route53, over a light line in the shape of the SDK's client; all else by the SDK.

Separate so that break glass, which has to look at names before its first effect, need not wait until the SDK is loaded.
Whose credentials only the SDK can find has to wait for it anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from recovery.catalog import S3Endpoint
from tasks import aws
from tasks.aws_line import Lines
from tasks.s3_wire import Answered, ordered_of_the_sdk

OWN = "https://route53.amazonaws.com"
_VERSION = "2013-04-01"
_NUMBERS = frozenset(
    {"TTL", "Weight", "Bias", "Port", "RequestInterval", "FailureThreshold", "HealthThreshold", "HealthCheckVersion"}
    | {"EvaluationPeriods", "Period"}
)
_TRUTHS = frozenset(
    {"IsTruncated", "MultiValueAnswer", "EvaluateTargetHealth"}
    | {"Disabled", "Inverted", "MeasureLatency", "EnableSNI"}
)
_LISTS = frozenset({"ResourceRecordSets", "ResourceRecords", "Regions", "ChildHealthChecks", "Dimensions"})
"""What stands in the two answers beside texts (docs.aws.amazon.com, "Amazon Route 53 API Reference")."""


class Wire:
    """A Route53 client. Thread-safe. Raises Answered, TimeoutError or ConnectionError, or what the SDK raises."""

    def __init__(self, endpoint: S3Endpoint, *, region: str, patience_seconds: float, made: Callable[[], Any]) -> None:
        self._lines = Lines(
            endpoint.endpoint_url or OWN,
            endpoint.credentials,
            region=region,
            connect_seconds=min(1.0, patience_seconds),
            read_seconds=patience_seconds,
            service="route53",
        )
        self._made, self._sdk = made, None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Whatever else the SDK's client can do."""
        if name.startswith("_"):
            raise AttributeError(name)
        with self._lock:
            if self._sdk is None:
                self._sdk = self._made()
            return getattr(self._sdk, name)

    def list_resource_record_sets(self, **asked: str) -> dict[str, Any]:
        """See the SDK's."""
        query = {name: asked[word] for word, name in _PAGING if word in asked}
        page = self._get(f"hostedzone/{_id(asked['HostedZoneId'])}/rrset", query)
        return {"ResourceRecordSets": [], **page}

    def get_health_check(self, **asked: str) -> dict[str, Any]:
        """See the SDK's."""
        return self._get(f"healthcheck/{_id(asked['HealthCheckId'])}", {})

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        import xml.etree.ElementTree as ET

        reply = self._lines.exchange("GET", f"{_VERSION}/{path}", query=query)
        if reply.status != 200:
            raise Answered(reply)
        found: dict[str, Any] = _plain(ET.fromstring(reply.body))  # noqa: S314 -- Route53's answer
        return found


def client(endpoint: S3Endpoint, *, region: str, patience_seconds: float) -> Any:
    """A light client, or the SDK's own where the environment orders what only it understands, or only it finds the
    credentials. Raises BadInput for wrong credentials or a wrong endpoint."""

    def made() -> Any:
        connect = min(1.0, patience_seconds)
        return aws.client(
            "route53", endpoint, region=region, patience_seconds=patience_seconds, connect_seconds=connect
        )

    if aws.credentials(endpoint.credentials).access_key_id is None or ordered_of_the_sdk(endpoint, region):
        return made()
    return Wire(endpoint, region=region, patience_seconds=patience_seconds, made=made)


_PAGING = (
    ("StartRecordName", "name"),
    ("StartRecordType", "type"),
    ("StartRecordIdentifier", "identifier"),
    ("MaxItems", "maxitems"),
)


def _id(text: str) -> str:
    """Without the path that Route53 writes before some."""
    return text.rpartition("/")[2]


def _plain(element: Element) -> Any:
    """An element as the SDK gives it: lists, numbers, truths and texts by their names."""
    name = element.tag.rpartition("}")[2]
    if name in _LISTS:
        return [_plain(each) for each in element]
    if len(element):
        return {each.tag.rpartition("}")[2]: _plain(each) for each in element}
    text = element.text or ""
    if name in _NUMBERS:
        return int(text)
    return text == "true" if name in _TRUTHS else text
