"""`qiao migrate`: bring the database up to this version."""

import typer

from fhir_store.migrate import current_revision
from ops.cli import CANNOT_REACH
from ops.database import database
from ops.embedded_postgres import PostgresUnavailable
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def migrate() -> None:
    """Bring the database up to this version; starting the hub does the same."""
    try:
        with database(read_settings()) as url:
            typer.echo(f"schema {current_revision(url)}")
    except PostgresUnavailable as failure:
        typer.echo(f"{failure}\nNext: qiao doctor", err=True)
        raise typer.Exit(CANNOT_REACH) from None
