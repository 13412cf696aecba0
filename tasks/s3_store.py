"""A bucket (and a prefix in it) behind the Store port: everyday requests by a light line, large uploads by the SDK, and
bulk reads by presigned URL and urllib3.

Separate from the port so that nothing else knows S3. A GET by the SDK costs ten times the processor time of one by
urllib3 (it wraps and hashes the stream), and restores are made of GETs; its put costs ten times that of a light line.
"""

from __future__ import annotations

import base64
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from recovery.catalog import S3Endpoint
from tasks import s3_wire
from tasks.s3_trouble import Persistence, Place
from tasks.s3_upload import S3Upload
from tasks.s3_wire import LARGE_BYTES
from tasks.store import AlreadyThere, Changed, Stored

_URL_LIFE_SECONDS = 3600
_URL_REUSE_SECONDS = 900


class S3Store:
    """Thread-safe. `patience_seconds` bounds each call with its retries; see tasks.store.Store for the contract."""

    def __init__(
        self, client: Any, *, bucket: str, prefix: str = "", endpoint: str = "AWS", patience_seconds: float = 30.0
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._place = Place(endpoint=endpoint, bucket=bucket)
        self._persist = Persistence(place=self._place, patience_seconds=patience_seconds)
        self._urls: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._pool: Any = None

    @property
    def place(self) -> str:
        """Where it is, for people; no secrets."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def endpoint(self) -> str:
        """The endpoint URL, or `AWS`."""
        return self._place.endpoint

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """See Store.put. The server refuses a damaged body by its CRC64NVME."""

        def act() -> None:
            self._client.put_object(**self._body(key, body), Metadata=dict(metadata or {}), IfNoneMatch="*")

        match self._persist(f"writing {key}", act):
            case ("exists" | "conflict", maybe_ours):
                if not (maybe_ours and self._holds(key, body)):
                    raise AlreadyThere(key)

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        """See Store.replace."""
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        made: list[str] = []

        def act() -> None:
            made.append(str(self._client.put_object(**self._body(key, body), **condition)["ETag"]))

        match self._persist(f"replacing {key}", act):
            case None:
                return made[-1]
            case (_, maybe_ours):
                found = self.get(key) if maybe_ours else None
                if found is not None and found[0] == body:
                    return found[1].etag
        raise Changed(key)

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        """See Store.get."""
        found: list[tuple[bytes, Stored]] = []

        def act() -> None:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            with answer["Body"] as stream:
                found.append((stream.read(), _stored(key, answer)))

        outcome = self._persist(f"reading {key}", act)
        return found[-1] if outcome is None else None

    def head(self, key: str) -> Stored | None:
        """See Store.head."""
        found: list[Stored] = []

        def act() -> None:
            found.append(_stored(key, self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)))

        outcome = self._persist(f"looking at {key}", act)
        return found[-1] if outcome is None else None

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """See Store.list; a thousand keys a request."""
        more: dict[str, str] = {"StartAfter": self._prefix + after} if after else {}
        while True:
            page = self._page(prefix, more)
            for entry in page.get("Contents", ()):
                key = str(entry["Key"]).removeprefix(self._prefix)
                yield Stored(key=key, size_bytes=int(entry["Size"]), etag=str(entry.get("ETag", "")))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": str(page["NextContinuationToken"])}

    def delete(self, key: str) -> None:
        """See Store.delete."""
        self._persist(
            f"removing {key}", lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        )

    def read(self, key: str, begin: int, length: int, into: memoryview) -> None:
        """See Store.read. A ranged GET straight into the caller's buffer."""
        if length <= 0:
            return
        outcome = self._persist(f"reading {key}", lambda: self._ranged(key, begin, length, into))
        if outcome is not None:
            raise self._place.short(key)

    def upload(self, key: str) -> S3Upload:
        """See Store.upload."""
        return S3Upload(
            self._client, bucket=self._bucket, key=self._prefix + key, name=key, persist=self._persist, head=self.head
        )

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Multipart uploads underway or forgotten: key, upload id, begun when."""
        more: dict[str, str] = {}
        while True:
            pages: list[dict[str, Any]] = []

            def act(more: dict[str, str] = more, pages: list[dict[str, Any]] = pages) -> None:
                told = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix + prefix, **more)
                pages.append(told)

            self._persist("listing uploads", act)
            page = pages[-1] if pages else {}
            for entry in page.get("Uploads", ()):
                yield str(entry["Key"]).removeprefix(self._prefix), str(entry["UploadId"]), entry["Initiated"]
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def forget_upload(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload; absent is fine."""
        self._persist(
            f"forgetting an upload of {key}",
            lambda: self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._prefix + key, UploadId=upload_id
            ),
        )

    def _body(self, key: str, body: bytes) -> dict[str, Any]:
        # The algorithm is named too: S3 refuses a put without that header to a bucket with object lock.
        checksum = _checksum(body)
        return {"Bucket": self._bucket, "Key": self._prefix + key, "Body": body, **checksum}

    def _holds(self, key: str, body: bytes) -> bool:
        """Whether an earlier try of ours, whose answer was lost, had written it."""
        found = self.get(key)
        return found is not None and found[0] == body

    def _page(self, prefix: str, more: Mapping[str, str]) -> dict[str, Any]:
        pages: list[dict[str, Any]] = []

        def act() -> None:
            pages.append(self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **more))

        self._persist(f"listing {prefix}", act)
        return pages[-1] if pages else {}

    def _url(self, key: str) -> str:
        """One signature serves all ranges of an object: the Range header is not part of it."""
        now = time.monotonic()
        with self._lock:
            made = self._urls.get(key)
            if made is None or now - made[0] > _URL_REUSE_SECONDS:
                where = {"Bucket": self._bucket, "Key": self._prefix + key}
                url = self._client.generate_presigned_url("get_object", Params=where, ExpiresIn=_URL_LIFE_SECONDS)
                if len(self._urls) > 256:
                    self._urls.clear()
                made = self._urls[key] = (now, url)
            return made[1]

    def _http(self) -> Any:
        with self._lock:
            if self._pool is None:
                import os

                import urllib3

                self._pool = urllib3.PoolManager(
                    maxsize=32,
                    retries=False,
                    timeout=urllib3.Timeout(connect=2, read=10),
                    ca_certs=os.environ.get("AWS_CA_BUNDLE"),
                )
            return self._pool

    def _ranged(self, key: str, begin: int, length: int, into: memoryview) -> None:
        answer = self._http().request(
            "GET", self._url(key), headers={"Range": f"bytes={begin}-{begin + length - 1}"}, preload_content=False
        )
        try:
            if answer.status != 206:
                self._urls.pop(key, None)
            _fill(answer, length, into)
        except BaseException:
            answer.close()
            raise
        answer.release_conn()


