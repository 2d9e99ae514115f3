-- finished_below: below this transaction number everything that may write here has ended, as the
-- caller's statement sees the world. Whoever reads changes up to it misses nothing.
--
-- A snapshot lists the open transactions of the whole server, top-level ones only
-- (https://www.postgresql.org/docs/15/functions-info.html#FUNCTIONS-PG-SNAPSHOT). One that a session
-- of another database holds, or that was prepared there, cannot write here and is left out; one that
-- nobody shows any more has just ended and counts as ours this once. Numbers are given out once and a
-- session stays in its database, so a look that is newer than the snapshot cannot mistake one for
-- another: hence the clearing, as what sessions do is remembered within a transaction.
-- The own number is no part of the own snapshot, and a standby's snapshot lists none.
CREATE FUNCTION finished_below() RETURNS int8 LANGUAGE plpgsql STABLE AS $$
DECLARE
    seen    pg_snapshot := pg_current_snapshot();
    running xid8[] := ARRAY(SELECT pg_snapshot_xip(seen));
    here    oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    ours    int8;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN pg_snapshot_xmin(seen)::text::int8;
    END IF;
    IF cardinality(running) > 0 THEN
        PERFORM pg_stat_clear_snapshot();
        SELECT min(number::text::int8) INTO ours FROM unnest(running) AS r (number)
         WHERE NOT EXISTS (SELECT FROM pg_stat_get_activity(NULL) AS a
                            WHERE a.backend_xid = number::xid AND a.datid <> here)
           AND NOT EXISTS (SELECT FROM pg_prepared_xact() AS p
                            WHERE p.transaction = number::xid AND p.dbid <> here);
    END IF;
    RETURN least(ours, pg_snapshot_xmax(seen)::text::int8,
                 pg_current_xact_id_if_assigned()::text::int8);
END $$;

-- The horizon keeps the offset that a restored dump may have given it (fhir_store/migrate.py).
DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE FUNCTION change_horizon() RETURNS int8 LANGUAGE sql STABLE'
            ' AS $f$ SELECT finished_below() + '
            || change_horizon() - pg_snapshot_xmin(pg_current_snapshot())::text::int8 || ' $f$';
END $$;
