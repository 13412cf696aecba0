-- One of everything that a database can hold: what marks must see, checks must accept and faults can hit.
create role gardener;
create role visitor;
create schema garden;
grant usage on schema garden to gardener;
create schema "Odd ""schema"" ü";
create extension if not exists amcheck;
create type garden.colour as enum ('red', 'green');
create domain garden.positive as int check (value > 0);
create table garden.bed (
  id bigint generated always as identity primary key,
  name text not null unique,
  size garden.positive not null default 1,
  hue garden.colour not null default 'red',
  area int generated always as (size * 2) stored,
  around int generated always as (length(name) * 4) virtual,
  constraint size_is_small check (size < 100000),
  constraint name_is_long check (length(name) > 2)
);
create table garden.plant (
  id serial primary key,
  bed_id bigint not null references garden.bed (id),
  planted timestamptz not null default '2026-01-01Z',
  weight float8,
  note text,
  price money default 1.5,
  every interval default '1 month 2 days',
  photo bytea
);
create index plant_by_day on garden.plant (planted);
create index plant_note_hash on garden.plant using hash (note);
create table garden.log (at date not null, what text) partition by range (at);
create table garden.log_2025 partition of garden.log for values from ('2025-01-01') to ('2026-01-01');
create table garden.log_2026 partition of garden.log for values from ('2026-01-01') to ('2027-01-01');
create index log_at on garden.log (at);
create table garden.parent (a int);
create table garden.child (b int) inherits (garden.parent);
create unlogged table garden.cache (k text primary key, v text);
create table garden.nothing ();
create table "Odd ""schema"" ü"."Tablé ' %s" ("standfast" int, "col""umn" text);
create view garden.heavy as select id, weight from garden.plant where weight > 10;
create materialized view garden.count_by_bed as select bed_id, count(*) as plants from garden.plant group by bed_id;
create materialized view garden.never as select 1 as one with no data;
create function garden.grow(n int) returns int language sql immutable as 'select n + 1';
create function garden.touch() returns trigger language plpgsql as 'begin return new; end';
create aggregate garden.total (int) (sfunc = int4pl, stype = int, initcond = '0');
create operator garden.@+ (leftarg = int, rightarg = int, function = int4pl);
create function garden.grow_colour(garden.colour) returns int language sql immutable as 'select 1';
create cast (garden.colour as int) with function garden.grow_colour(garden.colour);
create trigger bed_touch before update on garden.bed for each row execute function garden.touch();
create sequence garden.free start 7 increment 3;
create statistics garden.plant_stats (dependencies) on bed_id, weight from garden.plant;
create publication garden_news for table garden.bed;
create foreign data wrapper elsewhere;
create server far foreign data wrapper elsewhere options (host 'example.invalid');
create user mapping for gardener server far options (user 'x', password 'secret');
create text search configuration garden.words (copy = pg_catalog.simple);
create collation garden.plain (provider = libc, locale = 'C');
alter table garden.plant enable row level security;
create policy own_plants on garden.plant for select to gardener using (weight > 0);
create rule no_delete as on delete to garden.parent do instead nothing;
alter table garden.bed owner to gardener;
grant select on garden.plant to visitor;
grant update (note) on garden.plant to visitor;
alter default privileges in schema garden grant select on tables to visitor;
comment on table garden.bed is 'where things grow';
alter role visitor set statement_timeout = '5s';
insert into garden.bed (name, size, hue) select 'bed ' || i, i, case when i % 2 = 0 then 'green' else 'red' end::garden.colour
  from generate_series(1, 50) i;
insert into garden.plant (bed_id, weight, note, photo)
  select 1 + i % 50, i / 3.0, case when i % 7 = 0 then null else 'plant ' || i end,
    case when i % 100 = 0 then (select string_agg(sha256((i || '-' || j)::bytea), '') from generate_series(1, 400) j) end
  from generate_series(1, 2000) i;
insert into garden.log select date '2025-12-01' + i, 'day ' || i from generate_series(0, 60) i;
insert into garden.parent values (1), (2);
insert into garden.child values (3, 4);
insert into garden.cache values ('k', 'v');
insert into garden.nothing default values;
insert into "Odd ""schema"" ü"."Tablé ' %s" values (1, E'a\nb"\\'), (2, null), (2, null);
refresh materialized view garden.count_by_bed;
select nextval('garden.free');
select lo_from_bytea(70001, decode(repeat('ab', 5000), 'hex'));
select lo_from_bytea(70002, 'hello');
create schema standfast;
create table standfast.beat (id bigint generated always as identity primary key, at timestamptz not null, lsn pg_lsn not null);
insert into standfast.beat (at, lsn) select clock_timestamp() - make_interval(secs => 60 - i), '0/1' from generate_series(1, 60) i;
