"""The mover's memory is bounded whatever the size of the database: under 300 MB, there and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.lab.scratch_cluster import cluster, s3_server
from tasks import aws
from tests.hands.restored_scene import run

LIMIT_BYTES = 300e6
ROWS = 2_600_000
CHILD = """
import json, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from recovery.catalog import Member, S3Endpoint
from tasks.host import LocalHost
from tasks.postgres import basebackup, unpack
from tasks.s3_store import open_store
asked = json.loads(sys.argv[1])
store = open_store(S3Endpoint.model_validate(asked["endpoint"]), "backups", region="us-east-1")
where = asked["into"]
if asked["what"] == "take":
    made = basebackup.take(Member(**asked["member"]), store, host=LocalHost(), resource="db", kind="full",
        clock=lambda: datetime.now(UTC))
    Path(where).write_text(made.model_dump_json())
    moved = made.size_bytes
else:
    from recovery.point import Backup
    moved = unpack.restore(store, Backup.model_validate_json(Path(asked["marker"]).read_text()), Path(where)).size_bytes
print(json.dumps({"moved": moved, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def moved(**asked: object) -> tuple[int, int]:
    """Bytes that a process of its own moved, and its peak of resident memory."""
    argv = [sys.executable, "-c", CHILD, json.dumps(asked)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout)
    return told["moved"], told["peak"]


@pytest.mark.slow
def test_a_backup_and_its_restore_hold_little_of_a_large_database_in_memory(tmp_path: Path) -> None:
    with s3_server(tmp_path / "s3") as endpoint, cluster(tmp_path / "source") as source:
        aws.client("s3", endpoint, region="us-east-1").create_bucket(Bucket="backups")
        run(
            source.dsn,
            "create table bulk as select i, md5(i::text) a, md5((i * 7)::text) b, sha512(i::text::bytea) c"
            f" from generate_series(1, {ROWS}) i",
        )
        member = {"dsn": source.dsn, "data_dir": str(source.data_dir), "bin_dir": str(source.bin_dir)}
        marker = str(tmp_path / "marker.json")
        said = {"endpoint": endpoint.model_dump(mode="json"), "marker": marker}
        taken = moved(what="take", member=member, into=marker, **said)
        restored = moved(what="restore", into=str(tmp_path / "restored"), **said)
    for size, peak in (taken, restored):
        assert size > 1.5 * LIMIT_BYTES
        assert peak < LIMIT_BYTES
