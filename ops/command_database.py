"""The database of one command: what it works on, and what it says where that cannot be reached."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import psycopg
import typer

from ops.cli import CANNOT_REACH
from ops.database import database
from ops.embedded_postgres import PostgresUnavailable
from ops.settings import Settings, read_settings

T = TypeVar("T")


@contextlib.contextmanager
def reached_database(
    settings: Settings, *, failures: tuple[type[Exception], ...] = (psycopg.OperationalError,)
) -> Iterator[str]:
    """Give the database's URL; one of `failures` ends the command with its advice and code 3."""
    expected: tuple[type[Exception], ...] = (PostgresUnavailable, *failures)
    try:
        with database(settings) as url:
            yield url
    except expected as failure:
        typer.echo(f"{failure}\nNext: qiao doctor", err=True)
        raise typer.Exit(CANNOT_REACH) from None


def with_database(
    work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]], *, autocommit: bool = False
) -> T:
    """Run `work` in one transaction, or in one for each statement; the hub need not stop for it."""

    async def run(url: str) -> T:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=autocommit)
        async with connection:
            return await work(connection)

    with reached_database(read_settings()) as url:
        return asyncio.run(run(url))
