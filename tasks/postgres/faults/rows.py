"""Faults in the rows of a copy: missing, extra, altered, orphaned."""

# ruff: noqa: E501, S608 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from tasks.postgres.faults.fault import Attempt, Fault, Planted, Stage
from tasks.postgres.faults.open_copy import candidates, first_that_breaks, opened, own
from tasks.postgres.reading import Connection, Row

_TABLES = f"""
select n.nspname::text, c.relname::text, c.oid::regclass::text from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname <> 'standfast' and {own("c.oid")}
"""
_COLUMNS = """
select a.attname::text, a.atttypid::regtype::text, exists (
  select from pg_catalog.pg_index i where i.indrelid = a.attrelid and i.indisunique and a.attnum = any (i.indkey::int2[]))
from pg_catalog.pg_attribute a where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
order by a.attnum
"""
_KEYS = f"""
select c.conrelid::regclass::text, c.confrelid::regclass::text,
  (pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, c.oid, 0)).identity,
  (select pg_catalog.string_agg(format('p.%I operator(%I.%s) f.%I', pa.attname, n.nspname, o.oprname, fa.attname), ' and ')
   from unnest(c.conkey, c.confkey, c.conpfeqop) k(f, p, op)
   join pg_catalog.pg_attribute fa on fa.attrelid = c.conrelid and fa.attnum = k.f
   join pg_catalog.pg_attribute pa on pa.attrelid = c.confrelid and pa.attnum = k.p
   join pg_catalog.pg_operator o on o.oid = k.op join pg_catalog.pg_namespace n on n.oid = o.oprnamespace)
from pg_catalog.pg_constraint c where c.contype = 'f' and c.conparentid = 0 and c.convalidated and {own("c.oid")}
"""
_INTEGERS = ("smallint", "integer", "bigint", "numeric")
_TEXTS = ("text", "character varying")

Act = Callable[[Connection, Row], Planted | None]


def _on_a_table(act: Act, what: str) -> Callable[[Attempt], Planted]:
    def planted(attempt: Attempt) -> Planted:
        with opened(attempt) as connection:
            rows = candidates(connection, attempt, _TABLES)
            return first_that_breaks(connection, rows, what, lambda row: act(connection, row))

    return planted


def _missing(connection: Connection, row: Row) -> Planted | None:
    schema, name, shown = row
    table = sql.Identifier(schema, name)
    statement = sql.SQL("delete from only {} where ctid = (select ctid from only {} limit 1)").format(table, table)
    if connection.execute(statement).rowcount != 1:
        return None
    return Planted(what=f"a row of {shown} is missing", expects=(f"table {shown}",))


def _extra(connection: Connection, row: Row) -> Planted | None:
    """A copy of a row, its key moved aside: greater than all, or another text."""
    schema, name, shown = row
    table = sql.Identifier(schema, name)
    columns = connection.execute(sql.SQL(_COLUMNS).format(sql.Literal(shown))).fetchall()
    targets, values = [], []
    for column, kind, is_key in columns:
        one = sql.Identifier(column)
        targets.append(one)
        if is_key and kind in _INTEGERS:
            values.append(sql.SQL("(select max({}) + 1 from only {})").format(one, table))
        elif is_key and kind in _TEXTS:
            values.append(sql.SQL("{} || '+'").format(one))
        else:
            values.append(sql.Composed([one]))
    if not targets:
        return None
    statement = sql.SQL("insert into {} ({}) overriding system value select {} from only {} limit 1").format(
        table, sql.SQL(", ").join(targets), sql.SQL(", ").join(values), table
    )
    if connection.execute(statement).rowcount != 1:
        return None
    return Planted(what=f"a row too many in {shown}", expects=(f"table {shown}",))


def _altered(connection: Connection, row: Row) -> Planted | None:
    schema, name, shown = row
    table = sql.Identifier(schema, name)
    for column, kind, is_key in connection.execute(sql.SQL(_COLUMNS).format(sql.Literal(shown))).fetchall():
        one = sql.Identifier(column)
        if is_key or kind not in (*_INTEGERS, *_TEXTS):
            continue
        value = sql.SQL("{} + 1" if kind in _INTEGERS else "{} || '+'").format(one)
        statement = sql.SQL(
            "update only {} set {} = {} where ctid = (select ctid from only {} where {} is not null limit 1)"
        )
        if connection.execute(statement.format(table, one, value, table, one)).rowcount == 1:
            return Planted(what=f"{column} of a row of {shown} is altered", expects=(f"table {shown}",))
    return None


def _orphan(attempt: Attempt) -> Planted:
    """The referenced row is deleted behind the foreign key's back; the check of foreign keys has to name the key."""
    with opened(attempt) as connection:
        rows = candidates(connection, attempt, _KEYS)

        def act(row: Row) -> Planted | None:
            child, parent, identity, same = row
            statement = f"delete from {parent} where (tableoid, ctid) = (select p.tableoid, p.ctid from {parent} p"
            if connection.execute(f"{statement} join {child} f on {same} limit 1)".encode()).rowcount != 1:
                return None
            return Planted(what=f"orphans of foreign key {identity}", expects=(f"foreign key {identity}",))

        return first_that_breaks(connection, rows, "foreign key with rows", act)


FAULTS = (
    Fault(name="rows-missing", stage=Stage.SQL, description="a row is missing", act=_on_a_table(_missing, "row")),
    Fault(name="rows-extra", stage=Stage.SQL, description="a row too many", act=_on_a_table(_extra, "row to copy")),
    Fault(name="rows-altered", stage=Stage.SQL, description="a value is altered", act=_on_a_table(_altered, "value")),
    Fault(name="foreign-key-orphan", stage=Stage.SQL, description="a referenced row is gone", act=_orphan),
)
