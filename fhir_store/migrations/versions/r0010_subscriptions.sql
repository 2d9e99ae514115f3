-- Subscriptions: events are numbered for each subscriber in the order of commits, kept, and told
-- in that order; `delivered` says how far. A subscriber that is down costs one row, not a queue.

-- Who wrote a Subscription over HTTP: with whose rights its events are seen.
create table subscription_caller (
  fid     text collate "C" primary key,
  caller  jsonb not null
);

create table subscriber (
  fid          text collate "C" primary key,
  state        text not null check (state in ('requested', 'active', 'error', 'off')),
  resource     jsonb not null,                    -- the Subscription as it was last asked for
  caller       jsonb not null,
  last_number  int8 not null default 0,
  delivered    int8 not null default 0,
  failures     int4 not null default 0,
  fence        int8 not null default 0,           -- keeps a late worker from settling
  due_at       timestamptz not null default now(),
  lease_until  timestamptz,
  said_at      timestamptz not null default now(),
  heartbeat    int4 not null default 0,           -- seconds of silence after which one is sent
  detail       text not null default ''
);
create index subscriber_open on subscriber (due_at) where state <> 'off';

create table subscription_event (
  fid     text collate "C" not null,
  number  int8 not null,
  at      timestamptz not null,
  type    text not null,
  id      text collate "C" not null,
  ver     int4,                                   -- null: as it is when told
  dead    text,                                   -- why the subscriber did not take it
  primary key (fid, number)
);
create index subscription_event_dead on subscription_event (fid, number) where dead is not null;
create index subscription_event_age on subscription_event using brin (at);

create table subscription_token (
  digest      bytea primary key,                  -- SHA-256 of what the client was given
  fids        text[] not null,
  expires_at  timestamptz not null
);

insert into search_progress (name) values ('subscriptions');
