"""The light line to Route53 reads the two answers that it asks for as the SDK does, name for name."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import botocore.session
import pytest
from botocore.parsers import create_parser

from tasks.route53 import wire

MODEL = botocore.session.get_session().get_service_model("route53")
CHECK = b"""<?xml version="1.0"?>
<GetHealthCheckResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><HealthCheck><Id>one</Id>
<CallerReference>r</CallerReference><HealthCheckConfig><IPAddress>10.0.0.1</IPAddress><Port>443</Port>
<Type>HTTPS</Type><ResourcePath>/ready</ResourcePath><RequestInterval>10</RequestInterval>
<FailureThreshold>3</FailureThreshold><MeasureLatency>false</MeasureLatency><Inverted>false</Inverted>
<Disabled>true</Disabled><EnableSNI>true</EnableSNI><Regions><Region>us-east-1</Region><Region>eu-west-1</Region>
</Regions></HealthCheckConfig><HealthCheckVersion>2</HealthCheckVersion></HealthCheck></GetHealthCheckResponse>"""
SETS = b"""<?xml version="1.0"?>
<ListResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ResourceRecordSets>
<ResourceRecordSet><Name>app.test.</Name><Type>A</Type><SetIdentifier>east</SetIdentifier><Weight>0</Weight>
<TTL>1</TTL><ResourceRecords><ResourceRecord><Value>10.0.0.1</Value></ResourceRecord></ResourceRecords>
<HealthCheckId>one</HealthCheckId></ResourceRecordSet><ResourceRecordSet><Name>b.test.</Name><Type>A</Type>
<AliasTarget><HostedZoneId>Z</HostedZoneId><DNSName>x.</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth>
</AliasTarget></ResourceRecordSet></ResourceRecordSets><IsTruncated>true</IsTruncated><MaxItems>2</MaxItems>
<NextRecordName>c.test.</NextRecordName></ListResourceRecordSetsResponse>"""
TOLD = {"integer": "numbers", "long": "numbers", "boolean": "truths", "list": "lists"}


def named(operation: str) -> dict[str, set[str]]:
    """The names that are no text in an answer, by what they are, as the SDK's own model has them."""
    found: dict[str, set[str]] = {"numbers": set(), "truths": set(), "lists": set()}

    def walk(shape: Any) -> None:
        for name, member in getattr(shape, "members", {}).items():
            if member.type_name in TOLD:
                found[TOLD[member.type_name]].add(name)
            walk(member)
        if shape.type_name == "list":
            walk(shape.member)

    walk(MODEL.operation_model(operation).output_shape)
    return found


def test_every_name_that_is_no_text_is_known() -> None:
    """A truth that is read as the text "false" would be true."""
    sets, check = named("ListResourceRecordSets"), named("GetHealthCheck")
    assert {kind: sets[kind] | check[kind] for kind in sets} == {
        "numbers": set(wire._NUMBERS),
        "truths": set(wire._TRUTHS),
        "lists": set(wire._LISTS),
    }


@pytest.mark.parametrize(("operation", "body"), [("GetHealthCheck", CHECK), ("ListResourceRecordSets", SETS)])
def test_an_answer_is_read_as_the_sdk_reads_it(operation: str, body: bytes) -> None:
    shape = MODEL.operation_model(operation).output_shape
    answer = {"status_code": 200, "headers": {}, "body": body}
    by_the_sdk = create_parser("rest-xml").parse(answer, shape)
    by_the_sdk.pop("ResponseMetadata")
    assert wire._plain(ET.fromstring(body)) == by_the_sdk
