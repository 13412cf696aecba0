"""Our own contenders and the machine's limits, each as a function that a child process runs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Literal

import boto3
import psycopg

import tasks
from recovery import choose
from recovery.point import Backup
from tasks.host import LocalHost
from tasks.postgres import basebackup, looking, scratch, scratch_conf, unpack, unpack_chain, wal
from tasks.postgres.agent_memory import Alerts, Memory
from tasks.postgres.archive_socket import listen
from tasks.postgres.archiver import Archiver
from tests.bench.measure import Contender
from tests.bench.scene import BUCKET, REGION, Scene, stand_in

CLIENT = Path(tasks.__file__).parent / "postgres" / "archive_client.py"
PREFIX = "ours"
ME = "Standfast"
LIMIT = "limit"
MOMENT = "select count(*) from moment where said = 'before'"


@dataclass(kw_only=True)
class Ours:
    """The backups that restores start from, and folders of what they hold."""

    scene: Scene
    full: Backup
    incremental: Backup
    reference: Path
    chain: Path
    moment: datetime | None = None
    rounds: int = 0


def prepare(scene: Scene, change: Callable[[], None]) -> Ours:
    """A full backup, changes, an incremental, and both restored once as what `cp -r` copies."""
    full = take(scene, PREFIX, "full")
    change()
    incremental = take(scene, PREFIX, "incremental", full)
    reference, chain = scene.folder / "reference", scene.folder / "chain-reference"
    unpack.restore(scene.s3.store(PREFIX), full, reference)
    unpack_chain.restore_chain(scene.s3.store(PREFIX), full, incremental, chain)
    return Ours(scene=scene, full=full, incremental=incremental, reference=reference, chain=chain)


def take(scene: Scene, prefix: str, kind: Literal["full", "incremental"], parent: Backup | None = None) -> Backup:
    """A backup below a prefix."""
    return basebackup.take(
        scene.member,
        scene.s3.store(prefix),
        host=LocalHost(),
        resource="bench",
        kind=kind,
        parent=parent,
        clock=lambda: datetime.now(UTC),
    )


def backups(ours: Ours) -> list[Contender]:
    """Full and incremental backups, and what Postgres's tool and plain copies reach."""
    scene = ours.scene
    data, out = scene.source.data_dir, scene.folder / "out"
    basebackup_ = f"{_q(scene.source.bin_dir)}/pg_basebackup -d {shlex.quote(scene.source.dsn)} -c fast"
    pack = f"zstd -q -1 -T0 -c > {_q(out)}"
    limit = "tar | zstd -1"
    taken = f"{_q(scene.folder)}/native-full"
    return [
        Contender(
            name=limit,
            who=LIMIT,
            limit=limit,
            act=_shell(f"tar -C {_q(data)} --exclude='./pg_wal/*' -c . | {pack}", out),
            before=gone(out),
        ),
        Contender(
            name="pg_basebackup | zstd -1",
            who="Postgres",
            limit=limit,
            act=_shell(f"{basebackup_} -Ft -D - -X fetch | {pack}", out),
            before=gone(out),
        ),
        Contender(
            name="pg_basebackup | zstd -1 | the SDK's upload",
            who="Postgres and boto3",
            limit=limit,
            act=lambda: _uploaded(scene, f"{basebackup_} -Ft -D - -X fetch | zstd -q -1 -T0 -c"),
        ),
        Contender(
            name="full backup", who=ME, limit=limit, act=lambda: take(scene, f"taken/{_stamp()}", "full").stored_bytes
        ),
        Contender(
            name="incremental backup (same changes)",
            who=ME,
            limit=limit,
            act=lambda: take(scene, PREFIX, "incremental", ours.full).stored_bytes,
        ),
        Contender(
            name="pg_basebackup --incremental, to disk",
            who="Postgres",
            limit=limit,
            act=_shell(f"{basebackup_} -X none -D {_q(out)} -i {taken}/backup_manifest", None),
            before=lambda: _native_full(basebackup_, taken, out),
        ),
    ]


