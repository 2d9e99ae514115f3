"""`qiao console`: the pages for people who work with messages and maps."""

import asyncio

import typer

from ops.cli import CHECK_FAILED
from ops.console_build import ConsolePages
from ops.settings import read_settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The console's pages.")


@app.callback()
def root() -> None:
    """Build and find the console's pages."""


@app.command()
def build() -> None:
    """Build the pages into QIAO_HOME/console, where `qiao serve` finds them."""
    pages = ConsolePages(home=read_settings().home.resolve())
    typer.echo("building …", err=True)
    asyncio.run(pages.build())
    found = pages.assets()
    if found.folder is None:
        typer.echo(f"{found.why_en} / {found.why_zh}", err=True)
        raise typer.Exit(CHECK_FAILED)
    typer.echo(str(found.folder))
