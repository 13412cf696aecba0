"""What all values have in common: frozen, strict, one canonical form.

Separate because digests, chained hashes and signatures must agree on the bytes of a value for ever.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, PlainSerializer


def in_utc(at: datetime) -> datetime:
    """`at` in UTC. Raises ValueError for a naive instant: a time without a zone has no meaning here."""
    if at.tzinfo is None:
        raise ValueError("the time has no zone; write it with Z or an offset, like 2026-11-24T03:00:00Z")
    return at.astimezone(UTC)


def rfc3339(at: datetime) -> str:
    """`at` as RFC 3339 in UTC with microseconds, so that text order is time order."""
    return in_utc(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Instant = Annotated[datetime, AfterValidator(in_utc), PlainSerializer(rfc3339, return_type=str, when_used="json")]


class Value(BaseModel):
    """A frozen value: unknown keys refused, no coercion surprises, comparable and hashable where its parts are."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", defer_build=True)

    def but(self, **changes: object) -> Self:
        """The same value with these fields changed, validated anew; nothing computed (a digest) is carried over."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate({**fields, **changes}, by_name=True)


def canonical(value: Value | JsonValue) -> bytes:
    """The one byte form of a value: UTF-8 JSON, keys sorted, no spaces, instants as RFC 3339 UTC. NaN is refused."""
    plain: Any = value.model_dump(mode="json") if isinstance(value, Value) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_of(value: Value | JsonValue) -> str:
    """Lower-case hexadecimal SHA-256 over the canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()
