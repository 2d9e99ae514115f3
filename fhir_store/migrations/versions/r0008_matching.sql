-- Visits, procedures and forms are matched to service Tasks behind the writes, in commit order.
INSERT INTO search_progress (name) VALUES ('service-matching');
