"""WAL archiving against what raw parallel PUTs of the same bytes reach, and what a client call costs.

`python -m tests.bench.bench_wal [SEGMENTS [ROUNDS]]`. Prints one JSON document: medians, ratio, CPU seconds. The two
are interleaved. Not a test: nothing here passes or fails.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg

import tasks
from deployments.lab.scratch_cluster import Cluster, cluster, s3_server
from tasks.postgres.agent_memory import Alerts, Memory
from tasks.postgres.archive_socket import listen
from tasks.postgres.archiver import Archiver
from tasks.s3_store import S3Store, open_store

CLIENT = Path(tasks.__file__).parent / "postgres" / "archive_client.py"


def segments(pg: Cluster, count: int) -> list[Path]:
    """Real segments, full of inserts and updates, still in pg_wal because nothing archives them."""
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        connection.execute("create table t (id bigint generated always as identity primary key, a int, b text)")
        while len(ready := sorted((pg.data_dir / "pg_wal" / "archive_status").glob("*.ready"))) < count:
            connection.execute("insert into t (a, b) select i, md5(i::text) from generate_series(1, 30000) i")
            connection.execute("update t set a = a + 1 where id % 50 = 0")
    return [pg.data_dir / "pg_wal" / each.stem for each in ready[:count]]


def raw_puts(store: S3Store, bodies: list[bytes], run: int) -> None:
    """The limit: the same stored bytes, four at a time, nothing else."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: store.put(f"raw/{run}/{item[0]}", item[1]), enumerate(bodies)))


def through_clients(paths: list[Path], socket: Path) -> None:
    """As Postgres does it: one client process after the other."""
    for path in paths:
        subprocess.run([sys.executable, "-I", "-S", str(CLIENT), str(socket), str(path)], check=True)


def timed(act: Callable[[], None]) -> tuple[float, float]:
    """Wall and this process's CPU seconds (clients included), without the S3 server's."""
    before, cpu = time.perf_counter(), _cpu()
    act()
    return time.perf_counter() - before, _cpu() - cpu


def _cpu() -> float:
    import resource  # noqa: PLC0415

    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def bench(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Interleaved rounds of both."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(s3_server(folder / "s3"))
        store = open_store(endpoint, "bench", region="us-east-1")
        store._client.create_bucket(Bucket="bench")
        pg = stack.enter_context(
            cluster(folder / "pg", settings={"archive_mode": "on", "archive_command": "false", "max_wal_size": "4GB"})
        )
        paths = segments(pg, count)
        short = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "s"
        bodies: list[bytes] = []
        archived, raw, cpus = [], [], []
        for run in range(rounds):
            bodies.clear()
            one = open_store(endpoint, "bench", f"run{run}", region="us-east-1")
            archiver = Archiver(
                store=one,
                data_dir=pg.data_dir,
                memory=Memory(folder / f"state{run}"),
                alerts=Alerts(folder / f"state{run}"),
                offer=lambda key, body, metadata: bodies.append(body),
            )
            server = listen(short, archiver.archive)
            Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
            wall, cpu = timed(lambda: through_clients(paths, short))
            archived.append(wall)
            cpus.append(cpu)
            server.shutdown()
            server.server_close()
            archiver.close()
            raw.append(timed(lambda run=run: raw_puts(store, bodies[:count], run))[0])  # type: ignore[misc]
        cost = [timed(lambda: _refused_call(short))[0] for _ in range(20)]
        return {
            "segments": count,
            "rounds": rounds,
            "stored_mib": round(sum(map(len, bodies[:count])) / 2**20, 1),
            "archived_seconds": round(statistics.median(archived), 3),
            "segments_per_second": round(count / statistics.median(archived), 1),
            "raw_puts_seconds": round(statistics.median(raw), 3),
            "ratio": round(statistics.median(a / b for a, b in zip(archived, raw, strict=True)), 2),
            "cpu_seconds_per_segment": round(statistics.median(cpus) / count, 3),
            "client_call_ms": round(1000 * statistics.median(cost), 1),
            "archive_command": shlex.join([sys.executable, "-I", "-S", "archive_client.py", "SOCKET", "%p"]),
        }


def _refused_call(socket: Path) -> None:
    subprocess.run(
        [sys.executable, "-I", "-S", str(CLIENT), f"{socket}.none", "x"], check=False, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="standfast-bench-") as place:
        numbers = [int(each) for each in sys.argv[1:]]
        print(json.dumps(bench(Path(place), *(numbers + [16, 3][len(numbers) :])), indent=1))
