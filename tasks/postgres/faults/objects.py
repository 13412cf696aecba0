"""Faults in the catalog of a copy: what a restore from a stale or partial copy lacks, or somebody's hand changed."""

# ruff: noqa: E501, S608 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.postgres.faults.fault import Attempt, Fault, Planted, Stage
from tasks.postgres.faults.open_copy import candidates, first_that_breaks, opened, own

_IDENTITY = "(pg_catalog.pg_identify_object('pg_catalog.{catalog}'::regclass, c.oid, {column}))"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One fault by SQL: `rows` gives (statement, what the finding calls it) of each candidate."""

    name: str
    description: str
    what: str
    rows: str


def _named(catalog: str, column: str = "0") -> str:
    """The SQL for the object's name as a mark has it."""
    one = _IDENTITY.format(catalog=catalog, column=column)
    return f"{one}.type || ' ' || {one}.identity"


def _relation(kinds: str, statement: str, also: str = "true", source: str = "") -> str:
    """Candidates among relations; %1$s in the statement is the name."""
    return (
        f"select format('{statement}', c.oid::regclass), {_named('pg_class')} from pg_catalog.pg_class c {source}"
        f" where c.relkind in ({kinds}) and c.relpersistence = 'p' and {own('c.oid')} and ({also})"
        " and c.relnamespace <> 'pg_toast'::regnamespace"
    )


def _of_table(catalog: str, name: str, relation: str, statement: str, also: str) -> str:
    """Candidates that hang on a table; %1$s is the table, %2$I the name."""
    return (
        f"select format('{statement}', c.{relation}::regclass, c.{name}), {_named(catalog)} from pg_catalog.{catalog} c"
        f" where {own('c.oid')} and ({also})"
    )


_CHECKS = "c.contype = 'c' and c.conrelid <> 0 and c.coninhcount = 0 and c.convalidated"
_NO_CONSTRAINT = "not exists (select from pg_catalog.pg_constraint k where k.conindid = c.oid)"
_NO_PARTITION = "not c.relispartition"
_ONLY_INDEX = f"{_NO_CONSTRAINT} and {_NO_PARTITION}"
_COLUMN_NAME = "(select i.type || ' ' || i.identity from pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, a.attnum) i)"


def _column(statement: str, also: str) -> str:
    """Candidates among columns of tables; %1$s is the table, %2$I the column."""
    return (
        f"select format('{statement}', c.oid::regclass, a.attname), {_COLUMN_NAME} from pg_catalog.pg_class c"
        " join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        f" where c.relkind = 'r' and c.relpersistence = 'p' and not c.relispartition and {own('c.oid')} and ({also})"
    )


