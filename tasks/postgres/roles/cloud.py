"""Isolating a machine by the cloud's API: EC2 stops the old primary's instance, and says when it is stopped.

Separate from the fence because it is the only part that knows a cloud. It needs the control plane of the site that is
left, which may be what was lost: it is never the only way that a failover has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue

from recovery.catalog import S3Endpoint
from recovery.errors import Failed
from tasks import aws
from tasks.postgres.reading import Deadline

POLL_SECONDS = 1.0
_ENDED = frozenset({"stopped", "terminated"})


def client(region: str) -> Any:
    """EC2 in a region, by the machine's own credentials, with short time-outs."""
    return aws.client("ec2", S3Endpoint(), region=region, patience_seconds=5.0)


def stop(
    instance: str, *, region: str, deadline: Deadline, over: Callable[[], bool], poll_seconds: float = POLL_SECONDS
) -> dict[str, JsonValue]:
    """Stop an instance by force and wait until it is. Raises Failed with what the API said."""
    ec2 = client(region)
    try:
        ec2.stop_instances(InstanceIds=[instance], Force=True)
        while (state := _state(ec2, instance)) not in _ENDED:
            if not deadline.left_seconds or over():
                break
            time.sleep(min(poll_seconds, max(0.01, deadline.left_seconds)))
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in {"botocore", "boto3"}:
            raise
        raise Failed(
            f"EC2 of {region} did not stop {instance} ({type(error).__name__})",
            hint="its control plane may be gone, or the credentials may not stop instances",
        ) from None
    if state not in _ENDED:
        raise Failed(
            f"{instance} is {state}, not stopped, at the end of the patience", hint=f"see it in the console of {region}"
        )
    return {"instance": instance, "region": region, "state": state}


def answers(instance: str, *, region: str) -> bool:
    """Whether the API can be asked about the instance. For a look, with a short patience."""
    try:
        return bool(_state(client(region), instance))
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in {"botocore", "boto3"}:
            raise
        return False


def _state(ec2: Any, instance: str) -> str:
    told = ec2.describe_instances(InstanceIds=[instance])
    return str(told["Reservations"][0]["Instances"][0]["State"]["Name"])
