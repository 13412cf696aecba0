"""An old primary comes back as a standby, at its home: it follows, is rewound when it went on by itself, or is rebuilt.

Runs in the agent. Configuration is the server's own: what a rewind or a base backup brings of the other server's is
replaced by it. Nothing that was not exported is destroyed (rule 12), and old data is kept aside until the new streams.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recovery.errors import BadInput, Failed, Refused
from recovery.point import lsn_text
from recovery.rules import RULES
from tasks.host import LocalHost
from tasks.postgres import control
from tasks.postgres.agent_config import AgentConfig
from tasks.postgres.orders import Facts, Work
from tasks.postgres.roles.follow import slot_of
from tasks.postgres.roles.losing import exported, own_branch, switches_of
from tasks.postgres.roles.remaking import (
    Upstream,
    as_standby,
    base_backup,
    keep_configuration,
    own_configuration,
    rewind,
    rewinding,
    swap,
)
from tasks.postgres.stopping import Home

STREAMS_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Follow:
    """The handler of the order `follow`. Arguments: `primary` (its site), `member` (its name), `system_id`, `timeline`,
    `switches` (as for losses), and `losses`: the SHA-256 of the export, without which nothing that differs is
    rewound."""

    home: Home

    def __call__(self, work: Work) -> Facts:
        """See orders.Handler."""
        config = self.home.config
        refuse_strange(config, work)
        marker = rewinding(config)
        if marker.exists():
            raise Refused(
                "a rewind was killed in its midst, so the old data is of no server any more",
                hint="rebuild it: `how: rebuild` (its losses were exported before)",
            )
        upstream = upstream_of(config, work.text("primary"), work.text("member"))
        self.home.halt(work)
        refuse_own_branch(config.data_dir, work)
        why = diverged(config.data_dir, work)
        if why:
            refuse_unlisted(config, work, why)
            refuse_no_primary(upstream)
            rewind(config, upstream, work)
        as_standby(config.data_dir, upstream)
        marker.unlink(missing_ok=True)
        self.home.start(work)
        return {
            "rewound": bool(why),
            "why": why or "its WAL ends where the new timeline begins, or before",
            "how": "follow",
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Rebuild:
    """The handler of the order `rebuild`: a fresh base backup of the new primary beside the old data, then the swap.
    Arguments as for follow."""

    home: Home

    def __call__(self, work: Work) -> Facts:
        """See orders.Handler. After a kill it goes on: with the backup anew, or with the swap where that was whole."""
        config = self.home.config
        upstream = upstream_of(config, work.text("primary"), work.text("member"))
        data, generation = config.data_dir, work.order.generation
        fresh, aside = (data.with_name(f"{data.name}.{word}-{generation}") for word in ("rebuild", "old"))
        whole = config.state_dir / f"rebuilt-{generation}"
        self.home.halt(work)
        if not whole.exists():
            if (data / "global" / "pg_control").exists():
                refuse_own_branch(data, work)
                if why := diverged(data, work):
                    refuse_unlisted(config, work, why)
            shutil.rmtree(fresh, ignore_errors=True)
            refuse_no_primary(upstream)
            _refuse_full(upstream, data)
            work.say(f"copying {upstream.site} anew", None)
            base_backup(config, upstream, fresh)
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.touch()
        if fresh.exists():
            if own_configuration(config).exists():
                keep_configuration(own_configuration(config), fresh)
            as_standby(fresh, upstream)  # also where a machine was made anew, and had no data at all
            swap(fresh, data, aside)
        self.home.start(work)
        work.say("waiting until it streams", None)
        await_streaming(config.dsn)
        shutil.rmtree(aside, ignore_errors=True)
        rewinding(config).unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
        return {"how": "rebuild", "rewound": False, "why": f"a fresh base backup of {upstream.site}"}


def upstream_of(config: AgentConfig, site: str, member: str = "") -> Upstream:
    """The new primary by the agent's configuration: as the member that it is, else as its site's. Raises BadInput when
    it doesn't name it."""
    dsn = config.upstreams.get(member) or config.upstreams.get(site)
    if dsn is None:
        raise BadInput(
            f"the agent at {config.site} does not know how to reach {member or site}",
            hint="name it under `upstreams` in the agent's configuration: {MEMBER: DSN}",
        )
    parts = conninfo_to_dict(dsn)
    parts.pop("dbname", None)
    user = {"user": config.replicator} if config.replicator else {}
    conninfo = make_conninfo("", **{**parts, **user, "application_name": slot_of(config.named)})
    return Upstream(site=site, dsn=dsn, conninfo=conninfo, slot=slot_of(config.named))


