"""A fresh database for one benchmark, on the named server or on an embedded one of its own."""

import contextlib
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg

from fhir_store.migrate import upgrade
from ops.embedded_postgres import temporary
from ops.settings import Settings


@contextlib.contextmanager
def fresh_database() -> Iterator[str]:
    """Give the URL of an empty migrated database on a durable server; it is dropped afterwards."""
    with contextlib.ExitStack() as stack:
        server = Settings().database_url
        if server is None:
            server = stack.enter_context(temporary("qiao-b-"))
        name = f"qiao_bench_{uuid.uuid4().hex[:12]}"
        url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        _run(server, f'CREATE DATABASE "{name}"')
        stack.callback(_run, server, f'DROP DATABASE "{name}" WITH (FORCE)')
        upgrade(url)
        yield url


def _run(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())
