"""`qiao migrate`: bring the database up to this version."""

import typer

from fhir_store.migrate import current_revision
from ops.command_database import reached_database
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def migrate() -> None:
    """Bring the database up to this version; starting the hub does the same."""
    with reached_database(read_settings()) as url:
        typer.echo(f"schema {current_revision(url)}")