def refuse_strange(config: AgentConfig, work: Work) -> None:
    """Raises Refused when the data here is not of the new primary's system."""
    found = control.read(config.data_dir)
    if found.system_id != work.text("system_id"):
        raise Refused(
            f"the data here is of system {found.system_id}, the new primary of {work.text('system_id')}",
            hint="it can only be rebuilt: `how: rebuild`, after looking at what it is",
        )


def refuse_unlisted(config: AgentConfig, work: Work, why: str) -> None:
    """Rule 12 by evidence: what is destroyed now was listed and exported by this very agent, up to its last record: it
    may have been started again since."""
    listed = exported(config, work.text("losses"))
    end = control.read(config.data_dir).checkpoint_lsn
    if listed is None or listed.to_lsn < end:
        known = "no export of it is known here"
        if listed is not None:
            known = f"its export ends at {lsn_text(listed.to_lsn)}, before its last checkpoint at {lsn_text(end)}"
        raise Refused(
            f"{RULES[12].cited}: {why}, and {known}",
            hint="perform the step `losses` first, or again ('dr plan failback'); nothing was touched",
        )


def refuse_own_branch(data: Path, work: Work) -> None:
    """Rule 12 again: whoever was opened by hand took writes that no list tells of. Its timeline may even bear the
    number of the primary's, and Postgres would stream one into the other without a word."""
    if why := own_branch(data, work):
        raise Refused(
            f"{RULES[12].cited}: {why}, and what it wrote there is not listed",
            hint="look at a copy of this data by hand and keep what is needed of it, then move it away: "
            "where there is none, `how: rebuild` makes a standby; nothing was touched",
        )


def diverged(data: Path, work: Work) -> str:
    """Why a stopped server's data can't just follow: it holds, or may hold, WAL beyond the promotion. Empty: it can."""
    found = control.read(data)
    if found.timeline >= int(work.number("timeline", 0)):
        return ""
    left_at = next((each.lsn for each in switches_of(work) if each.timeline == found.timeline), None)
    if left_at is None:
        return f"the new primary's history does not know timeline {found.timeline}"
    if found.state == "shut down in recovery":
        return "" if found.checkpoint_lsn < left_at else "it replayed beyond the promotion"
    if found.state == "in archive recovery":
        return ""  # a standby that was killed wrote nothing of its own; where it can't follow, Postgres says so
    end = control.shutdown_end(data)
    if end is None:
        return f"it did not end cleanly, so it may have written beyond {lsn_text(left_at)}"
    return "" if end <= left_at else f"it wrote up to {lsn_text(end)}, beyond {lsn_text(left_at)}"


def refuse_no_primary(upstream: Upstream) -> None:
    """Before anything is changed here: the other server answers, with the rights of this DSN, and takes writes."""
    if _asked(upstream, "select pg_is_in_recovery()"):
        raise Refused(
            f"the server at {upstream.site} is a standby itself",
            hint="see 'dr status' for the roles; nothing was touched",
        )


def await_streaming(dsn: str) -> None:
    """Until the server here streams. Raises Failed past the patience."""
    end, last = time.monotonic() + STREAMS_SECONDS, "it takes no connections"
    while time.monotonic() < end:
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
                row = connection.execute("select pg_is_in_recovery(), status from pg_stat_wal_receiver").fetchone()
            if row == (True, "streaming"):
                return
            last = f"its receiver is {row[1] if row else 'not there'}"
        except psycopg.Error as error:
            last = " ".join(str(error).split())[:200]
        time.sleep(0.1)
    raise Failed(
        f"the rebuilt standby does not stream within {STREAMS_SECONDS:g} s: {last}",
        hint="see its server log; the old data is kept aside until it does",
    )


def _asked(upstream: Upstream, query: str) -> object:
    try:
        with psycopg.connect(upstream.dsn, autocommit=True, connect_timeout=10) as connection:
            row = connection.execute(query.encode()).fetchone()
    except psycopg.Error as error:
        raise Failed(
            f"{upstream.site} can't be asked from here: {' '.join(str(error).split())[:200]}",
            hint="see `upstreams` in the agent's configuration, pg_hba.conf there and the network; nothing was touched",
        ) from None
    return row[0] if row else None


def _refuse_full(upstream: Upstream, data: Path) -> None:
    told = _asked(upstream, "select coalesce(sum(pg_database_size(oid)), 0)::bigint from pg_database")
    size = int(str(told or 0))
    free = LocalHost().free_bytes(data.parent)
    if free < size * 1.1:
        raise Failed(
            f"a fresh copy needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free beside the old data",
            hint="make room there; the old data is kept until the new one streams",
        )
