-- What search needs beside the index rows.

-- The types in the order of a default search: newest first, stable while others write.
CREATE INDEX resource_tid ON resource (tid, rid) WHERE NOT del;
-- In which systems a code is in use: composites asked without a system.
CREATE INDEX code_dict_code ON code_dict (pid, code);

-- Words of the narrative and of the whole content, filled behind the writes (search_text_index.py).
CREATE TABLE ix_text (
    rid      int8 PRIMARY KEY,
    text     tsvector NOT NULL,
    content  tsvector NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
CREATE INDEX ix_text_text ON ix_text USING gin (text);
CREATE INDEX ix_text_content ON ix_text USING gin (content);

-- How far work that follows the writes has come.
CREATE TABLE search_progress (
    name  text PRIMARY KEY,
    txid  int8 NOT NULL DEFAULT 0,
    rid   int8 NOT NULL DEFAULT 0
);
INSERT INTO search_progress (name) VALUES ('text');

-- Custom search parameters: the facts a process needs to index and to search with them.
ALTER TABLE sparam
    ADD COLUMN url text,
    ADD COLUMN targets text[] NOT NULL DEFAULT '{}',
    ADD COLUMN built_rid int8 NOT NULL DEFAULT 0,    -- every resource up to here has its rows
    ADD COLUMN until_rid int8 NOT NULL DEFAULT 0;    -- the last resource written without them
CREATE UNIQUE INDEX sparam_code ON sparam (tid, code);