def open_store(
    endpoint: S3Endpoint, bucket: str, prefix: str = "", *, region: str, patience_seconds: float = 30.0
) -> S3Store:
    """The store of a bucket at a site. Nothing is asked of the server yet. Raises BadInput for wrong credentials."""
    made = s3_wire.client(endpoint, bucket, region=region, patience_seconds=patience_seconds)
    return S3Store(
        made,
        bucket=bucket,
        prefix=prefix,
        endpoint=endpoint.endpoint_url or f"AWS {region}",
        patience_seconds=patience_seconds,
    )


def _checksum(body: bytes) -> dict[str, str]:
    """Of the transfer. A large body's is CRC64NVME: as good a guard as SHA-256, at a tenth of the price on both ends. A
    record is too small for that to matter, and need not wait until the library of CRC64NVME is loaded."""
    if len(body) < LARGE_BYTES:
        told = zlib.crc32(body).to_bytes(4, "big")
        return {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": base64.b64encode(told).decode()}
    from awscrt.checksums import crc64nvme

    told = crc64nvme(body).to_bytes(8, "big")
    return {"ChecksumAlgorithm": "CRC64NVME", "ChecksumCRC64NVME": base64.b64encode(told).decode()}


def _fill(answer: Any, length: int, into: memoryview) -> None:
    if answer.status != 206:
        raise _as_client_error(answer.status, answer.read(2000))
    if int(answer.headers.get("Content-Length", length)) < length:
        raise _as_client_error(416, b"<Code>InvalidRange</Code>")  # the object ends within the range
    filled = 0
    while filled < length:
        got = answer.readinto(into[filled:length])
        if not got:
            raise ConnectionError(f"the answer ended {length - filled} bytes early")
        filled += got


def _stored(key: str, answer: Mapping[str, Any]) -> Stored:
    return Stored(
        key=key,
        size_bytes=int(answer["ContentLength"]),
        etag=str(answer.get("ETag", "")),
        metadata={name.lower(): text for name, text in answer.get("Metadata", {}).items()},
        told_at=_instant(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")),
    )


def _instant(date: str | None) -> datetime | None:
    """An HTTP date (RFC 9110); None where it is none."""
    try:
        return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return None


def _as_client_error(status: int, body: bytes) -> Exception:
    """The error that boto3 would have raised for this answer."""
    import re

    from botocore.exceptions import ClientError

    code = re.search(rb"<Code>([^<]+)</Code>", body)
    name = code.group(1).decode() if code else str(status)
    return ClientError({"Error": {"Code": name}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")  # type: ignore[typeddict-item]
