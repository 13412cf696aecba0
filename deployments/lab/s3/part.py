"""The S3 part: one server for each site and one for the witness, with their buckets."""

from __future__ import annotations

from deployments.lab import layout
from deployments.lab.part import Part, Unwell
from deployments.lab.s3 import weed
from deployments.lab.s3.client import client, make_bucket, wait_until_ready
from deployments.lab.world import World


def name(place: str) -> str:
    """The process name: `east.s3`."""
    return f"{place}.s3"


def prepare(world: World) -> dict[str, int]:
    """The first port of each place's server: as before where that is free or ours, else another."""
    return {
        place: world.s3_base_ports[place]
        if place in world.s3_base_ports and world.processes.alive(name(place))
        else _server(world, place).base_port
        for place in layout.BUCKETS
    }


def start(world: World, place: str) -> Part:
    """Start the server of a place and make its buckets."""
    one = weed.Weed(
        folder=world.folder(place, "s3"),
        address=layout.hidden(world.block, place),
        base_port=world.s3_base_ports[place],
    )
    processes = world.processes
    if not processes.alive(name(place)):
        processes.spawn(name(place), weed.argv(one, world.runtime), env=weed.ENVIRONMENT)
    s3 = wait_until_ready(one.endpoint, alive=lambda: processes.alive(name(place)))
    for bucket in layout.BUCKETS[place]:
        make_bucket(s3, bucket)
    make_bucket(s3, layout.EVIDENCE, locked=True)
    return Part(name=name(place), pid=processes.pid(name(place)) or 0, address=one.address, ports={"s3": one.s3_port})


def test(world: World, place: str) -> None:
    """Use it through its door: put, refuse a second create-only put, get, delete. Raises Unwell."""
    from botocore.exceptions import ClientError

    s3, bucket, key = client(world.s3(place)), layout.BUCKETS[place][0], "self-test"
    s3.delete_object(Bucket=bucket, Key=key)
    s3.put_object(Bucket=bucket, Key=key, Body=b"42", IfNoneMatch="*")
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=b"43", IfNoneMatch="*")
    except ClientError as refusal:
        status = refusal.response["ResponseMetadata"]["HTTPStatusCode"]
        if status != 412:
            raise Unwell(f"a second create-only put at {place} gave {status}, not 412") from refusal
    else:
        raise Unwell(f"a second create-only put at {place} was accepted")
    if s3.get_object(Bucket=bucket, Key=key)["Body"].read() != b"42":
        raise Unwell(f"the object at {place} came back changed")
    s3.delete_object(Bucket=bucket, Key=key)


def stop(world: World, place: str) -> None:
    """End it and remove the sockets that it leaves outside its folder.

    On SIGTERM it closes its HTTP servers at once and then waits 15 s for its own gRPC streams, whoever asks; everything
    acknowledged is in the kernel by then, so it gets half a second and is killed.
    """
    world.processes.end(name(place), patience_seconds=0.5)
    for path in weed.Weed(
        folder=world.folder(place, "s3"), address="", base_port=world.s3_base_ports.get(place, 0)
    ).sockets:
        path.unlink(missing_ok=True)


def _server(world: World, place: str) -> weed.Weed:
    return weed.prepare(
        world.folder(place, "s3"),
        address=layout.hidden(world.block, place),
        base_port=world.s3_base_ports.get(place),
        open_buckets=tuple(bucket for bucket in layout.BUCKETS[place] if bucket == layout.DOORS),
    )
