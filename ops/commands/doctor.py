"""`qiao doctor`: what is missing on this machine, and the fix."""

import dataclasses
import json
from typing import Annotated

import typer

from ops.cli import CANNOT_REACH
from ops.doctor import examine
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name what is missing on this machine and how to mend it."""
    findings = list(examine(read_settings()))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(f) for f in findings], ensure_ascii=False))
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "MISSING" if finding.required else "absent "
            typer.echo(f"{mark} {finding.name}: {finding.seen}")
            if not finding.ok:
                typer.echo(f"        Next: {finding.fix}")
    if any(not finding.ok and finding.required for finding in findings):
        raise typer.Exit(CANNOT_REACH)
