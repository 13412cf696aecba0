"""pg_waldump: run it, and read what it prints. The one place that knows its words.

Separate because the archive's end, a boundary check, a promotion and the list of losses all ask it. Its output differs
a little between versions 14 and 18; only what is common is relied upon.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recovery.errors import BadInput, Failed, Unproven
from recovery.losses import Change, Commit, Op, Running
from recovery.point import lsn_number, lsn_text, segment_name
from tasks.host import Host, LocalHost, Ran, end

ENV = {"LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC"}
PATIENCE_SECONDS = 120.0

_RECORD = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+), prev")
_COMMIT = re.compile(
    r"tx:\s*(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), prev \S+, desc: COMMIT(?:_PREPARED (?P<prepared>\d+):)? ?"
    r"(?P<second>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.?(?P<fraction>\d*) UTC(?P<rest>.*)"
)
_SUBXIDS = re.compile(r"; subxacts: ([\d ]+)")
_CHANGE = re.compile(
    r"rmgr: Heap2?\s.*tx:\s*(?P<xid>\d+), lsn: \S+, prev \S+, "
    r"desc: (?P<op>INSERT|MULTI_INSERT|HOT_UPDATE|UPDATE|DELETE)(?:\+INIT)? (?P<desc>.*?)"
    r"blkref #0: rel \d+/(?P<db>\d+)/(?P<file>\d+) (?:fork main )?blk (?P<block>\d+)"
)
_RUNNING = re.compile(r"desc: RUNNING_XACTS nextXid \d+ .*?(?:; \d+ xacts:(?P<xids>[ \d]+))?(?:;|$)")
_ENDS_AT = re.compile(r"len \(rec/tot\):\s*\d+/\s*(\d+), tx:.*?lsn: ([0-9A-F]+/[0-9A-F]+), prev")
_MANY = re.compile(r"ntuples: (\d+)|(\d+) tuples")
_OPS: dict[str, Op] = {
    "INSERT": "insert", "MULTI_INSERT": "insert", "UPDATE": "update", "HOT_UPDATE": "update", "DELETE": "delete",
}  # fmt: skip
_SEGMENT = re.compile(r"^[0-9A-F]{24}$")
_ENDS = ("error in WAL record", "could not find file", "could not find a valid record")
"""How it says that WAL ends: no trouble where the end is what is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What is to be read: raw WAL files of one timeline in a folder, from one LSN to another (exclusive)."""

    bin_dir: Path
    wal_dir: Path
    timeline: int
    begin_lsn: int
    end_lsn: int


def file(bin_dir: Path, path: Path, *words: str, host: Host | None = None, patience_seconds: float) -> Ran:
    """Run it over one file to its end. Raises Failed past the patience."""
    argv = [str(bin_dir / "pg_waldump"), *words, str(path)]
    return (host or LocalHost()).run(argv, env=ENV, patience_seconds=patience_seconds)


def reads_nothing(ran: Ran) -> bool:
    """Whether it failed for another reason than that no record begins there."""
    return not ran.out and ran.code != 0 and "could not find a valid record" not in ran.err


def begins(text: str) -> list[int]:
    """Where each record begins."""
    return [lsn_number(each) for each in _RECORD.findall(text)]


def commit_of(line: str) -> Commit | None:
    """The commit of a line, if it is one. A prepared transaction's number is its own, not its committer's."""
    found = _COMMIT.search(line)
    if found is None:
        return None
    moment = datetime.fromisoformat(f"{found['second']}.{found['fraction'].ljust(6, '0')}").replace(tzinfo=UTC)
    subxids = _SUBXIDS.search(found["rest"])
    return Commit(
        xid=int(found["prepared"] or found["xid"]),
        lsn=lsn_number(found["lsn"]),
        at=moment,
        subxids=tuple(map(int, subxids[1].split())) if subxids else (),
    )


def change_of(line: str) -> Change | None:
    """The change of rows of a line, if it is one that a transaction made."""
    found = _CHANGE.search(line)
    if found is None or found["xid"] == "0":
        return None
    many = _MANY.search(found["desc"]) if found["op"] == "MULTI_INSERT" else None
    return Change(
        xid=int(found["xid"]),
        file=f"{found['db']}/{found['file']}",
        op=_OPS[found["op"]],
        block=int(found["block"]),
        rows=int(many[1] or many[2]) if many else 1,
    )


def running_of(line: str) -> Running | None:
    """Which transactions ran at a line's record, if it is one that says so."""
    found = _RUNNING.search(line.rstrip())
    return None if found is None else Running(xids=tuple(map(int, (found["xids"] or "").split())))


