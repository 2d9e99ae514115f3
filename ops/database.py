"""The database of one run: the server that is named, or the embedded one, migrated."""

import contextlib
from collections.abc import Iterator

import psycopg

from fhir_store.migrate import current_revision, newest_revision, upgrade
from ops.embedded_postgres import PostgresUnavailable, running
from ops.settings import Settings

OLDEST = 150_000
CONNECT_SECONDS = 10
CANNOT_USE = (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege)
"""What a connection and the first question may raise."""


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Give the URL of a database of version 15 or later; raises PostgresUnavailable."""
    if settings.database_url is None:
        with running(settings.home) as server:
            upgrade(server.url)
            yield server.url
        return
    _require_usable(settings.database_url)
    upgrade(settings.database_url)
    yield settings.database_url


def _require_usable(url: str) -> None:
    try:
        lacks = shortcomings(url)
    except CANNOT_USE as failure:
        first = str(failure).strip().splitlines()[0]
        message = f"PostgreSQL cannot be reached: {first}. Next: check QIAO_DATABASE_URL"
        raise PostgresUnavailable(message) from None
    for what, fix in lacks:
        raise PostgresUnavailable(f"PostgreSQL: {what}. Next: {fix}")


def shortcomings(url: str) -> list[tuple[str, str]]:
    """Return what keeps the hub from working on a database, each with the fix.

    Raises one of CANNOT_USE where it cannot be asked.
    """
    found = []
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        info = connection.info
        row = connection.execute("select has_schema_privilege('public', 'create')").fetchone()
        if info.server_version < OLDEST:
            what = f"version {info.server_version // 10000} is too old"
            found.append((what, "use version 15 or later"))
        encoding = info.parameter_status("server_encoding")
        if encoding != "UTF8":
            what = f"the encoding of the database {info.dbname} is {encoding}"
            fix = f"createdb --template=template0 --encoding=UTF8 {info.dbname}_utf8, and use that"
            found.append((what, fix))
        if row != (True,) and current_revision(url) != newest_revision():
            what = f"{info.user} may not create tables in {info.dbname}"
            fix = f"as its owner: GRANT CREATE ON SCHEMA public TO {info.user}"
            found.append((what, fix))
    return found
