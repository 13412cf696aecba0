"""Whether the WAL of old data ends where reading it ended, or was written on behind a place that can't be read.

Separate from listing because pg_waldump takes a broken record for the end of WAL, as a recovery does: a list that ends
there looks whole, and is not. What was written behind it tells of itself: Postgres puts the position into every page.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recovery.errors import Unproven
from recovery.point import lsn_number, lsn_text, segment_name
from tasks.host import LocalHost
from tasks.postgres import waldump

PAGE_BYTES = 8192
_HEADER = struct.Struct("=HHIQ")
_FIRST = re.compile(r"lsn: ([0-9A-F]+/[0-9A-F]+), prev")
_HINT = (
    "put whole copies of the files there back from the archive ('dr points' knows them), into pg_wal of the old data, "
    "or keep that data and read it by hand"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """What follows `end_lsn`, where the last record that could be read ends."""

    bin_dir: Path
    wal_dir: Path
    timeline: int
    segment_bytes: int
    end_lsn: int

    def refuse_cut_off(self, checkpoint_lsn: int) -> None:
        """Raise Unproven where more was on the disk for certain: the server's last checkpoint lies behind, or a later
        file has a record; a file is begun only once those before it are durable."""
        if checkpoint_lsn >= self.end_lsn:
            raise Unproven(
                f"the WAL can be read up to {lsn_text(self.end_lsn)}, the server's last checkpoint is at "
                f"{lsn_text(checkpoint_lsn)}: what it committed between is not known",
                hint=_HINT,
            )
        for number, path in self._later():
            if (found := self._record(path, number * self.segment_bytes)) is not None:
                raise Unproven(
                    f"the WAL can be read up to {lsn_text(self.end_lsn)} only, and {path.name} behind it holds records "
                    f"(at {lsn_text(found)}): what was committed there is not known",
                    hint=_HINT,
                )

    def torn(self) -> str:
        """Records behind the end in its own file, in words: a broken page, or a power cut that let later pages reach
        the disk before earlier ones, which nobody was told were committed. Empty: there are none."""
        number = self.end_lsn // self.segment_bytes
        path = self.wal_dir / segment_name(self.timeline, self.end_lsn, self.segment_bytes)
        for begin in self._pages(path, number):
            if begin > self.end_lsn and (found := self._record(path, begin)) is not None:
                return (
                    f"a place at {lsn_text(self.end_lsn)} can't be read; records behind it, from {lsn_text(found)} on, "
                    "are not listed: damage, or a power cut"
                )
        return ""

    def _later(self) -> Iterator[tuple[int, Path]]:
        """Files of this timeline behind the end that were written at their place: others are kept for later."""
        number = -(-self.end_lsn // self.segment_bytes)
        names = {path.name: path for path in self.wal_dir.iterdir()}
        last = max((name for name in names if re.fullmatch(rf"{self.timeline:08X}[0-9A-F]{{16}}", name)), default="")
        while (name := segment_name(self.timeline, number * self.segment_bytes, self.segment_bytes)) <= last:
            if name in names and next(self._pages(names[name], number, most=1), None) is not None:
                yield number, names[name]
            number += 1

    def _pages(self, path: Path, number: int, most: int | None = None) -> Iterator[int]:
        """Where those pages begin that bear their own position."""
        if not path.exists():
            return
        with path.open("rb") as source:
            for at in range(0, self.segment_bytes if most is None else most * PAGE_BYTES, PAGE_BYTES):
                source.seek(at)
                head = source.read(_HEADER.size)
                begin = number * self.segment_bytes + at
                if len(head) == _HEADER.size and _HEADER.unpack(head)[3] == begin:
                    yield begin

    def _record(self, path: Path, begin: int) -> int | None:
        """The first record that begins behind a page's begin."""
        argv = [str(self.bin_dir / "pg_waldump"), "-n", "1", "-p", str(path.parent), "-t", str(self.timeline)]
        argv += ["-s", lsn_text(begin), "-e", lsn_text((begin // self.segment_bytes + 1) * self.segment_bytes)]
        ran = LocalHost().run(argv, env=waldump.ENV, patience_seconds=waldump.PATIENCE_SECONDS)
        found = _FIRST.search(ran.out)
        return None if found is None else lsn_number(found[1])
