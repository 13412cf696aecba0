"""Small objects of a bucket: one request, one time-out, no retry, no waiting import.

Separate from s3_store.py because a leash must begin to ask within milliseconds of its start and be answered, or not,
within a fraction of its lease: it knows no patience.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from recovery.errors import Failed
from tasks.aws_line import Endpoint, Lines, of_bucket
from tasks.unanswered import LATE, why


@dataclass(kw_only=True)
class SmallObjects:
    """A bucket. Thread-safe. Raises Failed for every answer but the one asked for, in bounded time."""

    endpoint: Endpoint
    bucket: str
    prefix: str = ""
    region: str = "us-east-1"
    timeout_seconds: float = 1.0
    _lines: Lines | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
        whole = "/".join(filter(None, [self.prefix.strip("/"), key]))
        with self._lock:
            if self._lines is None:
                seconds = self.timeout_seconds
                self._lines = Lines(
                    of_bucket(self.endpoint, self.bucket, self.region),
                    self.endpoint.credentials,
                    region=self.region,
                    connect_seconds=seconds,
                    read_seconds=seconds,
                )
        try:
            reply = self._lines.exchange(method, whole, body=body)
        except (TimeoutError, ConnectionError) as error:
            raise self._silent(error) from None
        return reply.status, reply.body

    def _trouble(self, doing: str, status: int) -> Failed:
        return Failed(
            f"{doing}: bucket {self.bucket} at {self.endpoint.endpoint_url or self.region} answered {status}",
            hint="see whether the S3 endpoint is up, and the credentials and this machine's clock are right",
        )

    def _silent(self, error: Exception) -> Failed:
        said = why(error)
        in_time = f"within {self.timeout_seconds:g} s" if said == LATE else f"({said})"
        return Failed(
            f"bucket {self.bucket} at {self.endpoint.endpoint_url or self.region} did not answer {in_time}",
            hint="see whether the S3 endpoint is up and reachable from this machine",
        )
