"""The database of one run: the server that is named, or the embedded one, migrated."""

import contextlib
from collections.abc import Iterator

import psycopg

from fhir_store.migrate import upgrade
from ops.embedded_postgres import PostgresUnavailable, running
from ops.settings import Settings

OLDEST = 150_000


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
        with psycopg.connect(url, connect_timeout=10) as connection:
            version = connection.info.server_version
    except psycopg.OperationalError as failure:
        first = str(failure).strip().splitlines()[0]
        message = f"PostgreSQL cannot be reached: {first}. Next: check QIAO_DATABASE_URL"
        raise PostgresUnavailable(message) from None
    if version < OLDEST:
        message = f"PostgreSQL {version // 10000} is too old. Next: use version 15 or later"
        raise PostgresUnavailable(message)
