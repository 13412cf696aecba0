"""The way `routing-control`: ARC's five regional endpoints, of which two may be down, asked in random order.

Separate because ARC's data plane has rules of its own (facts about AWS, D3): off and on go in one request, what is
written here was looked up long before, and a refusal by a safety rule is an answer, not a trouble to try again.
"""

from __future__ import annotations

import random
from typing import Any

from recovery.catalog import S3Endpoint
from recovery.errors import BadInput, DrError, Failed, Refused
from tasks import aws
from tasks.kind import Facts
from tasks.route53.errand import Errand
from tasks.unanswered import why

CONNECT_SECONDS, READ_SECONDS = 1.0, 2.0
_FINAL = {"ConflictException", "ServiceLimitExceededException", "ValidationException", "ResourceNotFoundException"}


def move(errand: Errand) -> Facts:
    """Facts: `endpoint` (the region that took it), `silent` (those before it that did not). Raises Refused for a safety
    rule or missing rights, BadInput for controls that ARC doesn't know, Failed when no endpoint takes it."""
    routing, entries = errand.catalog.routing, _entries(errand)
    if routing is None or not entries:
        raise BadInput(
            f"no record of {errand.dns.name} has a routing control",
            hint="name one under `control` and its ARN under `routing.controls`, or name another way under `by`",
        )
    silent: dict[str, str] = {}
    regions = list(routing.endpoints)
    random.shuffle(regions)
    for region in regions:
        errand.say(f"asking ARC's endpoint in {region}", None)
        try:
            _client(routing.endpoints[region], region, routing.credentials).update_routing_control_states(
                UpdateRoutingControlStateEntries=entries
            )
        except DrError:
            raise
        except Exception as error:  # noqa: BLE001 -- boto3 raises a dozen kinds for an endpoint that is gone
            final = _final(error)
            if final is not None:
                raise final from None
            silent[region] = aws.said(error)[0] or why(error)
        else:
            return {
                "endpoint": region,
                "silent": {**silent},
                "controls": [each["RoutingControlArn"] for each in entries],
            }
    told = "; ".join(f"{region}: {why}" for region, why in silent.items())
    raise Failed(
        f"none of ARC's {len(regions)} endpoints took the routing controls of {errand.dns.name} ({told})",
        hint="see the network of this machine; ARC needs three of five endpoints. Name another way under `by`",
    )


def _entries(errand: Errand) -> list[dict[str, str]]:
    """On for the target, off for the others, in one request."""
    controls = errand.catalog.routing.controls if errand.catalog.routing else {}
    return [
        {"RoutingControlArn": controls[each.control], "RoutingControlState": "On" if site == errand.site else "Off"}
        for site, each in errand.dns.records.items()
        if each.control in controls
    ]


def _client(url: str, region: str, credentials: str) -> Any:
    """A client of its own for each endpoint: one that hangs must not hold the others' connections."""
    return aws.client(
        "route53-recovery-cluster",
        S3Endpoint(endpoint_url=url, credentials=credentials),
        region=region,
        patience_seconds=READ_SECONDS,
        connect_seconds=CONNECT_SECONDS,
    )


def _final(error: Exception) -> DrError | None:
    """The end where asking another endpoint would give the same answer."""
    code, text = aws.said(error)
    if code == "ConflictException":
        return Refused(
            f"a safety rule of ARC refuses the move: {text}",
            hint="see the rule; only a person may override it (SafetyRulesToOverride), by hand and on record",
        )
    if aws.meaning(error) == "denied" or code.startswith("AccessDenied"):
        return Refused(
            f"ARC refuses these credentials ({code or aws.NONE_FOUND})",
            hint="correct `routing.credentials` in the catalog; they must work without anybody's help on the day",
        )
    if code in _FINAL:
        return BadInput(f"ARC takes no such request ({code}): {text}", hint="correct `routing.controls` in the catalog")
    return None
