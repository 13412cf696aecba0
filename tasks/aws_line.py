"""A signed request to an AWS-shaped service and its answer, by the standard library alone: kept connections, bounded
waits.

Separate from what is asked (s3_wire.py, s3_small.py, route53/wire.py): a leash must begin to ask within milliseconds
of its start, break glass must have acted within a second of its own, and the SDK takes a quarter of a second to load
and milliseconds a request. Requests are signed by AWS Signature Version 4 (docs.aws.amazon.com, "Signature Version 4
signing process").
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from recovery.errors import BadInput, Failed
from tasks import aws

UNSIGNED = "UNSIGNED-PAYLOAD"


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
    service: str = "s3"

    def headers(self, request: Request, host: str, now: datetime) -> dict[str, str]:
        """The headers that make the request this one's, its own among them."""
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        sent = {**request.headers, "host": host, "x-amz-content-sha256": request.digest, "x-amz-date": stamp}
        if self.session_token:
            sent["x-amz-security-token"] = self.session_token
        names = ";".join(sorted(sent))
        plain = "".join(f"{name}:{' '.join(sent[name].split())}\n" for name in sorted(sent))
        text = f"{request.method}\n{request.path}\n{request.query}\n{plain}\n{names}\n{request.digest}"
        signature = self.signature(stamp, text)
        scope = self.scope(stamp)
        told = f"Credential={self.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**sent, "authorization": f"AWS4-HMAC-SHA256 {told}"}

    def query(self, request: Request, host: str, now: datetime, *, lasts_seconds: int) -> str:
        """The query that makes an address of the request, good for so long. It signs the host alone."""
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        told = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key_id}/{self.scope(stamp)}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(lasts_seconds),
            "X-Amz-SignedHeaders": "host",
            **({"X-Amz-Security-Token": self.session_token} if self.session_token else {}),
        }
        query = _encoded(told)
        text = f"{request.method}\n{request.path}\n{query}\nhost:{host}\n\nhost\n{UNSIGNED}"
        return f"{query}&X-Amz-Signature={self.signature(stamp, text)}"

    def scope(self, stamp: str) -> str:
        """What a signature is good for."""
        return f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"

    def signature(self, stamp: str, canonical: str) -> str:
        """Of a canonical request."""
        scope = self.scope(stamp)
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is sent. `path` and `query` are percent-encoded, the query's parts in order; header names in lower case.
    `digest`: the body's SHA-256, or UNSIGNED."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | bytearray | memoryview
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back. `again`: the request was sent twice, since a kept connection had been closed meanwhile."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    again: bool


class Lines:
    """The connections to one address. Thread-safe: as many as there are requests at once, kept for later.

    `url`: what all paths lie below. `credentials`: a reference. `connect_seconds` and `read_seconds` bound each wait
    for the network. Raises BadInput for what is no URL.
    """

    def __init__(
        self,
        url: str,
        credentials: str,
        *,
        region: str,
        connect_seconds: float,
        read_seconds: float,
        service: str = "s3",
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadInput(
                f"no client of {service} can be made for {url}: it is no URL",
                hint="correct the endpoint URL in the catalog",
            )
        self.secure = parts.scheme == "https"
        self._host, self._base = parts.netloc, parts.path.rstrip("/")
        self._region, self._service, self._credentials = region, service, credentials
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._kept: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._session: Any = None
        self._tls: Any = None

    def exchange(
        self,
        method: str,
        path: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | bytearray | memoryview = b"",
        signed_body: bool = True,
    ) -> Reply:
        """Ask once for what lies at the path below the address. Raises TimeoutError or ConnectionError for silence."""
        digest = hashlib.sha256(body).hexdigest() if signed_body else UNSIGNED
        request = Request(
            method=method,
            path=self._path(path),
            query=_encoded(query or {}),
            headers=headers or {},
            body=body,
            digest=digest,
        )
        sent = self._signing().headers(request, self._host, datetime.now(UTC))
        sent.pop("host")  # the connection writes it itself
        kept = self._take()
        if kept is not None:
            try:
                return self._once(kept, request, sent, again=False)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                self.close()  # the other end has closed what was kept, and most likely all of it
        try:
            return self._once(self._opened(), request, sent, again=kept is not None)
        except TimeoutError:
            raise
        except ConnectionError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from None

    def address(self, path: str, *, lasts_seconds: int) -> str:
        """A signed address from which whoever has it can read for so long."""
        request = Request(method="GET", path=self._path(path), query="", headers={}, body=b"", digest=UNSIGNED)
        query = self._signing().query(request, self._host, datetime.now(UTC), lasts_seconds=lasts_seconds)
        return f"{'https' if self.secure else 'http'}://{self._host}{request.path}?{query}"

    def close(self) -> None:
        """Let go of all kept connections."""
        with self._lock:
            kept, self._kept = self._kept, []
        for each in kept:
            each.close()

    def _once(self, line: http.client.HTTPConnection, request: Request, sent: dict[str, str], *, again: bool) -> Reply:
        try:
            target = f"{request.path}?{request.query}" if request.query else request.path
            line.request(request.method, target, body=request.body or None, headers=sent)
            answer = line.getresponse()
            body = answer.read()
        except BaseException:
            line.close()
            raise
        if answer.will_close:
            line.close()
        else:
            with self._lock:
                self._kept.append(line)
        told = {name.lower(): text for name, text in answer.getheaders()}
        return Reply(status=answer.status, headers=told, body=body, again=again)

    def _path(self, path: str) -> str:
        return quote(f"{self._base}/{path}" if path else self._base, safe="/-._~") or "/"

    def _take(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._kept.pop() if self._kept else None

    def _opened(self) -> http.client.HTTPConnection:
        if not self.secure:
            line = http.client.HTTPConnection(self._host, timeout=self._connect_seconds)
        else:
            line = http.client.HTTPSConnection(self._host, timeout=self._connect_seconds, context=self._context())
        try:
            line.connect()
            line.sock.settimeout(self._read_seconds)
        except BaseException:
            line.close()
            raise
        return line

    def _context(self) -> Any:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        return self._tls

    def _signing(self) -> Signing:
        who = aws.credentials(self._credentials)
        access, secret, token = who.access_key_id, who.secret_access_key, who.session_token
        if access is None or secret is None:
            access, secret, token = self._by_the_sdk(who.profile)
        return Signing(
            access_key_id=access,
            secret_access_key=secret,
            session_token=token,
            region=self._region,
            service=self._service,
        )

    def _by_the_sdk(self, profile: str | None) -> tuple[str, str, str | None]:
        """Credentials that only the SDK can find (a profile, the machine's role); it refreshes them."""
        if self._session is None:
            import botocore.session

            self._session = botocore.session.Session(profile=profile)
        found = self._session.get_credentials()
        if found is None:
            raise Failed(f"there are no credentials {self._credentials}", hint="name others in the catalog")
        frozen = found.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token


def of_bucket(endpoint: Endpoint, bucket: str, region: str) -> str:
    """The URL that a bucket's keys lie below. A name with a dot fits no certificate of AWS's: it stands in the path."""
    if endpoint.endpoint_url is not None:
        return f"{endpoint.endpoint_url.rstrip('/')}/{bucket}"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{suffix}/{bucket}" if "." in bucket else f"https://{bucket}.s3.{region}.{suffix}"


def _encoded(query: Mapping[str, str]) -> str:
    """As it is signed: the parts in order."""
    return "&".join(f"{quote(name, safe='-._~')}={quote(text, safe='-._~')}" for name, text in sorted(query.items()))
