-- What a change of rights touches: a commit that renames one organisation leaves the rights of those
-- who do not hang on it, so that they need not be worked out again. '*' touches everybody.
ALTER TABLE rights_change ADD COLUMN touches text[] NOT NULL DEFAULT '{*}';

-- rights_touched: who and what a version names by reference. What says "deny" may touch anybody; a
-- reference that is written with escapes is not read here.
CREATE FUNCTION rights_touched(body text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN body IS NULL THEN ARRAY[]::text[]
        WHEN position('"deny"' IN body) > 0 OR body ~ '"reference":"[^"]*\\' THEN ARRAY['*']
        ELSE array_remove(ARRAY(
            SELECT DISTINCT substring(
                found[1] FROM '[A-Za-z]+/[A-Za-z0-9.-]{1,64}(?=(?:/_history/[^/]*)?$)')
              FROM regexp_matches(body, '"reference":"([^"]+)"', 'g') AS found), NULL)
    END
$$;

-- One row for each commit, with what its versions name and what those before them did. A commit of
-- very many touches everybody.
CREATE OR REPLACE FUNCTION note_rights_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched text[] := rights_touched(NEW.body)
        || ((SELECT name FROM rtype WHERE tid = NEW.tid) || '/' || NEW.fid);
BEGIN
    IF TG_OP = 'UPDATE' THEN
        touched := touched || rights_touched(OLD.body);
    END IF;
    INSERT INTO rights_change AS kept (txid, touches)
    VALUES (pg_current_xact_id()::text::int8, touched)
        ON CONFLICT (txid, at) DO UPDATE
       SET touches = CASE WHEN cardinality(kept.touches) > 200 THEN ARRAY['*']
                          ELSE kept.touches || EXCLUDED.touches END
     WHERE NOT kept.touches @> ARRAY['*'];
    RETURN NULL;
END $$;

-- rights_seen: the changes that a statement sees; read before rights are worked out.
CREATE FUNCTION rights_seen() RETURNS int8[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(SELECT id FROM rights_change)
$$;

-- rights_generation: another number after each commit that touches one of the keys (NULL: any), of
-- the changes `seen` alone or of all that the statement sees. A transaction's own are left out.
DROP FUNCTION rights_generation();
CREATE FUNCTION rights_generation(keys text[] DEFAULT NULL, seen int8[] DEFAULT NULL)
    RETURNS int8 LANGUAGE sql STABLE AS $$
    SELECT coalesce(bit_xor(hashint8extended(id, 0)), 0) FROM rights_change
     WHERE txid IS DISTINCT FROM pg_current_xact_id_if_assigned()::text::int8
       AND (keys IS NULL OR touches && (keys || '*'::text))
       AND (seen IS NULL OR id = ANY (seen))
$$;

DROP FUNCTION require_rights(int8);
CREATE FUNCTION require_rights(generation int8, keys text[] DEFAULT NULL)
    RETURNS bool LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF rights_generation(keys) <> generation THEN
        RAISE EXCEPTION 'rights have changed' USING ERRCODE = 'QI001';
    END IF;
    RETURN true;
END $$;
