"""Do the rows obey their constraints? By reading, since a paused copy cannot validate anything.

Index scans are off: a constraint's own index may be what is damaged. Constraints that the source had not validated, or that
call functions which may change their mind (not immutable), are left out: they prove nothing about a restore.
"""

# ruff: noqa: E501, S608 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import psycopg

from recovery.check import Check, Finding
from tasks.postgres.checks.context import CheckContext, each_database, judged, unproven
from tasks.postgres.reading import Connection, Row, first_line

_Look = Callable[[Connection, Row], Iterator[str]]
"""A look at one row of a catalog query: what is wrong with what it names."""
_NO_INDEXES = "set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off"
_HINT = "rows are missing or were altered, or the source breaks its own constraint: compare with the source"

_FOREIGN_KEYS = """
select c.oid, (pg_catalog.pg_identify_object('pg_catalog.pg_constraint'::regclass, c.oid, 0)).identity,
  c.conrelid::regclass::text, f.relkind = 'p', c.confrelid::regclass::text, p.relkind = 'p', c.confmatchtype = 'f',
  coalesce((pg_catalog.to_jsonb(c) ->> 'conperiod')::bool, false),
  (select pg_catalog.array_agg(pg_catalog.quote_ident(a.attname) order by k.at) from pg_catalog.unnest(c.conkey) with ordinality k(num, at)
    join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.num),
  (select pg_catalog.array_agg(pg_catalog.quote_ident(a.attname) order by k.at) from pg_catalog.unnest(c.confkey) with ordinality k(num, at)
    join pg_catalog.pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.num),
  (select pg_catalog.array_agg('operator(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' order by k.at)
    from pg_catalog.unnest(c.conpfeqop) with ordinality k(op, at)
    join pg_catalog.pg_operator o on o.oid = k.op join pg_catalog.pg_namespace n on n.oid = o.oprnamespace),
  (select pg_catalog.array_agg(case when a.attcollation <> 0 then ' collate ' || a.attcollation::regcollation else '' end order by k.at)
    from pg_catalog.unnest(c.confkey) with ordinality k(num, at)
    join pg_catalog.pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.num)
from pg_catalog.pg_constraint c join pg_catalog.pg_class f on f.oid = c.conrelid join pg_catalog.pg_class p on p.oid = c.confrelid
where c.contype = 'f' and c.conparentid = 0 and c.convalidated and 'u' not in (f.relpersistence, p.relpersistence)
  and f.relpersistence <> 't' and coalesce((pg_catalog.to_jsonb(c) ->> 'conenforced')::bool, true)
order by 2
"""
_ROW_RULES = """
select c.oid::regclass::text as shown, 'not null on column ' || pg_catalog.quote_ident(a.attname),
  pg_catalog.quote_ident(a.attname) || ' is not null', ''
from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attnotnull and not a.attisdropped
where c.relkind = 'r' and c.relpersistence = 'p' and c.oid >= 16384 and not exists (
  select from pg_catalog.pg_constraint n where n.conrelid = c.oid and n.contype = 'n' and n.conkey[1] = a.attnum and not n.convalidated)
union all
select c.oid::regclass::text, 'constraint ' || pg_catalog.quote_ident(k.conname), pg_catalog.pg_get_expr(k.conbin, k.conrelid), k.conbin::text
from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
where k.contype = 'c' and k.convalidated and c.relkind = 'r' and c.relpersistence = 'p'
  and coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::bool, true)
order by 1, 2
"""
_FICKLE = "select oid::bigint from pg_catalog.pg_proc where provolatile <> 'i'"
_CALLS = re.compile(r":(?:funcid|opfuncid|elemfuncid|resultfuncid) (\d+)")
_UNIQUE = """
select (pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, i.indexrelid, 0)).identity, i.indrelid::regclass::text,
  (select pg_catalog.array_agg('(' || pg_catalog.pg_get_indexdef(i.indexrelid, n::int, true) || ')' ||
      case when i.indcollation[n - 1] <> 0 then ' collate ' || i.indcollation[n - 1]::regcollation else '' end order by n)
    from pg_catalog.generate_series(1, i.indnkeyatts) n),
  coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), 'true'),
  coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false)
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid join pg_catalog.pg_class x on x.oid = i.indexrelid
join pg_catalog.pg_am m on m.oid = x.relam
where i.indisunique and i.indisvalid and i.indisready and c.relkind in ('r', 'm') and c.relispopulated and c.relpersistence = 'p'
  and c.oid >= 16384 and m.amname = 'btree' and not i.indisexclusion
order by 1
"""


def foreign_keys(context: CheckContext, name: str) -> Check:
    """Every referencing row has its row: an anti-join for each foreign key."""
    return _everywhere(context, name, _FOREIGN_KEYS, _orphans, "foreign keys: no orphan")


