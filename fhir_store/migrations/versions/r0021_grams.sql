-- What a resource's texts contain, in pairs of characters mixed with the parameter's number: one row
-- and one entry of a GIN index instead of one for each text. A search for a part of a text takes the
-- resources from here and compares their texts. A resource may have several rows: what a custom
-- parameter adds to older resources is a row of its own.
CREATE TABLE ix_gram (
    rid  int8 NOT NULL,
    g    int4[] NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);
INSERT INTO ix_gram (rid, g)
SELECT s.rid, array_agg(DISTINCT u.gram) FROM ix_str s CROSS JOIN LATERAL unnest(s.g) AS u (gram)
 GROUP BY s.rid;
CREATE INDEX ix_gram_g ON ix_gram USING gin (g);
CREATE INDEX ix_gram_r ON ix_gram (rid);
DROP INDEX ix_str_g;
ALTER TABLE ix_str DROP COLUMN g;
