"""Are pages and indexes sound? amcheck over every B-tree and heap, and what the server itself saw of bad checksums."""

# ruff: noqa: E501 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import psycopg
from psycopg import sql

from recovery.check import Check, Finding
from tasks.postgres.checks.context import (
    CheckContext,
    Level,
    each_database,
    failed,
    judged,
    not_configured,
    passed,
    session,
    unproven,
)
from tasks.postgres.mark_objects import FIRST_USER_OID
from tasks.postgres.reading import Connection, Deadline, databases, first_line, in_parallel, only, reading

BATCH = 25
MOST_MESSAGES = 5
OWN_SCHEMA = "standfast_amcheck"
_CORRUPT = ("XX001", "XX002")
_HINT = "the file is damaged: restore another backup; if the source has it too, reindex or repair there first"

_EXTENSION = """
select n.nspname::text, pg_catalog.string_to_array(e.extversion, '.')::int[]
from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck'
"""
_RELATIONS = """
select c.oid::bigint, (pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0)).identity, a.amname::text,
  coalesce(i.indisunique, false)
from pg_catalog.pg_class c join pg_catalog.pg_am a on a.oid = c.relam left join pg_catalog.pg_index i on i.indexrelid = c.oid
where c.relpersistence = 'p' and (c.relkind in ('r', 'm', 't') and a.amname = 'heap'
  or c.relkind = 'i' and a.amname in ('btree', 'gin') and i.indisvalid and i.indisready and i.indislive)
order by pg_catalog.pg_relation_size(c.oid) desc
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Relation:
    oid: int
    name: str
    method: str
    is_unique: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tool:
    """Where amcheck is, its version, and how far to go."""

    schema: str
    version: tuple[int, ...]
    deep: bool
    parents: bool


def amcheck(context: CheckContext, name: str) -> Check:
    """Every heap by verify_heapam, every B-tree by bt_index_check; deep: also that each row is in its indexes.

    The parent check takes a lock that a copy in recovery cannot give: deep checks make it on a promoted copy.
    """
    deadline = Deadline(context.patience_seconds)
    findings: list[Finding] = []
    doubts: list[str] = []
    looked = 0
    with session(context) as connection:
        names = databases(connection)
    for database in names:
        tool, relations = _prepare(context, database, deadline)
        if tool is None and not relations:
            continue
        if tool is None:
            doubts.append(f"amcheck is not installed in database {database}")
            continue
        looked += len(relations)
        _look(context, name, database, tool, relations, (findings, doubts, deadline))
    if findings:
        return failed(name, sorted(findings, key=lambda finding: finding.fact))
    if doubts:
        hint = "create extension amcheck at the source, or promote the copy: it is then created in the copy"
        return unproven(name, f"{doubts[0]} ({len(doubts)} in all); {hint}")
    depth = (
        ""
        if context.level is Level.DAILY
        else " (parents too)"
        if context.promoted
        else " (not the parents: it is paused)"
    )
    return passed(name, f"{looked} heaps and indexes are sound{depth}")


def checksum_failures(context: CheckContext, name: str) -> Check:
    """What the server counted while all the other checks read the copy. Runs last."""
    with session(context) as connection:
        if only(connection, "show data_checksums")[0] != "on":
            return not_configured(name, "the cluster has no data checksums")
        query = b"select coalesce(datname, 'shared'), checksum_failures from pg_catalog.pg_stat_database where checksum_failures > 0"
        rows = connection.execute(query).fetchall()
    found = [
        Finding(check=name, fact=f"{n} pages with a bad checksum in database {database}", hint=_HINT)
        for database, n in rows
    ]
    return judged(name, found, "no page that was read had a bad checksum")


def invalid_indexes(context: CheckContext, name: str) -> Check:
    """Indexes not valid and constraints not validated, that were sound at the mark."""
    found, known = [], []
    for database, connection in each_database(context):
        marked = context.mark.databases.get(database) if context.mark else None
        for (unsound,) in connection.execute(_UNSOUND.encode()).fetchall():
            shown = f"{unsound} in database {database}"
            if marked is not None and unsound in marked.objects and unsound not in marked.unsound:
                found.append(Finding(check=name, fact=f"{shown} is not valid; it was at the mark", hint=_HINT))
            else:
                known.append(shown)
    note = f"; so at the source: {', '.join(known[:3])}" if known else ""
    return judged(name, found, f"no index or constraint became invalid{note}")


_UNSOUND = """
select 'index ' || (pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, indexrelid, 0)).identity
from pg_catalog.pg_index where not (indisvalid and indisready and indislive)
union all
select 'table constraint ' || (pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, oid, 0)).identity
from pg_catalog.pg_constraint where not convalidated and conrelid <> 0
"""


def _prepare(context: CheckContext, database: str, deadline: Deadline) -> tuple[_Tool | None, list[_Relation]]:
    with reading(context.dsn, deadline, database) as connection:
        found = connection.execute(_EXTENSION.encode()).fetchone()
        if found is None and context.promoted:
            connection.execute(b"set default_transaction_read_only = off")
            connection.execute(f"create schema {OWN_SCHEMA}".encode())
            connection.execute(f"create extension amcheck schema {OWN_SCHEMA}".encode())
            found = connection.execute(_EXTENSION.encode()).fetchone()
        if found is None:
            return None, _own_tables(connection)
        deep = context.level is Level.DEEP
        tool = _Tool(schema=found[0], version=tuple(found[1]), deep=deep, parents=deep and context.promoted)
        relations = [
            _Relation(oid=oid, name=shown, method=method, is_unique=is_unique)
            for oid, shown, method, is_unique in connection.execute(_RELATIONS.encode()).fetchall()
            if method != "gin" or (deep and tool.version >= (1, 5))
        ]
    return tool, relations


def _own_tables(connection: Connection) -> list[_Relation]:
    """What would be looked at if amcheck were there; a database without any table of its own needs none."""
    rows = connection.execute(_RELATIONS.encode()).fetchall()
    return [
        _Relation(oid=oid, name=shown, method=method, is_unique=unique)
        for oid, shown, method, unique in rows
        if oid >= FIRST_USER_OID
    ]


def _look(
    context: CheckContext,
    check: str,
    database: str,
    tool: _Tool,
    relations: Sequence[_Relation],
    into: tuple[list[Finding], list[str], Deadline],
) -> None:
    findings, doubts, deadline = into
    guard = Lock()

    def work(connection: Connection, batch: Sequence[_Relation]) -> None:
        for relation in batch:
            bad, doubt = _one(connection, tool, relation)
            with guard:
                findings.extend(
                    Finding(check=check, fact=f"{relation.name} in database {database}: {what}", hint=_HINT)
                    for what in bad
                )
                doubts.extend(f"{relation.name} in database {database}: {what}" for what in doubt)

    large, small = relations[:BATCH], relations[BATCH:]
    jobs = [[relation] for relation in large] + [list(small[at : at + BATCH]) for at in range(0, len(small), BATCH)]
    in_parallel(context.dsn, database, jobs, work, deadline)


def _one(connection: Connection, tool: _Tool, relation: _Relation) -> tuple[list[str], list[str]]:
    """(what is damaged, what could not be looked at) of one relation."""
    try:
        rows = connection.execute(_query(tool, relation)).fetchall()
    except psycopg.Error as error:
        said = first_line(error)
        return ([said], []) if error.sqlstate in _CORRUPT else ([], [said])
    if relation.method != "heap":
        return [], []
    return [f"block {block}, item {item}: {said}" for block, item, said in rows], []


def _query(tool: _Tool, relation: _Relation) -> sql.Composed:
    schema, oid = sql.Identifier(tool.schema), sql.SQL("{}::oid::regclass").format(sql.Literal(relation.oid))
    if relation.method == "heap":
        return sql.SQL("select blkno, offnum, msg from {}.verify_heapam({}, check_toast => true) limit {}").format(
            schema, oid, sql.Literal(MOST_MESSAGES)
        )
    if relation.method == "gin":
        return sql.SQL("select {}.gin_index_check({})").format(schema, oid)
    if not tool.parents:
        return sql.SQL("select {}.bt_index_check({}, {})").format(schema, oid, sql.Literal(tool.deep))
    unique = sql.SQL(", true") if tool.version >= (1, 4) and relation.is_unique else sql.SQL("")
    return sql.SQL("select {}.bt_index_parent_check({}, true, true{})").format(schema, oid, unique)