def _uploaded(scene: Scene, line: str) -> int:
    """What a line of shell prints, in the bucket as people put it there without us."""
    client = boto3.client(
        "s3",
        endpoint_url=scene.s3.endpoint.endpoint_url,
        region_name=REGION,
        aws_access_key_id=scene.s3.access_key,
        aws_secret_access_key=scene.s3.secret_key,
    )
    key = f"streamed/{_stamp()}"
    with subprocess.Popen(["/bin/sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        client.upload_fileobj(running.stdout, BUCKET, key)
    if running.returncode:
        raise RuntimeError(f"it ended with {running.returncode}: {line}")
    return int(client.head_object(Bucket=BUCKET, Key=key)["ContentLength"])


def _native_full(command: str, taken: str, out: Path) -> None:
    gone(out)()
    line = f"test -d {taken} || {command} -X none -D {taken} > /dev/null"
    subprocess.run(["/bin/sh", "-c", line], check=True, capture_output=True)


def restores(ours: Ours) -> list[Contender]:
    """Restores of a full, and of a full with its incremental; their limits copy the same files."""
    scene, out = ours.scene, ours.scene.folder / "restored"
    store = scene.s3.store
    limit, chain_limit = "cp -r", "cp -r (of the chain)"
    packed = scene.folder / "reference.tar.zst"
    return [
        Contender(
            name=limit,
            who=LIMIT,
            limit=limit,
            act=_shell(f"cp -r {_q(ours.reference)} {_q(out)}", None),
            before=gone(out),
        ),
        Contender(
            name="cp -r, then sync",
            who=LIMIT,
            limit=limit,
            act=_shell(f"cp -r {_q(ours.reference)} {_q(out)}; sync -f {_q(out)}", None),
            before=gone(out),
        ),
        Contender(
            name="restore of a full",
            who=ME,
            limit=limit,
            act=lambda: unpack.restore(store(PREFIX), ours.full, out).fetched_bytes,
            before=gone(out),
        ),
        Contender(
            name="restore of a full, then sync",
            who=ME,
            limit="cp -r, then sync",
            act=lambda: _synced(ours, out),
            before=gone(out),
        ),
        Contender(
            name="zstd -dc | tar x, from disk",
            who="plain",
            limit=limit,
            act=_shell(f"mkdir {_q(out)} && zstd -q -dc {_q(packed)} | tar -C {_q(out)} -x", None),
            before=lambda: _packed(ours.reference, packed, out),
        ),
        Contender(
            name=chain_limit,
            who=LIMIT,
            limit=chain_limit,
            act=_shell(f"cp -r {_q(ours.chain)} {_q(out)}", None),
            before=gone(out),
        ),
        Contender(
            name="restore of a full and an incremental",
            who=ME,
            limit=chain_limit,
            act=lambda: unpack_chain.restore_chain(store(PREFIX), ours.full, ours.incremental, out).fetched_bytes,
            before=gone(out),
        ),
    ]


def _packed(reference: Path, packed: Path, out: Path) -> None:
    gone(out)()
    if not packed.exists():
        subprocess.run(["/bin/sh", "-c", f"tar -C {_q(reference)} -c . | zstd -q -1 -T0 -o {_q(packed)}"], check=True)


def _synced(ours: Ours, out: Path) -> int:
    fetched = unpack.restore(ours.scene.s3.store(PREFIX), ours.full, out).fetched_bytes
    subprocess.run(["sync", "-f", str(out)], check=True)
    return fetched


def archiving(ours: Ours, segments: list[Path]) -> list[Contender]:
    """WAL through the agent's archiver as Postgres asks for it, one client after the other; its limit: bare PUTs."""
    scene = ours.scene
    limit = "raw PUTs of the packed segments, 4 at a time"
    files = stand_in(segments, scene.folder / "stand-in")
    bodies: list[bytes] = []
    _archive(scene, files, "wal-sample", bodies.append)
    raw = [file.read_bytes() for file in files[:8]]
    return [
        Contender(name=limit, who=LIMIT, limit=limit, act=lambda: _puts(scene, bodies)),
        Contender(
            name="raw PUTs of the unpacked segments, 4 at a time",
            who=LIMIT,
            limit=limit,
            act=lambda: _puts(scene, raw),
            scale=len(files) / len(raw),
        ),
        Contender(
            name=f"archive {len(files)} segments of WAL",
            who=ME,
            limit=limit,
            act=lambda: _archive(scene, files, f"wal-{_stamp()}", lambda body: None),
        ),
    ]


def _puts(scene: Scene, bodies: list[bytes]) -> int:
    store = scene.s3.store(f"raw/{_stamp()}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: store.put(f"{item[0]:04}", item[1]), enumerate(bodies)))
    return sum(map(len, bodies))


def _archive(scene: Scene, files: list[Path], prefix: str, keep: Callable[[bytes], None]) -> int:
    sizes: list[int] = []

    def offer(key: str, body: bytes, metadata: object) -> None:
        sizes.append(len(body))
        keep(body)

    with tempfile.TemporaryDirectory(prefix="standfast-") as state:
        archiver = Archiver(
            store=scene.s3.store(prefix),
            data_dir=files[0].parent.parent,
            memory=Memory(Path(state)),
            alerts=Alerts(Path(state)),
            offer=offer,
        )
        socket = Path(state) / "s"
        server = listen(socket, archiver.archive)
        Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        # as Postgres's archiver does it: a small process beside the agent starts one client after the other
        client = shlex.join([sys.executable, "-I", "-S", str(CLIENT), str(socket)])
        each = f'for each in {shlex.join(map(str, files))}; do {client} "$each" || exit 1; done'
        subprocess.run(["/bin/sh", "-c", each], check=True)
        server.shutdown()
        server.server_close()
        archiver.close()
    return sum(sizes)


def recovery(ours: Ours) -> list[Contender]:
    """From nothing to a server that answers at an exact moment."""
    out = ours.scene.folder / "pitr"
    name = f"PITR: a full, {ours.scene.segments} segments of WAL, until it answers"
    return [Contender(name=name, who=ME, limit=name, act=lambda: _pitr(ours, out), before=gone(out))]


def _pitr(ours: Ours, out: Path) -> int:
    """As `dr restore` does it: look, choose, data and WAL side by side, recover to the moment."""
    scene, moment = ours.scene, ours.moment
    assert moment is not None
    store, bin_dir = scene.s3.store("pitr"), Path(scene.member.bin_dir)
    points = looking.look(store, bin_dir=bin_dir, servers=())
    target = choose.at_time(moment, now=datetime.now(UTC), end=points.end)
    point = choose.choose(
        target, backups=points.backups, archive=points.archive, timeline=points.timeline, known=points.known
    )
    made = scratch.Scratch(folder=out, bin_dir=bin_dir, user="postgres")
    made.spool.mkdir(parents=True)
    with ThreadPoolExecutor(1) as beside:
        fetching = beside.submit(wal.fetch, store, point.system_id, list(point.segments), made.spool, threads=2)
        restored = unpack.restore(store, points.backups[-1], made.data)
        fetching.result()
    scratch_conf.configure(made, point.target, point.timeline, durable=False)
    scratch.start(made)
    scratch.await_target(made, patience_seconds=600, say=lambda what, share: None)
    with psycopg.connect(made.dsn(), autocommit=True) as connection:
        said = connection.execute("select said from moment where said <> 'start' order by at").fetchall()
    assert [row[0] for row in said] == ["before"], said
    scratch.stop(made, patience_seconds=20)
    return restored.fetched_bytes


def archive_for_recovery(ours: Ours, files: list[Path]) -> None:
    """The WAL that a recovery needs, in the bucket of our PITR, beside its full backup."""
    stood = stand_in(files, ours.scene.folder / "stand-in-pitr")
    _archive(ours.scene, stood, "pitr", lambda body: None)
    shutil.rmtree(ours.scene.folder / "stand-in-pitr")


def gone(path: Path) -> Callable[[], None]:
    """Remove what the last run left, before the clock runs."""

    def act() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)

    return act


def _shell(line: str, out: Path | None) -> Callable[[], int]:
    def act() -> int:
        ran = subprocess.run(["/bin/sh", "-c", line], check=False, stderr=subprocess.PIPE)
        # tar ends with 1 when a file changed or vanished under it: it reads a living server's folder
        if ran.returncode not in {0, 1}:
            raise RuntimeError(ran.stderr.decode(errors="replace")[-1000:])
        return out.stat().st_size if out else 0

    return act


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _stamp() -> str:
    return f"{datetime.now(UTC):%H%M%S%f}"