def extent_of(line: str) -> tuple[int, int] | None:
    """Where a line's record begins, and its length without the headers of pages."""
    found = _ENDS_AT.search(line)
    return None if found is None else (lsn_number(found[2]), int(found[1]))


@contextmanager
def as_one(wal_dir: Path, timeline: int) -> Iterator[Path]:
    """A folder in which every segment bears the name of one timeline, as pg_waldump reads them: of each that the folder
    has on several, the newest up to `timeline`, which is the one that Postgres replays."""
    newest: dict[str, Path] = {}
    for path in sorted(each for each in wal_dir.iterdir() if _SEGMENT.match(each.name)):
        if int(path.name[:8], 16) <= timeline:
            newest[path.name[8:]] = path
    if all(path.name[:8] == f"{timeline:08X}" for path in newest.values()):
        yield wal_dir
        return
    with tempfile.TemporaryDirectory(prefix="standfast-") as folder:
        for rest, path in newest.items():
            (Path(folder) / f"{timeline:08X}{rest}").symlink_to(path.resolve())
        yield Path(folder)


def commits(text: str) -> Iterator[Commit]:
    """The commits of an output, in its order."""
    return (found for line in text.splitlines() if (found := commit_of(line)) is not None)


def lines(span: Span, *words: str, patience_seconds: float) -> Iterator[str]:
    """Every line of a span, as it comes: memory does not grow with the WAL. Raises Unproven when it cannot be read at
    all, Failed past the patience. An end before `end_lsn` is no trouble: the last file is seldom full."""
    import threading

    argv = [str(span.bin_dir / "pg_waldump"), *words, "-p", str(span.wal_dir), "-t", str(span.timeline)]
    argv += ["-s", lsn_text(span.begin_lsn), "-e", lsn_text(span.end_lsn)]
    try:
        process = LocalHost().open(argv, env=ENV)
    except OSError as error:
        raise BadInput(f"{argv[0]} can't be run: {error.strerror}", hint="correct bin_dir in the catalog") from None
    over = threading.Event()

    def cut() -> None:
        over.set()
        end(process, grace_seconds=0.5)

    timer = threading.Timer(patience_seconds, cut)
    timer.daemon = True
    timer.start()
    said: list[bytes] = []
    drain = threading.Thread(target=lambda: said.append(process.stderr.read() if process.stderr else b""), daemon=True)
    drain.start()
    try:
        for line in process.stdout or ():
            yield line.decode("utf-8", "replace")
        code = process.wait()
        drain.join(5)
        _judge(code, b"".join(said).decode("utf-8", "replace"), timed_out=over.is_set())
    finally:
        timer.cancel()
        end(process, grace_seconds=0.5)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _judge(code: int, said: str, *, timed_out: bool) -> None:
    if timed_out:
        raise Failed("pg_waldump did not end within its patience", hint="give the step more patience in the runbook")
    if code and not any(each in said for each in _ENDS):
        last = said.strip().splitlines()
        raise Unproven(
            f"the WAL cannot be read: {last[-1] if last else 'pg_waldump failed'}", hint="is its first segment there?"
        )


def stretch(wal_dir: Path, timeline: int, lsn: int) -> tuple[int, int] | None:
    """Begin and end of the files without a gap around `lsn`; None when its own file is not there. Beyond the last one
    pg_waldump would wait seconds for a file to appear."""
    first = next((path for path in sorted(wal_dir.iterdir()) if _SEGMENT.match(path.name)), None)
    if first is None:
        return None
    size = first.stat().st_size

    def there(number: int) -> bool:
        return (wal_dir / segment_name(timeline, number * size, size)).exists()

    begin = number = lsn // size
    if not there(number):
        return None
    while there(number):
        number += 1
    while begin and there(begin - 1):
        begin -= 1
    return begin * size, number * size


def newest(stamps: Sequence[Commit]) -> datetime | None:
    """The latest moment of these commits."""
    return max((each.at for each in stamps), default=None)
