-- What people have said a sender's codes mean.
create table code_overlay (
  channel    text not null,
  table_name text not null,
  code       text not null,
  target     text not null,
  actor      text not null,
  reason     text not null,
  at         timestamptz not null default now(),
  primary key (channel, table_name, code)
);

-- The message browser looks for the beginning of a patient's number, whatever the server's locale.
alter table inbox alter column order_key type text collate "C";

-- One index for every combination of channel, event and state, newest first within each.
create index inbox_browse on inbox (channel, event, state, id);

-- A merge is found by either of its patients.
create index inbox_also_keys on inbox using gin (also_keys) where also_keys is not null;