HITS = (
    Hit(
        name="index-dropped", what="index", description="an index is missing",
        rows=_relation("'i'", "drop index %1$s", _ONLY_INDEX),
    ),
    Hit(
        name="index-invalid", what="index", description="an index is marked invalid",
        rows=_relation("'i'", "update pg_catalog.pg_index set indisvalid = false where indexrelid = %1$L::regclass", _NO_PARTITION),
    ),
    Hit(
        name="constraint-dropped", what="check constraint", description="a check constraint is missing",
        rows=_of_table("pg_constraint", "conname", "conrelid", "alter table %1$s drop constraint %2$I", _CHECKS),
    ),
    Hit(
        name="constraint-not-validated", what="check constraint", description="a check constraint is not validated",
        rows="select format('alter table %1$s drop constraint %2$I; alter table %1$s add constraint %2$I %3$s not valid',"
        f" c.conrelid::regclass, c.conname, pg_catalog.pg_get_constraintdef(c.oid)), {_named('pg_constraint')}"
        f" from pg_catalog.pg_constraint c where {own('c.oid')} and {_CHECKS}",
    ),
    Hit(
        name="foreign-key-dropped", what="foreign key", description="a foreign key is missing",
        rows=_of_table(
            "pg_constraint", "conname", "conrelid", "alter table %1$s drop constraint %2$I", "c.contype = 'f' and c.conparentid = 0"
        ),
    ),
    Hit(
        name="trigger-dropped", what="trigger", description="a trigger is missing",
        rows=_of_table("pg_trigger", "tgname", "tgrelid", "drop trigger %2$I on %1$s", "not c.tgisinternal and c.tgparentid = 0"),
    ),
    Hit(
        name="trigger-disabled", what="trigger", description="a trigger is disabled",
        rows=_of_table(
            "pg_trigger", "tgname", "tgrelid", "alter table %1$s disable trigger %2$I", "not c.tgisinternal and c.tgenabled <> 'D'"
        ),
    ),
    Hit(
        name="function-dropped", what="function", description="a function is missing",
        rows=f"select format('drop routine %s cascade', c.oid::regprocedure), {_named('pg_proc')} from pg_catalog.pg_proc c"
        f" where {own('c.oid')}",
    ),
    Hit(
        name="sequence-dropped", what="sequence", description="a sequence is missing",
        rows=_relation(
            "'S'", "drop sequence %1$s cascade",
            "not exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'i')",
        ),
    ),
    Hit(
        name="sequence-reset", what="used sequence", description="a sequence begins again",
        rows="select format('alter sequence %s restart', c.oid::regclass), 'sequence value of ' || c.oid::regclass"
        f" from pg_catalog.pg_class c where c.relkind = 'S' and c.relpersistence = 'p' and {own('c.oid')}"
        " and case when c.relkind = 'S' then pg_catalog.pg_sequence_last_value(c.oid) is not null end",
    ),
    Hit(
        name="extension-dropped", what="extension", description="an extension is missing",
        rows="select format('drop extension %I cascade', c.extname), 'extension ' || pg_catalog.quote_ident(c.extname)"
        " from pg_catalog.pg_extension c where c.extname <> 'plpgsql'",
    ),
    Hit(
        name="role-dropped", what="role", description="a role is missing",
        rows="select format('reassign owned by %1$I to current_user; drop owned by %1$I; drop role %1$I', c.rolname),"
        " 'role ' || pg_catalog.quote_ident(c.rolname) from pg_catalog.pg_roles c where c.oid >= 16384 and c.rolname <> current_user",
    ),
    Hit(
        name="view-dropped", what="view", description="a view is missing", rows=_relation("'v'", "drop view %1$s cascade"),
    ),
    Hit(
        name="table-dropped", what="table", description="a table is missing", rows=_relation("'r'", "drop table %1$s cascade"),
    ),
    Hit(
        name="table-unlogged", what="table that could be unlogged", description="a table lost its crash safety",
        rows=_relation("'r'", "alter table %1$s set unlogged", _NO_PARTITION),
    ),
    Hit(
        name="owner-changed", what="table", description="a table has another owner",
        rows=_relation("'r'", "create role standfast_intruder; alter table %1$s owner to standfast_intruder"),
    ),
    Hit(
        name="privilege-revoked", what="table with a grant", description="a privilege is missing",
        rows="select format('revoke all on table %s from %s', c.oid::regclass,"
        " case g.grantee when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) end),"
        f" {_named('pg_class')} from pg_catalog.pg_class c cross join lateral pg_catalog.aclexplode(c.relacl) g"
        f" where c.relkind in ('r', 'v', 'm', 'p') and g.grantee <> c.relowner and {own('c.oid')}",
    ),
    Hit(
        name="policy-dropped", what="row security policy", description="a row security policy is missing",
        rows=_of_table("pg_policy", "polname", "polrelid", "drop policy %2$I on %1$s", "true"),
    ),
    Hit(
        name="column-dropped", what="column", description="a column is missing",
        rows=_column("alter table %1$s drop column %2$I cascade", "a.attinhcount = 0"),
    ),
    Hit(
        name="default-dropped", what="column with a default", description="a column lost its default",
        rows=_column("alter table %1$s alter column %2$I drop default", "a.atthasdef and a.attgenerated = ''"),
    ),
    Hit(
        name="generated-column-altered", what="generated column", description="a generated column became an ordinary one",
        rows=_column("alter table %1$s alter column %2$I drop expression", "a.attgenerated = 's'"),
    ),
    Hit(
        name="comment-dropped", what="comment", description="a comment is missing",
        rows="select format('comment on table %s is null', c.oid::regclass), 'comment on table ' || c.oid::regclass"
        " from pg_catalog.pg_class c join pg_catalog.pg_description d on d.objoid = c.oid and d.objsubid = 0"
        " and d.classoid = 'pg_catalog.pg_class'::regclass where c.relkind = 'r' and c.oid >= 16384",
    ),
    Hit(
        name="large-object-removed", what="large object", description="a large object is missing",
        rows="select format('select pg_catalog.lo_unlink(%s)', oid), 'large object ' || oid from pg_catalog.pg_largeobject_metadata",
    ),
    Hit(
        name="large-object-altered", what="large object", description="a large object's content was altered",
        rows="select format('select pg_catalog.lo_put(%s, 0, %L)', oid, '\\x00ff00'::bytea), 'large object ' || oid"
        " from pg_catalog.pg_largeobject_metadata",
    ),
)  # fmt: skip


def _act(hit: Hit) -> Callable[[Attempt], Planted]:
    def act(attempt: Attempt) -> Planted:
        with opened(attempt) as connection:
            rows = candidates(connection, attempt, hit.rows)

            def break_it(row: tuple[str, ...]) -> Planted:
                connection.execute(row[0].encode())
                return Planted(what=f"{row[1]}: {hit.description}", expects=(row[1],))

            return first_that_breaks(connection, rows, hit.what, break_it)

    return act


FAULTS = tuple(Fault(name=hit.name, stage=Stage.SQL, description=hit.description, act=_act(hit)) for hit in HITS)
