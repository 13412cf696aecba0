"""A boto3 client for the lab's own errands: readiness, buckets, self-tests. The engine has its own in tasks/."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from recovery.catalog import S3Endpoint
from recovery.errors import Failed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"


def client(endpoint: S3Endpoint) -> S3Client:
    """A client with short patience and one try, for an endpoint whose credentials are a file."""
    import boto3
    from botocore.config import Config

    pair = json.loads(Path(endpoint.credentials.removeprefix("file:")).read_text())
    return boto3.client(
        "s3",
        endpoint_url=endpoint.endpoint_url,
        aws_access_key_id=pair["access_key_id"],
        aws_secret_access_key=pair["secret_access_key"],
        region_name=REGION,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=5,
            s3={"addressing_style": "path"},
        ),
    )


def wait_until_ready(endpoint: S3Endpoint, *, alive: Callable[[], bool], patience_seconds: float = 30.0) -> S3Client:
    """Wait until the server lists its buckets. Raises Failed past the patience or when the server has ended."""
    from botocore.exceptions import BotoCoreError, ClientError

    ready = client(endpoint)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            ready.list_buckets()
        except (BotoCoreError, ClientError) as trouble:
            if time.monotonic() > deadline or not alive():
                raise Failed(
                    f"the S3 server at {endpoint.endpoint_url} does not answer ({type(trouble).__name__})",
                    hint="read the log beside its data; is the disk full or the port taken?",
                ) from trouble
            time.sleep(0.05)
        else:
            return ready


def make_bucket(s3: S3Client, name: str, *, locked: bool = False) -> None:
    """Make the bucket if it is missing; `locked` enables versioning and object lock from its creation."""
    from botocore.exceptions import ClientError

    try:
        s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    except ClientError as trouble:
        if trouble.response.get("Error", {}).get("Code") not in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
            raise
    if locked:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
