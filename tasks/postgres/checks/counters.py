"""What counts upwards: sequences ahead of their columns, and the agent's heartbeat without holes."""

# ruff: noqa: E501 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg import sql

from recovery.check import Check, Finding
from recovery.point import lsn_number, lsn_text
from recovery.value import rfc3339
from tasks.postgres.checks.context import CheckContext, each_database, judged, not_configured, session, unproven
from tasks.postgres.place import place

JUMP = 32
"""A sequence writes WAL once for 32 values: after a crash it goes on behind them (SEQ_LOG_VALS)."""
_OWNED = """
select s.relname::text, sn.nspname::text, t.relname::text, tn.nspname::text, a.attname::text, q.seqincrement > 0
from pg_catalog.pg_depend d
join pg_catalog.pg_sequence q on q.seqrelid = d.objid and not q.seqcycle
join pg_catalog.pg_class s on s.oid = d.objid and s.relpersistence = 'p' join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace
join pg_catalog.pg_class t on t.oid = d.refobjid and t.relpersistence = 'p' join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid and a.atttypid in (20, 21, 23, 1700)
where d.classid = 'pg_catalog.pg_class'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.deptype in ('a', 'i')
order by 2, 1
"""
_GAPS = """
select id, before, at, extract(epoch from at - at_before)::float8, at < at_before
from (select id, at, pg_catalog.lag(id) over w as before, pg_catalog.lag(at) over w as at_before
      from standfast.beat window w as (order by id)) g
where before is not null and (id <> before + 1 or at < at_before) order by id
"""
_HINT = "rows are missing: compare the table with the source and restore another backup"


def sequences(context: CheckContext, name: str) -> Check:
    """No sequence stands behind its own column: the next insert would collide."""
    found, looked = [], 0
    for database, connection in each_database(context):
        for sequence, sequence_schema, table, schema, column, upwards in connection.execute(_OWNED.encode()).fetchall():
            looked += 1
            query = sql.SQL("select (select last_value from {}), (select {}({}) from {})").format(
                sql.Identifier(sequence_schema, sequence),
                sql.SQL("pg_catalog.max" if upwards else "pg_catalog.min"),
                sql.Identifier(column),
                sql.Identifier(schema, table),
            )
            stands, extreme = connection.execute(query).fetchone() or (None, None)
            if extreme is not None and (stands < extreme if upwards else stands > extreme):
                fact = f"sequence {sequence_schema}.{sequence} in database {database} stands at {stands}, "
                fact += f"but {schema}.{table}.{column} has {extreme}"
                found.append(Finding(check=name, fact=fact, hint="the sequence was reset, or rows came without it"))
    return judged(name, found, f"{looked} sequences stand at or beyond their columns")


def heartbeat(context: CheckContext, name: str) -> Check:
    """The agent's rows (one a second) have no hole that only lost rows explain, and none from beyond the target."""
    if not context.heartbeat:
        return not_configured(name, "the resource has no heartbeat")
    with session(context, "postgres") as connection:
        if connection.execute(b"select pg_catalog.to_regclass('standfast.beat')").fetchone() == (None,):
            return unproven(name, "there is no table standfast.beat: the agent has not run on the source")
        gaps = connection.execute(_GAPS.encode()).fetchall()
        newest = connection.execute(b"select id, at, lsn::text from standfast.beat order by id desc limit 1").fetchone()
        stands = place(connection)
    if newest is None:
        return unproven(name, "the table standfast.beat is empty: the agent has not run on the source")
    found = [Finding(check=name, fact=fact, hint=_HINT) for fact in _holes(gaps)]
    last, at, lsn = newest
    if lsn_number(lsn) > stands.lsn:
        fact = f"heartbeat {last} was written at {lsn_text(lsn_number(lsn))}, beyond the copy's {lsn_text(stands.lsn)}"
        found.append(Finding(check=name, fact=fact, hint="the rows are of another history: check the timeline"))
    if context.target.kind == "time" and context.target.at is not None and at > context.target.at:
        fact = f"heartbeat {last} of {rfc3339(at)} is after the target {rfc3339(context.target.at)}"
        found.append(
            Finding(check=name, fact=fact, hint="the copy is of a later moment: check the target and its zone")
        )
    pauses = f", {len(gaps)} jumps that a restart explains" if gaps else ""
    return judged(name, found, f"heartbeats up to {last} of {rfc3339(at)}{pauses}")


def _holes(gaps: list[tuple[int, int, datetime, float, bool]]) -> list[str]:
    """A hole of more ids than a crash skips, in which as many seconds went by: rows were there and are lost."""
    facts = []
    for number, before, at, seconds, backwards in gaps:
        missing = number - before - 1
        if backwards and timedelta(seconds=-seconds) > timedelta(seconds=JUMP):
            facts.append(f"heartbeat {number} of {rfc3339(at)} is {-seconds:.0f} s older than the one before it")
        elif missing > JUMP and seconds > missing / 2:
            facts.append(
                f"heartbeats {before + 1} to {number - 1} are missing in table standfast.beat ({seconds:.0f} s)"
            )
    return facts
