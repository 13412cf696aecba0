"""Small objects of a bucket by the standard library alone: one request, one time-out, no retry, no waiting import.

Separate from s3_store.py because a leash must begin to ask within milliseconds of its start and be answered, or not,
within a fraction of its lease; boto3 takes half a second to load and knows no such bound. Requests are signed by AWS
Signature Version 4 (docs.aws.amazon.com, "Signature Version 4 signing process").
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from recovery.errors import Failed
from tasks import aws


class Endpoint(Protocol):
    """Where a bucket is and by whose credentials: recovery.catalog.S3Endpoint, or a StorePlace."""

    @property
    def endpoint_url(self) -> str | None:
        """None: AWS's own."""
        ...

    @property
    def credentials(self) -> str:
        """A reference, never a secret."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Signing:
    """Whose requests, in which region."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None
    region: str

    def headers(self, method: str, host: str, path: str, body: bytes, now: datetime) -> dict[str, str]:
        """The headers that make the request this one's. `path` is percent-encoded; there is no query."""
        stamp, digest = now.strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(body).hexdigest()
        sent = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        if self.session_token:
            sent["x-amz-security-token"] = self.session_token
        names = ";".join(sorted(sent))
        plain = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent))
        request = f"{method}\n{path}\n\n{plain}\n{names}\n{digest}"
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{self.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        told = f"Credential={self.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**sent, "authorization": f"AWS4-HMAC-SHA256 {told}"}


@dataclass(kw_only=True)
class SmallObjects:
    """A bucket, for one thread at a time. Raises Failed for every answer but the one asked for, in bounded time."""

    endpoint: Endpoint
    bucket: str
    prefix: str = ""
    region: str = "us-east-1"
    timeout_seconds: float = 1.0
    _line: http.client.HTTPConnection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _session: Any = None

    def get(self, key: str) -> bytes | None:
        """The object, or None when it is absent."""
        status, body = self._ask("GET", key, b"")
        if status == 200:
            return body
        if status == 404 and b"NoSuchBucket" not in body:
            return None
        raise self._trouble(f"reading {key}", status)

    def put(self, key: str, body: bytes) -> None:
        """Write the object, whatever was there."""
        status, _ = self._ask("PUT", key, body)
        if status != 200:
            raise self._trouble(f"writing {key}", status)

    def delete(self, key: str) -> None:
        """Remove the object; absent is fine."""
        status, _ = self._ask("DELETE", key, b"")
        if status not in {200, 204, 404}:
            raise self._trouble(f"removing {key}", status)

    def _ask(self, method: str, key: str, body: bytes) -> tuple[int, bytes]:
        url = urlsplit(self.endpoint.endpoint_url or f"https://{self.bucket}.s3.{self.region}.amazonaws.com")
        whole = "/".join(filter(None, [self.prefix.strip("/"), key]))
        path = "/" + quote(f"{self.bucket}/{whole}" if self.endpoint.endpoint_url else whole, safe="/-._~")
        with self._lock:
            headers = self._signing().headers(method, url.netloc, path, body, datetime.now(UTC))
            headers.pop("host")
            again = self._line is not None  # a kept line may have been closed by the other end meanwhile
            while True:
                try:
                    return self._once(url.scheme, url.netloc, method, path, body, headers)
                except TimeoutError as error:
                    self._drop()
                    raise self._silent(error) from None
                except (OSError, http.client.HTTPException) as error:
                    self._drop()
                    if not again:
                        raise self._silent(error) from None
                    again = False

    def _once(
        self, scheme: str, netloc: str, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        if self._line is None:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            self._line = kind(netloc, timeout=self.timeout_seconds)
        self._line.request(method, path, body=body or None, headers=dict(headers))
        answer = self._line.getresponse()
        return answer.status, answer.read()

    def _drop(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _signing(self) -> Signing:
        who = aws.credentials(self.endpoint.credentials)
        access, secret, token = who.access_key_id, who.secret_access_key, who.session_token
        if access is None or secret is None:
            access, secret, token = self._by_the_sdk(who.profile)
        return Signing(access_key_id=access, secret_access_key=secret, session_token=token, region=self.region)

    def _by_the_sdk(self, profile: str | None) -> tuple[str, str, str | None]:
        """Credentials that only the SDK can find (a profile, the machine's role); it refreshes them."""
        if self._session is None:
            import botocore.session

            self._session = botocore.session.Session(profile=profile)
        found = self._session.get_credentials()
        if found is None:
            raise Failed(f"there are no credentials {self.endpoint.credentials}", hint="name those of this site")
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    def _trouble(self, doing: str, status: int) -> Failed:
        return Failed(
            f"{doing}: bucket {self.bucket} at {self.endpoint.endpoint_url or self.region} answered {status}",
            hint="see whether the S3 endpoint is up, and the credentials and this machine's clock are right",
        )

    def _silent(self, error: Exception) -> Failed:
        return Failed(
            f"bucket {self.bucket} at {self.endpoint.endpoint_url or self.region} did not answer within"
            f" {self.timeout_seconds:g} s ({type(error).__name__})",
            hint="see whether the S3 endpoint is up and reachable from this machine",
        )
