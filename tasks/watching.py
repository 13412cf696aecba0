"""Watching a resource: its servers, its agents and its buckets are asked, all at once. Facts only; silence is one.

Separate from looking, which reads one bucket for one decision: here nothing that is down may hide what is up.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

import psycopg
import urllib3

from recovery.catalog import Member
from recovery.errors import DrError
from recovery.value import Instant, Value
from tasks import unanswered
from tasks.home import Home
from tasks.keeping import engine_at, vouched
from tasks.postgres import looking, mark
from tasks.postgres.looking import Asked, Points
from tasks.postgres.place import stands
from tasks.postgres.reading import Deadline, first_line, only, reading
from tasks.store import Store

T = TypeVar("T")
PATIENCE_SECONDS = 5.0
STORE_PATIENCE_SECONDS = 10.0
MOST_MARKS = 24
_FLUSHED = "select case when pg_is_in_recovery() then null else pg_catalog.pg_current_wal_flush_lsn() - '0/0' end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What a server said of itself; `flushed_lsn` on a primary only. `asked.why` says why it is silent."""

    asked: Asked
    flushed_lsn: int | None = None

    @property
    def site(self) -> str:
        """Where it is."""
        return self.asked.site

    @property
    def role(self) -> Literal["primary", "standby", "silent"]:
        """As observed, never as written."""
        if self.asked.place is None:
            return "silent"
        return "standby" if self.asked.place.in_recovery else "primary"


class AgentAlert(Value):
    """A trouble that an agent tells of."""

    subject: str
    fact: str
    hint: str
    at: Instant | None = None


class AgentSaid(Value):
    """An agent's answer, or why there is none."""

    site: str
    state: Literal["answers", "silent", "not configured"]
    alerts: tuple[AgentAlert, ...] = ()
    waiting_count: int | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """What a site's bucket holds, or why it could not be read. `end_why`: the archive's end could not be read."""

    site: str
    points: Points | None
    why: str = ""
    end_why: str = ""
    marked_at: tuple[datetime, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """All that was asked about one resource."""

    resource: str
    asked_at: datetime
    servers: tuple[Server, ...]
    agents: tuple[AgentSaid, ...]
    buckets: tuple[Bucket, ...]


def watch(home: Home, name: str) -> Watched:
    """Ask everything about a resource. What was copied is read before the primary says what it has flushed: exposure is
    then never told too small."""
    sites = tuple(home.resource(name).members.items())
    with ThreadPoolExecutor(max_workers=8) as pool:
        agents = pool.map(lambda each: agent(each[0], each[1]), sites)
        first = tuple(pool.map(lambda each: server(each[0], each[1]), sites))
        asked = tuple(each.asked for each in first)
        buckets = tuple(pool.map(lambda site: bucket(home, name, site, asked), places(home, name)))
        again = dict(zip((site for site, _ in sites), first, strict=True))
        for role in ("standby", "primary"):
            chosen = [(site, member) for site, member in sites if again[site].role == role]
            again |= {each.site: each for each in pool.map(lambda each: server(each[0], each[1]), chosen)}
        return Watched(
            resource=name,
            asked_at=home.now(),
            servers=tuple(again.values()),
            agents=tuple(agents),
            buckets=buckets,
        )


def places(home: Home, name: str) -> tuple[str, ...]:
    """The sites whose buckets hold a resource's backups: the policy's copies, then those of its servers."""
    resource = home.resource(name)
    return tuple(dict.fromkeys((*home.catalog.backups[resource.backup].copies, *resource.sites)))


def server(site: str, member: Member) -> Server:
    """Ask one server where it stands and, on a primary, what it has flushed."""
    try:
        with reading(member.dsn, Deadline(PATIENCE_SECONDS)) as connection:
            (flushed,) = only(connection, _FLUSHED)
            found = Asked(site=site, place=stands(connection))
    except DrError as trouble:
        return Server(asked=Asked(site=site, place=None, why=trouble.fact))
    except psycopg.Error as error:
        return Server(asked=Asked(site=site, place=None, why=first_line(error)))
    return Server(asked=found, flushed_lsn=None if flushed is None else int(flushed))


def agent(site: str, member: Member) -> AgentSaid:
    """Ask one agent for its status."""
    if member.agent is None:
        return AgentSaid(site=site, state="not configured", why="the catalog names no agent")
    try:
        answer = urllib3.request(
            "GET",
            f"{member.agent.rstrip('/')}/status",
            timeout=urllib3.Timeout(total=PATIENCE_SECONDS),
            retries=False,
        )
        said = json.loads(answer.data)
        fields = set(AgentAlert.model_fields)
        return AgentSaid(
            site=site,
            state="answers",
            alerts=tuple(
                AgentAlert.model_validate({k: v for k, v in each.items() if k in fields}) for each in said["alerts"]
            ),
            waiting_count=said.get("ready_count"),
        )
    except urllib3.exceptions.HTTPError as error:
        return AgentSaid(site=site, state="silent", why=f"it can't be asked: {unanswered.why(error)}")
    except (ValueError, KeyError, AttributeError) as error:
        return AgentSaid(site=site, state="silent", why=f"what it says can't be read: {_short(error)}")


def bucket(
    home: Home, name: str, site: str, servers: tuple[Asked, ...], *, marked: bool = True, timeline: int | None = None
) -> Bucket:
    """Read one site's bucket; `timeline` is a person's word for the one to follow."""
    from tasks.s3_store import open_store

    resource = home.resource(name)
    where = home.catalog.sites[site]
    member = resource.members.get(site) or next(iter(resource.members.values()))
    bin_dir = Path(member.bin_dir)
    try:
        store = open_store(
            where.s3, resource.bucket, resource.prefix, region=where.region, patience_seconds=STORE_PATIENCE_SECONDS
        )
        engine = engine_at(home, name, site, store)
        points = looking.look(
            store, bin_dir=bin_dir, servers=servers, need_end=False, engine=engine, timeline=timeline,
            vouched=lambda: vouched(home, name),
        )  # fmt: skip
    except DrError as trouble:
        return Bucket(site=site, points=None, why=trouble.fact)
    ends, end_why = _tried(
        lambda: looking.ends_of(
            store, points.archive, points.backups, points.timeline,
            bin_dir=bin_dir, keys=home.keys(name), engine=engine,
        )
    )  # fmt: skip
    end, reached = ends or (None, None)
    times, _ = _tried(lambda: _marked_at(store, points)) if marked else ((), "")
    return Bucket(site=site, points=replace(points, end=end, reached=reached), end_why=end_why, marked_at=times or ())


def _marked_at(store: Store, points: Points) -> tuple[datetime, ...]:
    """When the newest marks were taken, at most MOST_MARKS of them, oldest first."""

    def read(each: tuple[int, int]) -> datetime:
        return mark.read_mark(store, system_id=points.system_id, timeline=each[0], lsn=each[1]).at

    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(sorted(pool.map(read, points.marks[-MOST_MARKS:])))


def _tried(do: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return do(), ""
    except DrError as trouble:
        return None, trouble.fact


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
