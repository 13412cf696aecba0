"""Which catalog rows make up the objects of a database, and the queries that read them.

A mark is only ever compared with a physical copy of the same cluster, where every catalog row is the same, OIDs included.
So an object's definition is its raw catalog rows: nothing that Postgres knows is left out, in any version, and no deparsing
function can wait for a lock. Rows that belong to one object (a column and its default, an index's two rows) are folded into
it. Built-in objects are one entry for each catalog, unless somebody changed their privileges.

Left out: what maintenance changes without changing meaning (sizes, statistics, freezing, file numbers), temporary objects,
TOAST tables, and secrets: passwords count only as their salted verifier, mappings and subscriptions by their options' names.
"""

# ruff: noqa: E501, S608 -- SQL reads best unbroken, and is made of constants and quoted names only

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST_USER_OID = 16384


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One catalog: which object each row belongs to, as `pg_identify_object` takes it.

    `relation` is the table that a row hangs on (temporary ones and TOAST are left out); `secret` replaces columns.
    """

    catalog: str
    of: str = ""
    object_id: str = "c.oid"
    column: str = "0"
    relation: str = ""
    where: str = "true"
    prefix: str = ""
    drop: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    acl: str = ""


_PG_CLASS_DROPS = (
    *("relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid", "relfilenode"),
    *("relhasindex", "relhasrules", "relhastriggers", "relhassubclass", "reltoastrelid"),
)
_NOT_ROW_OR_ARRAY_TYPE = (
    "not exists (select from pg_catalog.pg_class r where r.oid = c.typrelid and r.relkind <> 'c')"
    " and not exists (select from pg_catalog.pg_type e where e.typarray = c.oid)"
)
_VERIFIER = "case when c.rolpassword like 'SCRAM%' then c.rolpassword else (c.rolpassword is not null)::text end"
_OPTION_NAMES = "(select pg_catalog.array_agg(pg_catalog.split_part(o, '=', 1)) from pg_catalog.unnest(c.umoptions) o)"

OF_A_DATABASE: Sequence[Source] = (
    Source(catalog="pg_namespace", where="c.nspname !~ '^pg_(toast_)?temp_'", acl="c.nspacl"),
    Source(catalog="pg_class", relation="c.oid", drop=_PG_CLASS_DROPS, acl="c.relacl"),
    Source(catalog="pg_index", of="pg_class", object_id="c.indexrelid", relation="c.indrelid", drop=("indcheckxmin",)),
    Source(catalog="pg_sequence", of="pg_class", object_id="c.seqrelid", relation="c.seqrelid"),
    Source(catalog="pg_inherits", of="pg_class", object_id="c.inhrelid", relation="c.inhrelid"),
    Source(catalog="pg_partitioned_table", of="pg_class", object_id="c.partrelid", relation="c.partrelid"),
    Source(catalog="pg_foreign_table", of="pg_class", object_id="c.ftrelid"),
    Source(
        catalog="pg_attribute",
        of="pg_class",
        object_id="c.attrelid",
        column="c.attnum",
        relation="c.attrelid",
        where="c.attnum > 0 and not c.attisdropped"
        " and exists (select from pg_catalog.pg_class k where k.oid = c.attrelid and k.relkind in ('r','v','m','f','p','c'))",
        acl="c.attacl",
    ),
    Source(
        catalog="pg_attrdef",
        of="pg_class",
        object_id="c.adrelid",
        column="c.adnum",
        relation="c.adrelid",
        drop=("oid",),
    ),
    Source(catalog="pg_constraint", relation="c.conrelid"),
    Source(catalog="pg_trigger", relation="c.tgrelid"),
    Source(
        catalog="pg_rewrite",
        of="pg_class",
        object_id="c.ev_class",
        relation="c.ev_class",
        where="c.rulename = '_RETURN'",
    ),
    Source(catalog="pg_rewrite", relation="c.ev_class", where="c.rulename <> '_RETURN'"),
    Source(catalog="pg_policy", relation="c.polrelid"),
    Source(catalog="pg_proc", acl="c.proacl"),
    Source(catalog="pg_aggregate", of="pg_proc", object_id="c.aggfnoid::oid"),
    Source(catalog="pg_type", where=_NOT_ROW_OR_ARRAY_TYPE, acl="c.typacl"),
    Source(catalog="pg_enum", of="pg_type", object_id="c.enumtypid", drop=("oid",)),
    Source(catalog="pg_range", of="pg_type", object_id="c.rngtypid"),
    Source(catalog="pg_extension"),
    Source(
        catalog="pg_depend",
        of="pg_extension",
        object_id="c.refobjid",
        where="c.deptype in ('e', 'x') and c.refclassid = 'pg_catalog.pg_extension'::regclass",
    ),
    *(
        Source(catalog=catalog)
        for catalog in (
            *("pg_operator", "pg_opclass", "pg_opfamily", "pg_amop", "pg_amproc", "pg_am", "pg_cast", "pg_collation"),
            *("pg_conversion", "pg_event_trigger", "pg_publication", "pg_publication_rel", "pg_publication_namespace"),
            *("pg_statistic_ext", "pg_transform", "pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template"),
            "pg_default_acl",
        )
    ),
    Source(catalog="pg_language", acl="c.lanacl"),
    Source(catalog="pg_foreign_data_wrapper", acl="c.fdwacl"),
    Source(catalog="pg_foreign_server", acl="c.srvacl"),
    Source(catalog="pg_ts_config_map", of="pg_ts_config", object_id="c.mapcfg"),
    Source(catalog="pg_user_mapping", drop=("umoptions",), instead=(_OPTION_NAMES,)),
    Source(catalog="pg_description", of="c.classoid", object_id="c.objoid", column="c.objsubid", prefix="comment on "),
    Source(
        catalog="pg_seclabel", of="c.classoid", object_id="c.objoid", column="c.objsubid", prefix="security label on "
    ),
    Source(catalog="pg_largeobject_metadata", of="pg_largeobject"),
)

OF_THE_CLUSTER: Sequence[Source] = (
    Source(catalog="pg_authid", drop=("rolpassword",), instead=(_VERIFIER,)),
    Source(catalog="pg_auth_members", of="pg_authid", object_id="c.member", prefix="memberships of ", drop=("oid",)),
    Source(catalog="pg_database", drop=("datfrozenxid", "datminmxid", "datlastsysoid")),
    Source(catalog="pg_tablespace"),
    Source(catalog="pg_parameter_acl"),
    Source(catalog="pg_subscription", drop=("subconninfo", "subskiplsn")),
    Source(catalog="pg_shdescription", of="c.classoid", object_id="c.objoid", prefix="comment on "),
    Source(catalog="pg_shseclabel", of="c.classoid", object_id="c.objoid", prefix="security label on "),
)

SETTINGS = """
select 'settings of role ' || coalesce(r.rolname, '(all)') || ' in database ' || coalesce(d.datname, '(all)'),
  {digest}
