"""Brings a database to the newest schema, one process at a time."""

import pathlib

import psycopg

_LOCK = 7_106_310_001  # any number nobody else uses; held while revisions run
_FOLDER = pathlib.Path(__file__).parent / "migrations"


def upgrade(database_url: str) -> None:
    """Run the missing revisions under an advisory lock; blocking, so call it in a thread.

    psycopg.OperationalError where the server goes away meanwhile.
    """
    with psycopg.connect(database_url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        if current_revision(database_url) != newest_revision():
            _run_revisions(database_url)
        _keep_change_numbers_rising(guard)


def newest_revision() -> str:
    """Return the revision this version of the hub wants: the highest number in the folder."""
    return max(path.stem[1:5] for path in (_FOLDER / "versions").glob("r[0-9]*.py"))


def _run_revisions(database_url: str, target: str = "head") -> None:
    # Imported here: they cost a start half a second, and most starts have nothing to migrate.
    import sqlalchemy
    from alembic import command
    from alembic.config import Config

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database_url),
        poolclass=sqlalchemy.pool.NullPool,
    )
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("path_separator", "os")
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target)
            connection.commit()
    except sqlalchemy.exc.OperationalError as away:
        # The callers know the driver's errors alone.
        raise psycopg.OperationalError(str(away.orig)) from None


def current_revision(database_url: str) -> str | None:
    """Return the revision a database stands at, None before the first."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        known = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        if known is None or not known[0]:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def _keep_change_numbers_rising(connection: psycopg.Connection) -> None:
    """Move the change numbers on where a dump was restored into a cluster with younger ones.

    They are transaction numbers plus an offset, and a new cluster starts counting anew.
    """
    row = connection.execute(
        "SELECT greatest((SELECT max(txid) FROM resource), (SELECT max(txid) FROM audit),"
        " (SELECT max(to_txid) FROM audit_seal)), pg_current_xact_id()::text::int8, change_number()"
    ).fetchone()
    assert row is not None
    highest, raw, current = row
    if highest is None or current > highest:
        return
    offset = highest - raw + 1
    for name, source in (
        ("change_number", "pg_current_xact_id()"),
        ("change_horizon", "finished_below()"),
    ):
        connection.execute(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS int8 LANGUAGE sql STABLE"
            f" AS $$ SELECT {source}::text::int8 + {offset:d} $$"
        )
