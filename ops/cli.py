"""The `qiao` command. A module `ops/commands/<name>.py` with an `app` is the command `<name>`."""

import importlib
import importlib.metadata
import pathlib
import sys
from typing import Any

import typer
import typer.core
import typer.main

from conformance.problem import Problem

OK, CHECK_FAILED, USAGE, CANNOT_REACH, REFUSED, PARTIAL = range(6)
"""Exit codes, the same for every command."""


_COMPLETION = ("install_completion", "show_completion")


class CommandsOnDemand(typer.core.TyperGroup):
    """Imports a command's module when the command is asked for, so that each starts quickly."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *_modules()])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command, or None where there is none of that name."""
        known = super().get_command(ctx, cmd_name)
        if known or cmd_name not in (modules := _modules()):
            return known
        command = typer.main.get_command(importlib.import_module(modules[cmd_name]).app)
        # Completion belongs to `qiao` as a whole; typer offers it with each command made apart.
        command.params = [one for one in command.params if one.name not in _COMPLETION]
        return command


def _modules() -> dict[str, str]:
    """Return the module of each command; one named like a word of Python ends in `_` (PEP 8)."""
    stems = [path.stem for path in (pathlib.Path(__file__).parent / "commands").glob("[!_]*.py")]
    return {stem.rstrip("_").replace("_", "-"): f"ops.commands.{stem}" for stem in stems}


app = typer.Typer(
    name="qiao",
    cls=CommandsOnDemand,
    help="Qiao (桥): HL7–FHIR hub for primary care and maternal health.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def root() -> None:
    """Qiao (桥): HL7–FHIR hub for primary care and maternal health."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(importlib.metadata.version("qiao"))


def main() -> None:
    """Run the command line; a failure we can name ends in its advice, not in a stack trace."""
    try:
        app()
    except Problem as problem:
        for issue in problem.issues:
            place = f" ({issue.expression})" if issue.expression else ""
            typer.echo(f"{issue.text_en} / {issue.text_zh}{place}", err=True)
            if issue.fix_en:
                typer.echo(f"Next: {issue.fix_en} / {issue.fix_zh}", err=True)
        sys.exit(CHECK_FAILED)
    except OSError as refusal:
        if refusal.filename is None:
            typer.echo(f"{refusal}\nNext: qiao doctor", err=True)
            sys.exit(CANNOT_REACH)
        typer.echo(f"{refusal.filename}: {refusal.strerror}", err=True)
        typer.echo(
            "Next: name a file or folder that you may read, or write where it goes", err=True
        )
        sys.exit(USAGE)
