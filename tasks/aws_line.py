"""A signed request to an AWS-shaped service and its answer: kept connections, bounded waits, no client of the SDK's.

Separate from what is asked (s3_wire.py, s3_small.py, route53/wire.py): a leash and break glass have to ask soon after
their start, and the SDK's clients take a quarter of a second to load and milliseconds a request. Its signers and its
connection pool (urllib3) alone are light, so that neither is made here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from recovery.errors import BadInput, Failed
from tasks import aws
from tasks.unanswered import why

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials


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


class Untrusted(ConnectionError):
    """Who answers there has a certificate that nobody vouches for, or one that has expired; its text says why."""


KEPT = 32
"""Connections to an address that are kept for later; more at once are opened and closed."""


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
        import urllib3

        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadInput(
                f"no client of {service} can be made for {url}: it is no URL",
                hint="correct the endpoint URL in the catalog",
            )
        self.secure = parts.scheme == "https"
        self._host, self._base = parts.netloc, parts.path.rstrip("/")
        self._region, self._service, self._credentials = region, service, credentials
        self._pool = urllib3.connection_from_url(
            f"{parts.scheme}://{parts.netloc}",
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            retries=False,
            maxsize=KEPT,
            **({"ca_certs": os.environ.get("AWS_CA_BUNDLE")} if self.secure else {}),
        )
        self._session: Any = None

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
        from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError
        from urllib3.exceptions import TimeoutError as Late

        path, words = self._path(path), _encoded(query or {})
        target = f"{path}?{words}" if words else path
        sent = self._signed(method, target, headers or {}, body, signed_body=signed_body)
        bytes_: Any = body or None  # any buffer will do
        ask = partial(self._pool.urlopen, method, target, bytes_, sent, redirect=False, decode_content=False)
        again = False
        try:
            try:
                answer = ask()
            except ProtocolError:
                again, answer = True, ask()  # the other end had closed what was kept
        except NewConnectionError as error:  # to the pool a time-out, too, which a refusal is not
            raise _silence(error) from None
        except Late as error:
            raise TimeoutError(str(error)) from None
        except HTTPError as error:
            raise _silence(error) from None
        told = {name.lower(): text for name, text in answer.headers.items()}
        return Reply(status=answer.status, headers=told, body=answer.data, again=again)

    def address(self, path: str, *, lasts_seconds: int) -> str:
        """A signed address from which whoever has it can read for so long."""
        from botocore.auth import S3SigV4QueryAuth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("GET", self._url(self._path(path)))
        S3SigV4QueryAuth(self._who(), self._service, self._region, expires=lasts_seconds).add_auth(request)
        return str(request.url)

    def _signed(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | bytearray | memoryview,
        *,
        signed_body: bool,
    ) -> dict[str, str]:
        """The headers that make a request this one's, its own among them, by the SDK's signers."""
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, self._url(target), headers=headers, data=body)
        if not signed_body:
            from botocore.config import Config

            request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
        kind = S3SigV4Auth if self._service == "s3" else SigV4Auth
        kind(self._who(), self._service, self._region).add_auth(request)
        return dict(request.headers.items())

    def _url(self, target: str) -> str:
        return f"{'https' if self.secure else 'http'}://{self._host}{target}"

    def _path(self, path: str) -> str:
        return quote(f"{self._base}/{path}" if path else self._base, safe="/-._~") or "/"

    def _who(self) -> ReadOnlyCredentials:
        from botocore.credentials import ReadOnlyCredentials

        who = aws.credentials(self._credentials)
        if who.access_key_id is None or who.secret_access_key is None:
            return self._by_the_sdk(who.profile)
        return ReadOnlyCredentials(who.access_key_id, who.secret_access_key, who.session_token)

    def _by_the_sdk(self, profile: str | None) -> ReadOnlyCredentials:
        """Credentials that only the SDK can find (a profile, the machine's role); it refreshes them."""
        from botocore.exceptions import BotoCoreError

        why = "none were found"
        try:
            if self._session is None:
                import botocore.session

                self._session = botocore.session.Session(profile=profile)
            found = self._session.get_credentials()
            if found is not None:
                frozen: ReadOnlyCredentials = found.get_frozen_credentials()
                return frozen
        except BotoCoreError as error:  # the machine's role does not answer now, or there is no such profile
            why = str(error)
        raise Failed(
            f"there are no credentials {self._credentials}: {why}",
            hint="see whether this machine's role or profile gives some, or name others in the catalog",
        )


def _silence(error: Exception) -> ConnectionError:
    """The silence in the words of the system, where the pool only wraps them: a refusal and a hang-up have names of
    their own, by which whoever asked knows that nobody listens there."""
    for below in (error.__cause__, *error.args):
        if isinstance(below, ConnectionError):
            return below
        if said := getattr(below, "verify_message", ""):  # ssl.SSLCertVerificationError's
            return Untrusted(f"its certificate is not trusted: {said}")
    return ConnectionError(why(error))


def of_bucket(endpoint: Endpoint, bucket: str, region: str) -> str:
    """The URL that a bucket's keys lie below. A name with a dot fits no certificate of AWS's: it stands in the path."""
    if endpoint.endpoint_url is not None:
        return f"{endpoint.endpoint_url.rstrip('/')}/{bucket}"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{suffix}/{bucket}" if "." in bucket else f"https://{bucket}.s3.{region}.{suffix}"


def _encoded(query: Mapping[str, str]) -> str:
    """As it is signed: the parts in order."""
    return "&".join(f"{quote(name, safe='-._~')}={quote(text, safe='-._~')}" for name, text in sorted(query.items()))
