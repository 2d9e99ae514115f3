-- What the queues let go of: how far it has been looked at, and old deliveries by their time.
insert into search_progress (name) values ('retention inbox'), ('retention outbox');
create index outbox_time on outbox using brin (created_at);
