"""What `make bench` says of its samples: ratios round by round, and whose processor time stands in the way."""

from __future__ import annotations

from tests.bench.measure import Contender, Sample
from tests.bench.told import against, between, limits, ratio


def contender(name: str, who: str, walls: list[float], *, limit: str = "cp -r", cpu: float = 1.0) -> Contender:
    samples = [
        Sample(wall=wall, own_cpu=cpu, s3_cpu=1.0, pg_cpu=0.0, foreign_cpu=wall, peak_bytes=1, stored_bytes=0)
        for wall in walls
    ]
    return Contender(name=name, who=who, limit=limit, act=lambda: 0, samples=samples)


def test_a_ratio_is_of_the_same_round_so_that_a_busy_minute_cancels_out() -> None:
    ours = contender("restore of a full", "Standfast", [2.0, 20.0, 2.0])
    copy = contender("cp -r", "limit", [1.0, 10.0, 4.0])
    assert ratio(ours, copy) == 2.0


def test_only_what_does_the_same_is_compared() -> None:
    ours = contender("restore of a full", "Standfast", [2.0])
    synced = contender("restore of a full, then sync", "Standfast", [3.0])
    peer = contender("restore of a full", "pgBackRest", [5.0])
    other = contender("full backup (zstd 1)", "pgBackRest", [9.0])
    assert against([ours, synced, peer, other]) == [
        "restore of a full: 2.50 times as fast as pgBackRest (restore of a full)"
    ]


def test_what_stands_between_is_told_by_processor_time() -> None:
    ours = contender("restore of a full", "Standfast", [2.0], cpu=3.0)
    copy = contender("cp -r", "limit", [1.0], cpu=1.0)
    (line,) = between([ours, copy], cores=2)
    assert "processor time forces 2.00 s on 2 cores (4.00 CPU-s: 75% ours, 25% the S3 server's)" in line
    assert "others took 1.00 cores meanwhile" in line
    assert "ours has 2.00 times its work" in line


def test_wal_is_told_against_both_limits_and_a_restore_against_its_own_alone() -> None:
    packed = contender("raw PUTs of the packed segments", "limit", [1.0])
    unpacked = contender("raw PUTs of the unpacked segments", "limit", [4.0])
    ours = contender("archive 24 segments of WAL", "Standfast", [2.0])
    assert limits([packed, unpacked, ours, contender("restore of a full", "Standfast", [2.0])]) == [
        "archive 24 segments of WAL: 2.00 times as long as the limit 'raw PUTs of the packed segments'",
        "archive 24 segments of WAL: 0.50 times as long as the limit 'raw PUTs of the unpacked segments'",
    ]