from (select setdatabase, setrole, setconfig::text as definition from pg_catalog.pg_db_role_setting) s
left join pg_catalog.pg_roles r on r.oid = s.setrole left join pg_catalog.pg_database d on d.oid = s.setdatabase
"""

_ALL_ROWS = """pg_catalog.string_agg(definition, E'\\n' order by definition collate "C")"""
_DIGEST = (
    "pg_catalog.substr(pg_catalog.encode(pg_catalog.sha256("
    "pg_catalog.convert_to({text}, pg_catalog.getdatabaseencoding())), 'hex'), 1, 16)"
)


def digest(text: str) -> str:
    """The SQL for 16 hexadecimal digits of the SHA-256 of a text expression, in whatever encoding the database has."""
    return _DIGEST.format(text=text)


def columns_query(sources: Sequence[Source]) -> str:
    """(catalog, its columns) for those of the sources that this version of Postgres has."""
    names = ", ".join(sorted({f"'{source.catalog}'" for source in sources}))
    return f"""
select c.relname::text, pg_catalog.array_agg(a.attname::text order by a.attnum)
from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'pg_catalog'::regnamespace and c.relname in ({names}) group by 1"""


def objects_query(source: Source, columns: Mapping[str, Sequence[str]]) -> str | None:
    """(identity, definition's digest) of every object with rows in the source; None where the catalog is unknown."""
    if source.catalog not in columns:
        return None
    kept = [f"c.{name}" for name in columns[source.catalog] if name not in source.drop]
    row = f"row({', '.join((*kept, *source.instead))})::text"
    of = source.of if source.of.startswith("c.") else f"'pg_catalog.{source.of or source.catalog}'::regclass"
    hangs = (
        f"({source.relation} = 0 or exists (select from pg_catalog.pg_class t where t.oid = {source.relation}"
        " and t.relpersistence <> 't' and t.relnamespace <> 'pg_toast'::regnamespace))"
        if source.relation
        else "true"
    )
    with_privileges, untouched = "", ""
    if source.acl:
        with_privileges = (
            f"left join pg_catalog.pg_init_privs p on p.classoid = {of} and p.objoid = {source.object_id}"
            f" and p.objsubid = {source.column}"
        )
        untouched = f"and coalesce({source.acl}::text = p.initprivs::text, true)"
    return f"""
select identity, {digest(_ALL_ROWS)}
from (
  select case when c.is_builtin then 'built-in {source.catalog}'
    else '{source.prefix}' || coalesce(i.type || ' ' || i.identity, '{source.catalog} ' || {source.object_id}) end as identity,
    {row} as definition
  from (
    select c.*, {source.object_id}::oid < {FIRST_USER_OID} {untouched} as is_builtin
    from pg_catalog.{source.catalog} c {with_privileges} where {source.where} and {hangs} offset 0) c
  left join lateral pg_catalog.pg_identify_object(
    {of}, case when not c.is_builtin then {source.object_id} end, {source.column}) i on true
  where i.schema is distinct from 'pg_temp' and coalesce(i.schema, '') !~ '^pg_(toast|temp)'
) o group by identity"""
