"""Whether the databases of a service serve at a site: their role there, a write that commits, the user's assertions.

Separate from the kinds, which don't import each other: a service is validated by asking its databases, which Postgres'
readers know how to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg

from recovery.catalog import Assertion, Member
from recovery.check import Check, Outcome
from recovery.errors import DrError
from tasks.home import Home
from tasks.postgres.reading import Deadline, first_line, only, reading
from tasks.probing import at_once

LOOK_SECONDS = 2.0
WRITE_SECONDS = 5.0
ASSERT_SECONDS = 120.0
_ROLE = """select pg_catalog.pg_is_in_recovery(),
    (select reset_val from pg_catalog.pg_settings where name = 'default_transaction_read_only')"""
_WRITE = b"select pg_catalog.pg_logical_emit_message(true, 'standfast', 'validate')"
_LAG = """select coalesce((select status from pg_catalog.pg_stat_wal_receiver), 'no receiver'),
    case when pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() then 0
         else extract(epoch from pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()) end"""


def written(home: Home, service: str, site: str, *, look_only: bool = False) -> tuple[Check, ...]:
    """Each database of the service at the site: is it the primary, and does a write commit there? `look_only` writes
    nothing and believes what the server says of itself."""
    return _all(partial(_written, name, member, look_only) for name, member in _members(home, service, site))


def asserted(home: Home, service: str, site: str) -> tuple[Check, ...]:
    """The assertions of the catalog, asked of the site's databases."""
    return _all(
        partial(_asserted, name, member, assertion)
        for name, member in _members(home, service, site)
        for assertion in home.resource(name).assertions
    )


def following(home: Home, service: str, site: str, *, lag_seconds: float) -> tuple[Check, ...]:
    """Each database of the service at the site that is a standby: does it stream, within that lag? A primary has no
    check of this sort."""
    found = _all(partial(_following, name, member, lag_seconds) for name, member in _members(home, service, site))
    return tuple(each for each in found if each.outcome is not Outcome.NOT_CONFIGURED)


def _members(home: Home, service: str, site: str) -> list[tuple[str, Member]]:
    """The first server of each database at the site; where one of several is the primary, that one."""
    found: list[tuple[str, Member]] = []
    for name in home.catalog.services[service].resources:
        there = [member for _, member in home.resource(name).at(site)]
        if len(there) > 1:
            roles = at_once({str(at): partial(_in_recovery, each) for at, each in enumerate(there)}, LOOK_SECONDS)
            there = [each for at, each in enumerate(there) if roles.get(str(at)) is False] or there
        found += [(name, member) for member in there[:1]]
    return found


def _in_recovery(member: Member) -> bool | None:
    try:
        with reading(member.dsn, Deadline(LOOK_SECONDS)) as connection:
            return bool(only(connection, _ROLE)[0])
    except (DrError, psycopg.Error):
        return None  # it doesn't answer: another one is asked, and told about where none answers


def _all(jobs: Iterable[Callable[[], Check]]) -> tuple[Check, ...]:
    every = list(jobs)
    if not every:
        return ()
    with ThreadPoolExecutor(min(8, len(every))) as pool:
        return tuple(pool.map(lambda job: job(), every))


def _written(name: str, member: Member, look_only: bool) -> Check:
    check = f"{name} takes writes"
    try:
        with reading(member.dsn, Deadline(LOOK_SECONDS)) as connection:
            in_recovery, read_only = only(connection, _ROLE)
    except (DrError, psycopg.Error) as trouble:
        return _unproven(check, trouble)
    if in_recovery:
        return Check(name=check, outcome=Outcome.FAILED, fact="it is a standby")
    if read_only == "on":
        return Check(name=check, outcome=Outcome.FAILED, fact="it only lets sessions read")
    if look_only:
        return Check(name=check, outcome=Outcome.PASSED, fact="it is the primary")
    return _commits(check, member)


def _commits(check: str, member: Member) -> Check:
    """A small message in WAL, committed as the server's own settings ask (with its synchronous standbys)."""
    opened: list[psycopg.Connection[tuple[object, ...]]] = []

    def write() -> Check:
        try:
            with psycopg.connect(member.dsn, connect_timeout=2, autocommit=True, application_name="standfast") as link:
                opened.append(link)
                link.execute(_WRITE)
        except psycopg.Error as error:
            return Check(name=check, outcome=Outcome.FAILED, fact=first_line(error))
        return Check(name=check, outcome=Outcome.PASSED, fact="a write committed")

    found = at_once({"write": write}, WRITE_SECONDS)
    if "write" in found:
        return found["write"]
    for link in opened:
        link.cancel_safe(timeout=1.0)
    fact = f"a write did not commit within {WRITE_SECONDS:g} s: is a standby missing that has to confirm it?"
    return Check(name=check, outcome=Outcome.FAILED, fact=fact)


def _asserted(name: str, member: Member, assertion: Assertion) -> Check:
    check = f"{name} {assertion.name}"
    try:
        with reading(member.dsn, Deadline(ASSERT_SECONDS), assertion.database) as connection:
            connection.execute(b"set search_path to default")
            result = connection.execute(assertion.sql.encode()).pgresult
    except DrError as trouble:
        return _unproven(check, trouble)
    except psycopg.Error as error:
        return Check(name=check, outcome=Outcome.FAILED, fact=first_line(error))
    if result is None or not result.ntuples or not result.nfields:
        return Check(name=check, outcome=Outcome.UNPROVEN, fact="the query gave no row")
    value = result.get_value(0, 0)
    said = "null" if value is None else value.decode(errors="replace")
    if value is not None and said == assertion.expect:
        return Check(name=check, outcome=Outcome.PASSED, fact=f"{said}, as expected")
    return Check(name=check, outcome=Outcome.FAILED, fact=f"it gave {said} instead of {assertion.expect}")


def _following(name: str, member: Member, lag_seconds: float) -> Check:
    check = f"{name} follows"
    try:
        with reading(member.dsn, Deadline(LOOK_SECONDS)) as connection:
            if not only(connection, _ROLE)[0]:
                return Check(name=check, outcome=Outcome.NOT_CONFIGURED, fact="it is the primary")
            status, lag = only(connection, _LAG)
    except (DrError, psycopg.Error) as trouble:
        return _unproven(check, trouble)
    late = lag is None or float(lag) > lag_seconds
    fact = f"{status}, {'unknown' if lag is None else f'{float(lag):.1f} s'} behind"
    return Check(name=check, outcome=Outcome.FAILED if late or status != "streaming" else Outcome.PASSED, fact=fact)


def _unproven(check: str, trouble: BaseException) -> Check:
    fact = trouble.fact if isinstance(trouble, DrError) else first_line(trouble)
    return Check(name=check, outcome=Outcome.UNPROVEN, fact=fact)
