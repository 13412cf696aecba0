"""The sample platform's database: objects of every sort that a restore must bring back, and seeded rows.

Separate because proofs, faults and stories all name these objects. Made in one transaction: it is there, or it isn't.
"""

SEED_ROWS = 2000
"""500 accounts and 1500 orders; `rows` is empty until the workload writes."""
LARGE_OBJECT = 424242

ROLES = """
do $$ begin
  if not exists (select from pg_roles where rolname = 'platform') then create role platform login; end if;
  if not exists (select from pg_roles where rolname = 'replicator') then
    create role replicator login replication;
  end if;
  if not exists (select from pg_roles where rolname = 'auditor') then create role auditor nologin; end if;
end $$;
"""

SCHEMA = """
create extension if not exists amcheck;
create extension if not exists pg_stat_statements;
select setseed(0.42);
create sequence ticket_number start 1000;
create table accounts (
  id bigint generated always as identity primary key,
  email text not null unique,
  plan text not null check (plan in ('free', 'team', 'enterprise')),
  created_at timestamptz not null,
  settings jsonb not null default '{}'
);
create table orders (
  id bigint generated always as identity primary key,
  account_id bigint not null references accounts (id),
  quantity integer not null constraint orders_quantity_positive check (quantity > 0),
  unit_cents integer not null check (unit_cents >= 0),
  total_cents bigint generated always as (quantity::bigint * unit_cents) stored,
  status text not null default 'open',
  ticket bigint not null default nextval('ticket_number'),
  details jsonb not null default '{}',
  changed_at timestamptz not null
);
create index orders_account on orders (account_id);
create index orders_open on orders (changed_at) where status = 'open';
create index orders_details on orders using gin (details);
create table rows (
  seq bigint primary key,
  payload text not null,
  at timestamptz not null default clock_timestamp()
);
alter table accounts enable row level security;
create policy everyone_reads on accounts using (true);
create unlogged table sessions (token text primary key, account_id bigint, seen_at timestamptz not null);
create table changes (
  id bigint generated always as identity primary key, order_id bigint not null, was text, became text
);
create function note_change() returns trigger language plpgsql as $$
begin
  insert into changes (order_id, was, became) values (new.id, old.status, new.status);
  return new;
end $$;
create trigger orders_change after update of status on orders
  for each row when (old.status is distinct from new.status) execute function note_change();
create function account_total(wanted bigint) returns bigint language sql stable as
  $$ select coalesce(sum(total_cents), 0)::bigint from orders where account_id = wanted $$;
insert into accounts (email, plan, created_at, settings)
  select 'user' || n || '@example.com', (array['free', 'team', 'enterprise'])[1 + floor(random() * 3)],
         timestamptz '2026-01-01 00:00:00+00' + n * interval '1 hour', jsonb_build_object('theme', n % 3)
  from generate_series(1, 500) n;
insert into orders (account_id, quantity, unit_cents, status, details, changed_at)
  select 1 + floor(random() * 500)::bigint, 1 + floor(random() * 9)::integer, floor(random() * 10000)::integer,
         (array['open', 'paid', 'sent'])[1 + n % 3], jsonb_build_object('note', repeat(md5(n::text), 1 + n % 40)),
         timestamptz '2026-06-01 00:00:00+00' + n * interval '10 minutes'
  from generate_series(1, 1500) n;
update orders set status = 'paid' where id % 50 = 0 and status = 'open';
insert into sessions values ('seed', 1, timestamptz '2026-06-01 00:00:00+00');
create view open_orders as select o.id, a.email, o.total_cents from orders o join accounts a on a.id = o.account_id
  where o.status = 'open';
create materialized view revenue as select account_id, sum(total_cents) as cents from orders group by account_id;
create unique index revenue_account on revenue (account_id);
select lo_from_bytea(424242, convert_to(repeat('a large object of the sample platform ', 2000), 'UTF8'));
comment on table orders is 'Orders of the sample platform';
grant select, insert, update, delete on all tables in schema public to platform;
grant usage on all sequences in schema public to platform;
grant select on open_orders to auditor;
analyze accounts;
analyze orders;
"""

OUTBOX = """
create table if not exists outbox (
  id bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  sort text not null check (sort in ('mail', 'webhook', 'job')),
  seq bigint not null,
  body text not null,
  sent_at timestamptz
);
create index if not exists outbox_waiting on outbox (xid, id) where sent_at is null;
grant select, insert, update on outbox to platform;
"""
"""Side effects that wait to be sent, each written in its row's transaction. Made when it misses (older labs)."""