def row_constraints(context: CheckContext, name: str) -> Check:
    """Check constraints and not null, one scan of each table."""
    found, doubts, looked = [], [], 0
    for database, connection in each_database(context):
        fickle = {row[0] for row in connection.execute(_FICKLE.encode()).fetchall()}
        tables: dict[str, list[tuple[str, str]]] = {}
        for table, what, expression, tree in connection.execute(_ROW_RULES.encode()).fetchall():
            if not _is_fickle(tree, fickle):
                tables.setdefault(table, []).append((what, expression))
        for table, rules in tables.items():
            looked += len(rules)
            broken, doubt = _broken(connection, table, rules)
            found += [
                _finding(name, f"{n} rows of table {table} in database {database} break {what}") for what, n in broken
            ]
            doubts += [f"table {table} in database {database}: {why}" for why in doubt]
    if doubts and not found:
        return unproven(name, f"{doubts[0]}" + (f" and {len(doubts) - 1} more" if len(doubts) > 1 else ""))
    return judged(name, found, f"{looked} check and not-null constraints hold")


def unique(context: CheckContext, name: str) -> Check:
    """No duplicates under any unique index, by grouping the table itself."""
    return _everywhere(context, name, _UNIQUE, _duplicates, "unique indexes: no duplicate")


def _everywhere(context: CheckContext, name: str, query: str, look: _Look, what: str) -> Check:
    found, doubts, looked = [], [], 0
    for database, connection in each_database(context):
        connection.execute(_NO_INDEXES.encode())
        for row in connection.execute(query.encode()).fetchall():
            looked += 1
            try:
                found += [_finding(name, f"{fact} in database {database}") for fact in look(connection, row)]
            except psycopg.Error as error:
                doubts.append(
                    f"{row[0] if isinstance(row[0], str) else row[1]} in database {database}: {first_line(error)}"
                )
    if doubts and not found:
        return unproven(name, doubts[0] + (f" and {len(doubts) - 1} more" if len(doubts) > 1 else ""))
    return judged(name, found, f"{looked} {what}")


def _finding(name: str, fact: str) -> Finding:
    return Finding(check=name, fact=fact, hint=_HINT)


def _orphans(connection: Connection, row: Row) -> Iterator[str]:
    _, identity, child, child_parted, parent, parent_parted, full, period, columns, keys, operators, collations = row
    same = [
        f"p.{key} {op} (f.{column}{collate})"
        for key, op, column, collate in zip(keys, operators, columns, collations, strict=True)
    ]
    source = f"{'' if parent_parted else 'only '}{parent} p"
    if period:
        plain = " and ".join(same[:-1]) or "true"
        lost = f"not coalesce(f.{columns[-1]} <@ (select pg_catalog.range_agg(p.{keys[-1]}) from {source} where {plain}), false)"
    else:
        lost = f"not exists (select from {source} where {' and '.join(same)})"
    whole = " and ".join(f"f.{column} is not null" for column in columns)
    mixed = " or ".join(f"f.{column} is not null" for column in columns)
    half = f"or (not ({whole}) and ({mixed}))" if full else ""
    query = f"select count(*) from {'' if child_parted else 'only '}{child} f where ({whole} and {lost}) {half}"
    count = connection.execute(query.encode()).fetchone()
    if count and count[0]:
        yield f"{count[0]} orphans: rows of table {child} without their row in {parent}, against foreign key {identity}"


def _duplicates(connection: Connection, row: Row) -> Iterator[str]:
    index, table, columns, predicate, nulls_equal = row
    whole = "true" if nulls_equal else " and ".join(f"{column} is not null" for column in columns)
    query = (
        f"select count(*) from (select 1 from only {table} where ({predicate}) and {whole}"
        f" group by {', '.join(columns)} having count(*) > 1) d"
    )
    count = connection.execute(query.encode()).fetchone()
    if count and count[0]:
        yield f"{count[0]} values more than once in table {table}, against unique index {index}"


def _broken(
    connection: Connection, table: str, rules: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, int]], list[str]]:
    """((rule, rows that break it), doubts). All rules in one scan; if one raises, each by itself with the usual search path."""
    try:
        counts = _count(connection, table, [expression for _, expression in rules])
        return [(what, n) for (what, _), n in zip(rules, counts, strict=True) if n], []
    except psycopg.Error as error:
        if len(rules) == 1 and connection.execute(b"show search_path").fetchone() != ('""',):
            return [], [f"{rules[0][0]} cannot be evaluated: {first_line(error)}"]
    broken: list[tuple[str, int]] = []
    doubts: list[str] = []
    connection.execute(b"set search_path to default")
    for rule in rules:
        some, why = _broken(connection, table, [rule])
        broken, doubts = broken + some, doubts + why
    connection.execute(b"set search_path to ''")
    return broken, doubts


def _count(connection: Connection, table: str, expressions: Sequence[str]) -> list[int]:
    """How many rows break each expression; null does not break a check (a not-null test is never null)."""
    parts = ", ".join(f"count(*) filter (where not ({expression}))" for expression in expressions)
    row = connection.execute(f"select {parts} from only {table}".encode()).fetchone()
    return [int(n) for n in row or ()]


def _is_fickle(tree: str, fickle: set[int]) -> bool:
    return "{SQLVALUEFUNCTION" in tree or any(int(oid) in fickle for oid in _CALLS.findall(tree))
