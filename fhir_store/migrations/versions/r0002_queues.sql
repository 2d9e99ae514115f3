-- What came in and what is owed: the two queues between which a message is always one row.

create table inbox (
  id            int8 generated always as identity primary key,
  channel       text not null,
  sender        text not null,                    -- MSH-3
  facility      text not null,                    -- MSH-4
  control_id    text not null,                    -- MSH-10
  content_hash  bytea not null,                   -- SHA-256 of the message with MSH-7 blanked
  event         text not null,                    -- ADT^A01
  order_key     text not null,                    -- whose order is kept; '' asks for none
  also_keys     text[],                           -- further keys that a merge takes
  lane          int2 not null,
  state         text not null default 'received'
    check (state in ('received', 'claimed', 'translated', 'unmapped', 'held', 'parked', 'skipped')),
  waits_for     int8,                             -- the stuck entry this one stands behind
  is_id_reused  bool not null default false,
  attempts      int2 not null default 0,
  due_at        timestamptz,                      -- set while a transient failure backs off
  received_at   timestamptz not null default now(),
  finished_at   timestamptz,
  trace_id      text not null,
  peer          text not null,
  raw           bytea not null,
  ack           bytea not null,
  issues        jsonb,                            -- why it is held, parked or unmapped
  unique (control_id, channel, sender, facility, content_hash)
) with (autovacuum_vacuum_scale_factor = 0.02);

-- Messages are read whole and compress badly when small: keep them out of line, uncompressed.
alter table inbox alter raw set storage external;

create index inbox_open on inbox (lane, id)
  where state in ('received', 'claimed') and waits_for is null;
create index inbox_order on inbox (order_key, id);
create index inbox_stuck on inbox (order_key, id)
  where state in ('held', 'parked') or waits_for is not null or due_at is not null;
create index inbox_merges on inbox (id)
  where also_keys is not null and state in ('received', 'claimed', 'held', 'parked');
create index inbox_waits on inbox (waits_for) where waits_for is not null;
create index inbox_attention on inbox (state, id)
  where state in ('unmapped', 'held', 'parked', 'skipped');
create index inbox_time on inbox using brin (received_at);

-- Which source field and map row each element came from, as the mapping gave it.
create table inbox_trace (
  inbox_id int8 primary key,
  written  text[] not null,                       -- Type/id/_history/version
  trace    bytea not null
);

create table outbox (
  id             int8 generated always as identity primary key,
  source_type    text not null,
  source_id      text not null,
  source_version int4 not null,
  destination    text not null,
  part           text not null default '',
  order_key      text not null,
  depends_on     text,                            -- order key of the parent that goes first
  is_latest_only bool not null default false,
  state          text not null default 'waiting'
    check (state in ('waiting', 'claimed', 'inflight', 'accepted', 'deferred', 'refused',
                     'unknown', 'settled', 'superseded', 'withdrawn')),
  key            text not null default gen_random_uuid()::text,   -- the same at every attempt
  attempts       int4 not null default 0,
  due_at         timestamptz not null default now(),
  lease_until    timestamptz,
  created_at     timestamptz not null default now(),
  sent_at        timestamptz,
  settled_at     timestamptz,
  trace_id       text not null default '',
  content_type   text not null default '',
  payload        bytea,                           -- fixed before the first attempt
  is_given       bool not null default false,     -- the payload came with the row
  facts          jsonb not null default '{}',
  code           text not null default '',
  detail         text not null default '',
  reference      text not null default '',
  receipt        bytea,                           -- raw, as it came
  unique (source_type, source_id, source_version, destination, part)
) with (autovacuum_vacuum_scale_factor = 0.02);

alter table outbox alter payload set storage external;

create index outbox_open on outbox (destination, id)
  where state in ('waiting', 'claimed', 'inflight', 'deferred', 'unknown');
create index outbox_open_order on outbox (destination, order_key, id)
  where state in ('waiting', 'claimed', 'inflight', 'deferred', 'unknown');
create index outbox_order on outbox (destination, order_key, id);
create index outbox_attention on outbox (state, id) where state in ('refused', 'unknown');
create index outbox_trace on outbox (trace_id);

-- Who moved an entry by hand, and why.
create table queue_audit (
  id     int8 generated always as identity primary key,
  at     timestamptz not null default now(),
  queue  text not null check (queue in ('inbox', 'outbox')),
  entry  int8 not null,
  action text not null,
  actor  text not null,
  reason text not null
);
create index queue_audit_entry on queue_audit (queue, entry);
