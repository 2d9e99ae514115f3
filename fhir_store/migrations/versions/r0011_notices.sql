-- Requests to remind and contracts get their timers (claims) behind the writes, in commit order.
INSERT INTO search_progress (name) VALUES ('notices');
-- Services become due in the order in which their periods begin: txid holds the beginning in µs.
INSERT INTO search_progress (name) VALUES ('services-due');
