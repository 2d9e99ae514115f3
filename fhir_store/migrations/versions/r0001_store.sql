-- The record store: dictionaries, resources with their history, search index, audit, claims.
-- Runs on PostgreSQL 15 and later without any extension.

-- change_number: the order of commits. A transaction's number is not visible as "finished" before
-- change_horizon() has passed it, so a reader that stops there misses nothing and sees nothing twice.
-- The offset 0 is replaced when a dump is restored into a younger cluster (fhir_store/migrate.py).
CREATE FUNCTION change_number() RETURNS int8 LANGUAGE sql STABLE
    AS $$ SELECT pg_current_xact_id()::text::int8 + 0 $$;
CREATE FUNCTION change_horizon() RETURNS int8 LANGUAGE sql STABLE
    AS $$ SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8 + 0 $$;

-- Dictionaries: append-only, cached by every process.
CREATE TABLE rtype (
    tid   int2 PRIMARY KEY,                 -- fhir_store/keys.py TYPES
    name  text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE sparam (
    pid         int4 PRIMARY KEY,
    tid         int2 NOT NULL,
    code        text COLLATE "C" NOT NULL,
    type        text NOT NULL,
    expr        text,
    state       text NOT NULL,
    generation  int4 NOT NULL DEFAULT 0
);
CREATE TABLE sysuri (                       -- code and identifier systems; 0 means none
    sid  int4 PRIMARY KEY,
    uri  text COLLATE "C" NOT NULL
);
CREATE TABLE code_dict (                    -- codes in use, without identifiers
    pid      int4 NOT NULL,
    sid      int4 NOT NULL,
    code     text COLLATE "C" NOT NULL,
    display  text,
    PRIMARY KEY (pid, sid, code)
);

-- One row per logical resource: its current version, or its tombstone.
CREATE SEQUENCE rid_seq AS int8 INCREMENT BY 64;     -- one value hands a process 64 numbers
CREATE TABLE resource (
    rid    int8 PRIMARY KEY,                -- from the sequence; never changes, never reused
    rkey   int8 NOT NULL,                   -- hash64("Type/id"): what references point at
    tid    int2 NOT NULL,
    fid    text COLLATE "C" NOT NULL,
    ver    int4 NOT NULL,
    lu     timestamptz(3) NOT NULL,
    txid   int8 NOT NULL DEFAULT change_number(),
    op     "char" NOT NULL,                 -- c POST, u PUT, p PATCH, d DELETE
    del    bool NOT NULL DEFAULT false,
    chash  int8,                            -- content without version and time: finds unchanged writes
    pset   int2[],                          -- parameters that have a value: answers :missing
    body   text                             -- final bytes incl. meta.versionId and lastUpdated
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE UNIQUE INDEX resource_fid  ON resource (tid, fid) INCLUDE (rid, ver, del);
CREATE INDEX        resource_rkey ON resource (rkey);
CREATE INDEX        resource_lu   ON resource (tid, lu, rid);
CREATE INDEX        resource_all_lu ON resource (lu, rid);
CREATE INDEX        resource_txid ON resource (txid, rid);

-- Superseded versions and tombstones only: a create writes nothing here. Not partitioned: the
-- records are kept for decades, and (rid, ver) stays a real key.
CREATE TABLE resource_history (
    rid   int8 NOT NULL,
    ver   int4 NOT NULL,
    tid   int2 NOT NULL,
    lu    timestamptz(3) NOT NULL,
    txid  int8 NOT NULL,
    op    "char" NOT NULL,
    body  text,
    PRIMARY KEY (rid, ver)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX resource_history_lu  ON resource_history (lu, rid, ver);
CREATE INDEX resource_history_tid ON resource_history (tid, lu, rid, ver);

-- Search index: rows are hashes and belong to resource.rid.
CREATE TABLE ix_token (h int8 NOT NULL, rid int8 NOT NULL, sid int4 NOT NULL)
    WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX ix_token_h ON ix_token (h, rid) INCLUDE (sid);
CREATE INDEX ix_token_r ON ix_token (rid);

CREATE TABLE ix_ref (tgt int8 NOT NULL, pid int4 NOT NULL, rid int8 NOT NULL)
    WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX ix_ref_t ON ix_ref (tgt, pid, rid);
CREATE INDEX ix_ref_r ON ix_ref (rid, pid) INCLUDE (tgt);

CREATE TABLE ix_date (h int8 NOT NULL, lo int8 NOT NULL, hi int8 NOT NULL, rid int8 NOT NULL)
    WITH (autovacuum_vacuum_insert_scale_factor = 0.02);    -- µs UTC
CREATE INDEX ix_date_lo ON ix_date (h, lo, rid) INCLUDE (hi);
CREATE INDEX ix_date_hi ON ix_date (h, hi, rid) INCLUDE (lo);
CREATE INDEX ix_date_w  ON ix_date (h, rid) INCLUDE (lo, hi);
CREATE INDEX ix_date_r  ON ix_date (rid);

CREATE TABLE ix_num (h int8 NOT NULL, lo float8 NOT NULL, hi float8 NOT NULL, rid int8 NOT NULL)
    WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX ix_num_lo ON ix_num (h, lo, rid) INCLUDE (hi);
CREATE INDEX ix_num_hi ON ix_num (h, hi, rid) INCLUDE (lo);
CREATE INDEX ix_num_w  ON ix_num (h, rid) INCLUDE (lo, hi);
CREATE INDEX ix_num_r  ON ix_num (rid);

CREATE TABLE ix_str (
    h    int8 NOT NULL,
    v    text COLLATE "C" NOT NULL,          -- folded
    rid  int8 NOT NULL,
    x    int4 NOT NULL,                      -- check of the unfolded text, for :exact
    g    int4[]                              -- pairs of characters, for :contains
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX ix_str_v ON ix_str (h, v, rid) INCLUDE (x);
CREATE INDEX ix_str_g ON ix_str USING gin (g);
CREATE INDEX ix_str_r ON ix_str (rid);

-- Audit: one row per access, committed with the write and unchained, so that writers do not queue.
CREATE TABLE audit (
    seq       int8 GENERATED ALWAYS AS IDENTITY,
    txid      int8 NOT NULL DEFAULT change_number(),
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    trace_id  text NOT NULL,
    source    text,
    action    text NOT NULL,                -- create, update, patch, delete, read, search, …
    tid       int2,
    fid       text COLLATE "C",
    ver       int4,
    detail    text,
    PRIMARY KEY (txid, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX audit_at ON audit USING brin (at);

-- Seals: each covers the audit rows of a span of finished transactions and chains to the one before.
CREATE TABLE audit_seal (
    number     int8 PRIMARY KEY,
    from_txid  int8 NOT NULL,               -- included
    to_txid    int8 NOT NULL,               -- excluded
    rows       int8 NOT NULL,
    sealed_at  timestamptz NOT NULL DEFAULT now(),
    previous   bytea NOT NULL,
    hash       bytea NOT NULL
);

-- Claims: a key of a kind has one holder at any time. No extension needed: two ranges meet.
CREATE TABLE claim (
    k       int8 NOT NULL,                  -- hash64(kind, key)
    kind    text NOT NULL,
    key     text NOT NULL,
    period  tstzrange NOT NULL,
    holder  text NOT NULL,
    txid    int8 NOT NULL DEFAULT change_number(),
    CONSTRAINT claim_once EXCLUDE USING gist (int8range(k, k, '[]') WITH &&, period WITH &&)
);
CREATE INDEX claim_holder ON claim (holder, kind);

-- Idempotency keys: the stored answer of a write, in the commit of that write.
CREATE TABLE idempotency (
    k             int8 PRIMARY KEY,         -- hash64(actor, key)
    request_hash  bytea NOT NULL,
    status        int2 NOT NULL,
    headers       text NOT NULL,            -- JSON object
    body          bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_age ON idempotency (created_at);

-- lz4 costs less than PostgreSQL's own compression, where the server was built with it.
DO $$
BEGIN
    ALTER TABLE resource ALTER COLUMN body SET COMPRESSION lz4;
    ALTER TABLE resource_history ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;
