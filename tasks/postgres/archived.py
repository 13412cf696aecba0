"""Where archived WAL lies in a bucket, and what lies there beyond a server: names only, nothing is read.

Separate from archiving, from fetching and from replaying, which do the work: a look before a failover asks this in two
requests, and need not load any of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from recovery.errors import Failed
from recovery.wal import Partial, Segment, WalName, name_of
from tasks.store import Store

MOST_FILES = 4096
"""64 GiB of WAL: who is further behind is not promoted but restored."""


def key_of(system: str, name: WalName, file: str) -> str:
    """Where a WAL file lives in the bucket: by system and timeline (a history file under its new timeline)."""
    return f"wal/{system}/{name.timeline:08X}/{file}.zst"


def files(store: Store, system_id: str, timeline: int, lsn: int, segment_bytes: int) -> Iterator[str]:
    """The archived files of the timeline from the segment at `lsn` on, until the first that is not there; that one's
    `.partial`, if it is there, ends the row. Two requests when the archive has nothing more."""
    number = lsn // segment_bytes
    for _ in range(MOST_FILES):
        name = name_of(timeline, number, segment_bytes)
        if store.head(key_of(system_id, Segment(timeline=timeline, number=number), name)) is None:
            partial = f"{name}.partial"
            if store.head(key_of(system_id, Partial(timeline=timeline, number=number), partial)) is not None:
                yield partial
            return
        yield name
        number += 1
    raise Failed(
        f"the archive is more than {MOST_FILES} files beyond the standby",
        hint="it is too far behind to be promoted: restore the newest backup instead ('dr restore')",
    )
