"""What this site's old data holds beyond the promotion of another one: copied, started isolated, listed, exported.

Runs in the agent at the old primary's home, before any rewind. The data itself is only read: its WAL tells every
transaction, and a copy of it, started with no network and no archive, tells the rows.
"""

# ruff: noqa: E501 -- SQL reads best unbroken

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from recovery.errors import BadInput, Failed, Refused, Unproven
from recovery.losses import WAL, Losses, Seen, listed
from recovery.point import lsn_text, segment_name
from recovery.value import canonical
from recovery.wal import Switch, parse_history
from tasks.host import LocalHost
from tasks.postgres import control, scratch, seal, wal, wal_file, waldump
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.orders import Facts, Work
from tasks.postgres.roles.lost_rows import read_rows
from tasks.postgres.roles.lost_tail import Tail
from tasks.postgres.scratch import Scratch
from tasks.postgres.stopping import servers_in
from tasks.store import AlreadyThere, Store

BACK_SEGMENTS = 8
"""So many files before the promotion are read for the changes of transactions that committed behind it."""
FOLLOWED = ("in archive recovery", "shut down in recovery")
"""The states of a control file of a server that only followed, or was rewound and didn't start yet."""
COPY_SECONDS = 2 * 3600.0
WALDUMP_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Losing:
    """The handler of the order `losses`. Arguments: `run` (who lists), `system_id`, `timeline` (the new primary's), and
    `switches`: [[timeline, lsn], …], where each timeline of its history was left."""

    config: AgentConfig

    def __call__(self, work: Work) -> Facts:
        """See orders.Handler."""
        data = self.config.data_dir
        found = control.read(data)
        _refuse(self.config, found, work)
        left_at = _left_at(work, found.timeline)
        copy = self._copy_of(work)
        scratch.discard(copy)
        self._copy(copy, work)
        try:
            seen, last, torn = self._read_wal(copy, found, left_at, work)
            names, rows, unread = read_rows(copy, seen, work.say)
        finally:
            scratch.discard(copy)
        made = Losses(
            resource=self.config.resource,
            site=self.config.site,
            system_id=found.system_id,
            timeline=found.timeline,
            from_lsn=left_at,
            to_lsn=max(last, left_at),
            transactions=listed(seen, names, rows),
            unread={**unread, **({WAL: torn} if torn else {})},
        )
        return self._export(made, work)

    def _copy_of(self, work: Work) -> Scratch:
        user = psycopg.conninfo.conninfo_to_dict(self.config.dsn).get("user") or "postgres"
        folder = self.config.state_dir / "copies" / f"{self.config.resource}-{work.order.generation}"
        return Scratch(folder=folder, bin_dir=self.config.bin_dir, user=str(user))

    def _copy(self, copy: Scratch, work: Work) -> None:
        """A full copy on the same disk or another: shared blocks where the file system can, never links."""
        data = self.config.data_dir
        if any((data / "pg_tblspc").iterdir()):
            raise Refused(
                "the old data has tablespaces outside its folder, which are not copied",
                hint="list the losses by hand as the printed runbook says, on a copy of all its disks",
            )
        copy.folder.mkdir(parents=True)
        trees = (data, *(each for each in data.iterdir() if each.is_symlink()))
        size = sum(each.stat().st_size for tree in trees for each in tree.resolve().rglob("*") if each.is_file())
        free = LocalHost().free_bytes(copy.folder)
        if free < size * 1.1:
            raise Failed(
                f"a copy of the old data needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                hint=f"make room below {copy.folder.parent}, or set state_dir to a larger disk; nothing was touched",
            )
        work.say(f"copying {size / 1e9:.1f} GB of old data", None)
        cp = ["cp", "-a", "--reflink=auto"]
        _run([*cp, str(data), str(copy.data)])
        for linked in (each for each in copy.data.iterdir() if each.is_symlink()):
            linked.unlink()  # pg_wal on a disk of its own: the copy's server would write into it
            _run([*cp, "-H", str(data / linked.name), str(linked)])

    def _read_wal(self, copy: Scratch, found: control.Control, left_at: int, work: Work) -> tuple[Seen, int, str]:
        """Every transaction beyond the promotion, where the last record begins, and what can't be read behind it."""
        work.say("reading the WAL beyond the promotion", None)
        wal_dir, seen, last = copy.data / "pg_wal", Seen(left_at), 0
        size = wal_file.segment_bytes(wal_dir)
        self._bring(wal_dir, found, left_at, size)
        stretch = waldump.stretch(wal_dir, found.timeline, left_at)
        if stretch is None:
            if found.checkpoint_lsn < left_at:
                self._tail(wal_dir, found, left_at, size).refuse_cut_off(found.checkpoint_lsn)
                return seen, last, ""  # the old data ends before the promotion: nothing of it was given up
            raise Unproven(
                f"the WAL at {lsn_text(left_at)} is neither in the old data nor in the archive of {self.config.site}",
                hint="what was lost cannot be listed from there; keep the old data, and copy the WAL from another place",
            )
        begin = max(stretch[0], (left_at // size - BACK_SEGMENTS) * size)
        span = waldump.Span(
            bin_dir=self.config.bin_dir, wal_dir=wal_dir, timeline=found.timeline, begin_lsn=begin, end_lsn=stretch[1]
        )
        end = left_at
        for line in waldump.lines(span, patience_seconds=WALDUMP_SECONDS):
            record = waldump.commit_of(line) or waldump.change_of(line) or waldump.running_of(line)
            if record is not None:
                seen.take(record)
            if (extent := waldump.extent_of(line)) is not None:
                last, end = max(last, extent[0]), max(end, control.record_end(*extent, size))
        tail = self._tail(wal_dir, found, end, size)
        tail.refuse_cut_off(found.checkpoint_lsn)
        return seen, last, tail.torn()

    def _tail(self, wal_dir: Path, found: control.Control, end: int, size: int) -> Tail:
        return Tail(
            bin_dir=self.config.bin_dir, wal_dir=wal_dir, timeline=found.timeline, segment_bytes=size, end_lsn=end
        )

    def _bring(self, wal_dir: Path, found: control.Control, left_at: int, size: int) -> None:
        """Files between the promotion and what pg_wal still has, from this site's archive, into the copy."""
        missing: list[str] = []
        for number in range(left_at // size, left_at // size + 4096):
            name = segment_name(found.timeline, number * size, size)
            if (wal_dir / name).exists() or number * size > found.checkpoint_lsn:
                break
            missing.append(name)
        if missing:
            keys = seal.keyring([self.config.key]) if self.config.key else {}
            wal.fetch(self._store(), found.system_id, missing, wal_dir, keys=keys, segment_bytes=size)

    def _export(self, made: Losses, work: Work) -> Facts:
        """Into this site's bucket, under a name that its content gives; nothing is ever overwritten."""
        body = canonical(made)
        digest = hashlib.sha256(body).hexdigest()
        key = f"losses/{work.text('run') or work.order.run}/{made.resource}-{digest[:16]}.json"
        kept = self.config.state_dir / "losses" / f"{made.resource}-{digest}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(body)
        with suppress(AlreadyThere):  # the same content gives the same key: it was exported before
            self._store().put(key, body, {"sha256": digest})
        return {
            "key": key,
            "sha256": digest,
            "lost_commits": made.count,
            "classes": dict(made.by_class()),
            "rows": sum(len(each.rows) for each in made.transactions),
            "unread": dict(made.unread),
            "timeline": made.timeline,
            "from_lsn": made.from_lsn,
            "to_lsn": made.to_lsn,
        }

    def _store(self) -> Store:
        return self.config.local.open(self.config.store_patience_seconds)


def exported(config: AgentConfig, sha256: str) -> Losses | None:
    """That export, if this agent made it: what a rewind or a rebuild asks before it destroys anything."""
    try:
        return Losses.model_validate_json(
            (config.state_dir / "losses" / f"{config.resource}-{sha256}.json").read_bytes()
        )
    except (OSError, ValueError):
        return None


def own_branch(data: Path, work: Work) -> str:
    """Why a stopped server's data is of a timeline that the new primary's history doesn't know, though its number is no
    smaller: it was opened by itself. Empty: it was not. A fresh base backup says what its primary's control file did."""
    found, newest = control.read(data), int(work.number("timeline", 0))
    if found.timeline < newest:
        return ""
    if found.timeline > newest:
        return f"it is on timeline {found.timeline}, the primary on {newest}"
    wrote = found.state not in FOLLOWED and not (data / "backup_label").exists()
    file = data / "pg_wal" / f"{found.timeline:08X}.history"
    own = parse_history(file.read_text()) if file.exists() else ()
    theirs = [(each.timeline, each.lsn) for each in switches_of(work)]
    if [(each.timeline, each.lsn) for each in own] == theirs or (not own and not wrote):
        return f"it took writes on the primary's timeline {newest} by itself" if wrote else ""
    return f"it is on a timeline {newest} of its own, which is not the primary's"


def switches_of(work: Work) -> tuple[Switch, ...]:
    """Where each timeline of the new primary's history was left. Raises BadInput."""
    told = work.order.arguments.get("switches")
    try:
        return tuple(Switch(timeline=int(each[0]), lsn=int(each[1])) for each in told)  # type: ignore[union-attr, index, arg-type]
    except (TypeError, ValueError, IndexError):
        raise BadInput("the order tells no history", hint="this is a defect of the engine: report it") from None


def _run(argv: list[str]) -> None:
    ran = LocalHost().run(argv, patience_seconds=COPY_SECONDS)
    if ran.code:
        raise Failed(f"the old data can't be copied: {ran.err.strip()[:200]}", hint="see the disk; nothing was touched")


def _left_at(work: Work, timeline: int) -> int:
    found = next((each.lsn for each in switches_of(work) if each.timeline == timeline), None)
    if found is None:
        raise Refused(
            f"the new primary's history doesn't tell where timeline {timeline} was left",
            hint="the old data is of another branch: look at both histories before anything is destroyed",
        )
    return found


def _refuse(config: AgentConfig, found: control.Control, work: Work) -> None:
    if found.system_id != work.text("system_id"):
        raise Refused(
            f"the data here is of system {found.system_id}, the new primary of {work.text('system_id')}",
            hint="they are not copies of each other: this is no standby of that primary",
        )
    if servers_in(config.data_dir):
        raise Refused(
            "Postgres runs on the old data", hint="fence it first: its data must not change while it is copied"
        )
    if why := own_branch(config.data_dir, work):
        raise Refused(
            f"the data here is another branch: {why}",
            hint="somebody opened it by hand: what it wrote there is in no list; look at a copy of it by hand",
        )
    if found.timeline >= int(work.number("timeline", 0)):
        raise Refused(
            f"the data here is on timeline {found.timeline} already, so it holds nothing of its own any more",
            hint="see 'dr losses RUN' for what was exported before it was rewound or rebuilt",
        )
