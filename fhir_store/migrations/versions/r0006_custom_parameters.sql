-- Custom search parameters: a retired one keeps its number, so the code may come again.
DROP INDEX sparam_code;
CREATE UNIQUE INDEX sparam_code ON sparam (tid, code) WHERE state IN ('building', 'active');
ALTER TABLE sparam ADD COLUMN begun_at timestamptz NOT NULL DEFAULT now();
INSERT INTO search_progress (name) VALUES ('parameters');

-- Secrets that all processes of a site share and that nobody has to configure.
CREATE TABLE site_secret (
    name   text PRIMARY KEY,
    value  bytea NOT NULL
);
