"""The `qiao` command; each group of commands stands in a module of its own."""

import importlib.metadata

import typer

app = typer.Typer(
    name="qiao",
    help="Qiao (桥): HL7–FHIR hub for primary care and maternal health.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Keep `qiao` a group even while it has a single command."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("qiao"))


def main() -> None:
    """Run the command line."""
    app()
