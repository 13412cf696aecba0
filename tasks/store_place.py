"""A bucket at a site, as a resident process's configuration names it. Separate so that naming one loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recovery.step import Name
from recovery.value import Value

if TYPE_CHECKING:
    from tasks.s3_small import SmallObjects
    from tasks.store import Store


class StorePlace(Value):
    """A bucket at a site."""

    site: Name
    bucket: str
    prefix: str = ""
    region: str = "us-east-1"
    endpoint_url: str | None = None
    credentials: str = "default"

    def open(self, patience_seconds: float) -> Store:
        """The store behind it."""
        from recovery.catalog import S3Endpoint
        from tasks.s3_store import open_store

        endpoint = S3Endpoint(endpoint_url=self.endpoint_url, credentials=self.credentials)
        return open_store(endpoint, self.bucket, self.prefix, region=self.region, patience_seconds=patience_seconds)

    def small(self, timeout_seconds: float) -> SmallObjects:
        """Its small objects, each by one request that is bounded in time."""
        from tasks.s3_small import SmallObjects

        return SmallObjects(
            endpoint=self,
            bucket=self.bucket,
            prefix=self.prefix,
            region=self.region,
            timeout_seconds=timeout_seconds,
        )
