-- Imports: which stretches of which file are in, so that an interrupted import goes on where it was.
CREATE TABLE import_stretch (
    source    bytea NOT NULL,               -- digest that knows the file again
    start_at  int8 NOT NULL,                -- byte offset
    lines     int4 NOT NULL,
    written   int4 NOT NULL,
    failed    int4 NOT NULL,
    done_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, start_at)
);
