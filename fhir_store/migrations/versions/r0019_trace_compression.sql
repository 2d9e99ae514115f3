-- A trace of some 3 kB is written with every message: lz4 costs a fraction of PostgreSQL's own compression,
-- where the server was built with it. Traces that are there stay as they are and are read as before.
DO $$
BEGIN
    ALTER TABLE inbox_trace ALTER COLUMN trace SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;
