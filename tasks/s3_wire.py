"""The everyday requests of a bucket over a light line, in the shape of the SDK's client; all others by the SDK.

Separate so that the store's methods read the same whoever carries them. The SDK is loaded when it is needed: for large
uploads, and where the environment orders what only it understands (proxies, other endpoints).
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus
from urllib.request import getproxies

from recovery.catalog import S3Endpoint
from tasks import aws
from tasks.aws_line import Lines, Reply, of_bucket

LARGE_BYTES = 256 * 1024
"""Below it a body is hashed into the signature; above it TLS and the checksum guard it, where there is TLS."""
_META = "x-amz-meta-"
_MOVED = frozenset({301, 307, 308})


class Answered(Exception):
    """The server's answer is an error. `response` has the shape of the SDK's, so that it is read the same way."""

    def __init__(self, reply: Reply) -> None:
        code, message = (_found(reply.body, name) for name in ("Code", "Message"))
        code = code or str(reply.status)
        super().__init__(f"{code}: {message}")
        about = {"HTTPStatusCode": reply.status, "RetryAttempts": int(reply.again)}
        self.status = reply.status
        self.response: dict[str, Any] = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": about}


class Wire:
    """An S3 client of one bucket's everyday. Thread-safe. Raises Answered, TimeoutError or ConnectionError."""

    def __init__(self, endpoint: S3Endpoint, bucket: str, *, region: str, patience_seconds: float) -> None:
        connect, read = min(2.0, patience_seconds), min(10.0, patience_seconds)
        url = of_bucket(endpoint, bucket, region)
        self._lines = Lines(url, endpoint.credentials, region=region, connect_seconds=connect, read_seconds=read)
        self._made: Callable[[], Any] = lambda: aws.client(
            "s3", endpoint, region=region, patience_seconds=patience_seconds
        )
        self._sdk: Any = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Whatever else the SDK's client can do."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._by_the_sdk(), name)

    def put_object(self, **asked: Any) -> dict[str, Any]:
        """See the SDK's; knows Body, Metadata, IfMatch, IfNoneMatch and the checksums CRC32 and CRC64NVME."""
        headers = {_META + name.lower(): text for name, text in asked.get("Metadata", {}).items()}
        headers |= {f"if-{name}": asked[f"If{word}"] for name, word in _CONDITIONS if f"If{word}" in asked}
        kind = asked["ChecksumAlgorithm"]
        headers |= {
            "x-amz-sdk-checksum-algorithm": kind,
            f"x-amz-checksum-{kind.lower()}": asked[f"Checksum{kind}"],
        }
        body = asked["Body"]
        signed = not self._lines.secure or len(body) < LARGE_BYTES
        return self._ask(
            "put_object",
            asked,
            lambda: self._lines.exchange("PUT", asked["Key"], headers=headers, body=body, signed_body=signed),
            lambda reply: {"ETag": reply.headers.get("etag", "")},
        )

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """See the SDK's; the whole object, read already."""
        return self._ask(
            "get_object",
            asked,
            lambda: self._lines.exchange("GET", asked["Key"]),
            lambda reply: {**_head(reply), "Body": io.BytesIO(reply.body), "ContentLength": len(reply.body)},
        )

    def head_object(self, **asked: Any) -> dict[str, Any]:
        """See the SDK's."""
        return self._ask("head_object", asked, lambda: self._lines.exchange("HEAD", asked["Key"]), _head)

    def delete_object(self, **asked: Any) -> dict[str, Any]:
        """See the SDK's."""
        return self._ask(
            "delete_object",
            asked,
            lambda: self._lines.exchange("DELETE", asked["Key"]),
            lambda reply: {},  # noqa: ARG005 -- nothing is said of it
        )

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        """See the SDK's."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": asked.get("Prefix", "")}
        query |= {name: asked[word] for name, word in _PAGING if word in asked}
        return self._ask("list_objects_v2", asked, lambda: self._lines.exchange("GET", query=query), _page)

    def generate_presigned_url(self, _name: str, *, Params: Mapping[str, str], ExpiresIn: int) -> str:  # noqa: N803 -- the SDK's names
        """See the SDK's; of `get_object`."""
        return self._lines.address(Params["Key"], lasts_seconds=ExpiresIn)

    def _ask(
        self,
        name: str,
        asked: Mapping[str, Any],
        exchange: Callable[[], Reply],
        read: Callable[[Reply], dict[str, Any]],
    ) -> dict[str, Any]:
        reply = exchange()
        if reply.status < 300:
            return read(reply)
        if reply.status in _MOVED:  # the bucket is in another region than the catalog says; the SDK finds it
            found: dict[str, Any] = getattr(self._by_the_sdk(), name)(**asked)
            return found
        raise Answered(reply)

    def _by_the_sdk(self) -> Any:
        with self._lock:
            if self._sdk is None:
                self._sdk = self._made()
            return self._sdk


def client(endpoint: S3Endpoint, bucket: str, *, region: str, patience_seconds: float) -> Any:
    """A client for a bucket: a light one, or the SDK's own where the environment orders what only it understands.
    Raises BadInput for wrong credentials or a wrong endpoint."""
    who = aws.credentials(endpoint.credentials)
    if who.profile is not None or ordered_of_the_sdk(endpoint, region):
        return aws.client("s3", endpoint, region=region, patience_seconds=patience_seconds)
    return Wire(endpoint, bucket, region=region, patience_seconds=patience_seconds)


def ordered_of_the_sdk(endpoint: S3Endpoint, region: str) -> bool:
    """Whether the environment orders what only the SDK understands: proxies, other endpoints, partitions apart."""
    if endpoint.endpoint_url is not None:
        return False
    told = any(name.startswith(("AWS_ENDPOINT_URL", "AWS_USE_")) for name in os.environ)
    return told or bool(getproxies()) or "-iso" in region


_CONDITIONS = (("match", "Match"), ("none-match", "NoneMatch"))
_PAGING = (("start-after", "StartAfter"), ("continuation-token", "ContinuationToken"), ("max-keys", "MaxKeys"))


def _head(reply: Reply) -> dict[str, Any]:
    metadata = {name.removeprefix(_META): text for name, text in reply.headers.items() if name.startswith(_META)}
    return {
        "ContentLength": int(reply.headers.get("content-length", 0)),
        "ETag": reply.headers.get("etag", ""),
        "Metadata": metadata,
        "ResponseMetadata": {"HTTPHeaders": reply.headers},
    }


def _page(reply: Reply) -> dict[str, Any]:
    import xml.etree.ElementTree as ET

    try:
        root = ET.fromstring(reply.body)  # noqa: S314 -- the answer of the bucket that the catalog names
    except ET.ParseError:
        raise ConnectionError("what was answered is no listing") from None  # as of a proxy in the place of S3
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    return {
        "Contents": [
            {
                "Key": unquote_plus(each.findtext(f"{space}Key", "")),
                "Size": int(each.findtext(f"{space}Size", "0")),
                "ETag": each.findtext(f"{space}ETag", ""),
            }
            for each in root.iterfind(f"{space}Contents")
        ],
        "IsTruncated": root.findtext(f"{space}IsTruncated", "") == "true",
        "NextContinuationToken": root.findtext(f"{space}NextContinuationToken", ""),
    }


def _found(body: bytes, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>".encode(), body)
    return found[1].decode(errors="replace") if found else ""
