"""How a client of an AWS-shaped service is made, and what its errors mean. boto3 is imported only when one is made.

Separate because every AWS adapter needs the same time-outs, the same credentials by reference and the same reading of
errors; retrying is ours (by deadline), since botocore's own gives up after 0.1 s of 503s or hangs for minutes.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from recovery.errors import BadInput

if TYPE_CHECKING:
    from recovery.catalog import S3Endpoint

T = TypeVar("T")
Meaning = Literal["absent", "exists", "conflict", "retry", "denied", "no bucket", "other"]

_MAKING = threading.Lock()
"""A session makes one client at a time; the clients themselves are thread-safe."""

_ABSENT = {"NoSuchKey", "NoSuchUpload", "404", "NotFound", "NoSuchVersion"}
_EXISTS = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
_DENIED = {
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401", "403",
    "Forbidden", "Unauthorized", "RequestTimeTooSkewed", "TokenRefreshRequired",
}  # fmt: skip
_RETRY = {
    "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException",
    "RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded", "RequestTimeTooLong", "BadDigest",
    "XAmzContentChecksumMismatch", "IncompleteBody",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a reference resolved to; empty parts leave the choice to the SDK's own chain."""

    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    profile: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(access_key_id={self.access_key_id!r}, profile={self.profile!r})"


def credentials(reference: str) -> Credentials:
    """Resolve `file:PATH`, `env:PREFIX`, `profile:NAME` or `default`. Raises BadInput; never shows what it read."""
    scheme, _, rest = reference.partition(":")
    match scheme:
        case "default":
            return Credentials()
        case "profile":
            return Credentials(profile=rest)
        case "env":
            found = {name: os.environ.get(f"{rest}_{name.upper()}") for name in ("access_key_id", "secret_access_key")}
            if None in found.values():
                raise BadInput(
                    f"the environment has no {rest}_ACCESS_KEY_ID and {rest}_SECRET_ACCESS_KEY",
                    hint="set both, or name other credentials for this site in the catalog",
                )
            return Credentials(**found, session_token=os.environ.get(f"{rest}_SESSION_TOKEN"))
        case "file":
            return _from_file(Path(rest))
    raise BadInput(
        "credentials in the catalog are no reference",  # what stands there instead may be a secret
        hint="write file:PATH, env:PREFIX, profile:NAME or default",
    )


def _from_file(path: Path) -> Credentials:
    try:
        told = json.loads(path.read_text())
        return Credentials(
            access_key_id=told["access_key_id"],
            secret_access_key=told["secret_access_key"],
            session_token=told.get("session_token"),
        )
    except OSError as error:
        raise BadInput(
            f"the credentials file {path} can't be read: {error.strerror}",
            hint="create it with access_key_id and secret_access_key, mode 0600, or correct its path in the catalog"
            " (a relative one counts from the home)",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"the credentials file {path} is not JSON with access_key_id and secret_access_key",
            hint='write {"access_key_id": "…", "secret_access_key": "…"}',
        ) from None


def client(
    service: str, endpoint: S3Endpoint, *, region: str, patience_seconds: float = 30.0, connect_seconds: float = 2.0
) -> Any:
    """A thread-safe boto3 client with short time-outs and at most one retry of its own; ours come on top.

    A patience below ten seconds bounds a single silent request too, and there is no retry of its own.
    """
    from botocore.config import Config

    who = credentials(endpoint.credentials)
    custom = endpoint.endpoint_url is not None
    s3: Any = {"payload_signing_enabled": False, "addressing_style": "path" if custom else "auto"}
    try:
        with _MAKING:
            return _session(who, region).create_client(
                service,
                region_name=region,
                endpoint_url=endpoint.endpoint_url,
                aws_access_key_id=who.access_key_id,
                aws_secret_access_key=who.secret_access_key,
                aws_session_token=who.session_token,
                config=Config(
                    connect_timeout=min(connect_seconds, patience_seconds),
                    read_timeout=min(10, patience_seconds),
                    tcp_keepalive=True,
                    max_pool_connections=32,
                    retries={"mode": "standard", "total_max_attempts": 2 if patience_seconds >= 10 else 1},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3=s3,
                    proxies={} if custom else None,
                    signature_version="s3v4" if service == "s3" else None,
                ),
            )
    except Exception as error:  # botocore raises a dozen kinds for what the catalog got wrong
        if type(error).__module__.partition(".")[0] not in {"botocore", "boto3"} and not isinstance(error, ValueError):
            raise
        raise BadInput(
            f"no client of {service} can be made for {endpoint.endpoint_url or region}: {error}",
            hint="correct the endpoint URL, the region or the profile of this site in the catalog",
        ) from None


@functools.lru_cache(maxsize=16)
def _session(who: Credentials, region: str) -> Any:
    """The session of these credentials: it has read the service's model, which is most of what a client costs.

    botocore's own and not boto3's, whose transfer manager takes longer to load than all else that a first effect needs.
    """
    import botocore.session

    made = botocore.session.Session(profile=who.profile)
    made.set_config_variable("region", region)
    made.register_component("data_loader", _models())
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_instant)
    return made


@functools.lru_cache(maxsize=1)
def _models() -> Any:
    """One reader of botocore's models for all sessions: they are the same, and reading them is most of a client."""
    import botocore.loaders

    return botocore.loaders.create_loader(os.environ.get("AWS_DATA_PATH"))


def _instant(value: Any) -> datetime:
    """A time in an answer. botocore's own parser takes a third of a millisecond, for every key of a listing."""
    if isinstance(value, str) and value[4:5] == "-" and (value.endswith("Z") or value[-6:-5] in {"+", "-"}):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass  # another form of ISO 8601 than Python's: the slow way below knows it
    from botocore.utils import parse_timestamp

    found: datetime = parse_timestamp(value)
    return found


NONE_FOUND = "none were found"
"""Of credentials, where no service refused them."""


def said(error: BaseException) -> tuple[str, str]:
    """The code and the message of a service's answer that is an error; empty where nothing answered."""
    response = getattr(error, "response", None)  # None on a time-out
    told = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(told.get("Code", "")), " ".join(str(told.get("Message", "")).split())[:300]


def meaning(error: BaseException) -> Meaning:
    """What an error of boto3 or urllib3 means to a caller: decide, retry within the patience, or tell a person."""
    response: dict[str, Any] | None = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        code = str(response["Error"].get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
        return _meaning_of(code, status)
    name, module = type(error).__name__, type(error).__module__.partition(".")[0]
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}:
        return "denied"
    if module == "urllib3" or isinstance(error, (ConnectionError, TimeoutError)):
        return "retry"
    if module == "botocore" and ("Connection" in name or "Timeout" in name or name in {"HTTPClientError", "SSLError"}):
        return "retry"
    if name in {"ResponseStreamingError", "IncompleteReadError"}:
        return "retry"
    return "other"


def _meaning_of(code: str, status: int) -> Meaning:
    table: tuple[tuple[Callable[[], bool], Meaning], ...] = (
        (lambda: code == "NoSuchBucket", "no bucket"),
        (lambda: code in _EXISTS or status == 412, "exists"),
        (lambda: code in _CONFLICT, "conflict"),
        (lambda: code in _DENIED, "denied"),
        (lambda: code in _RETRY or status >= 500 or status == 429, "retry"),
        (lambda: code in _ABSENT, "absent"),
        (lambda: status in {401, 403}, "denied"),
    )
    return next((what for holds, what in table if holds()), "other")


def was_retried(error: BaseException) -> bool:
    """Whether botocore itself had sent this request before, so that its effect may be our own."""
    response = getattr(error, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) if isinstance(response, dict) else False
