"""The database of one command: what it works on, and what it says where that cannot be reached."""

import asyncio
import contextlib
import errno
import os
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
    settings: Settings,
    *,
    failures: tuple[type[Exception], ...] = (psycopg.OperationalError,),
    makes: bool = True,
) -> Iterator[str]:
    """Give the database's URL; one of `failures` ends the command with its advice and code 3.

    A command that only looks (`makes` false) makes no database where there is none: in the wrong
    folder it would find an empty one of its own.
    """
    expected: tuple[type[Exception], ...] = (PostgresUnavailable, *failures)
    if not makes and settings.database_url is None and not _is_there(settings):
        home = settings.home.absolute()
        typer.echo(f"No hub has worked in the data folder {home} yet.", err=True)
        typer.echo("Next: qiao up, or set QIAO_HOME to the data folder of your hub", err=True)
        raise typer.Exit(CANNOT_REACH)
    try:
        with database(settings) as url:
            yield url
    except expected as failure:
        said = str(failure)
        if isinstance(failure, OSError) and failure.errno == errno.ENOSPC:
            said = f"The disk of the data folder {settings.home.absolute()} is full"
        typer.echo(f"{said}\nNext: qiao doctor", err=True)
        raise typer.Exit(CANNOT_REACH) from None


def _is_there(settings: Settings) -> bool:
    # A link where the server runs as another user, whose folder may be closed to us.
    return os.path.lexists(settings.home / "postgres")


def with_database(
    work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]], *, autocommit: bool = False
) -> T:
    """Run `work` in one transaction, or in one for each statement; the hub need not stop for it."""

    async def run(url: str) -> T:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=autocommit)
        async with connection:
            return await work(connection)

    with reached_database(read_settings(), makes=False) as url:
        return asyncio.run(run(url))
