"""`qiao import residents`: a sheet of residents into the store, or only counted."""

import asyncio
import hashlib
import json
import pathlib
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from care.identity.residents import answer_sheet, template
from care.identity.sheets import CSV, XLSX
from fhir_store.import_reading import import_context
from fhir_store.store import make_pool
from ops.cli import PARTIAL, USAGE
from ops.command_database import reached_database
from ops.laws import lawful_store
from ops.settings import read_settings
from routes.operations.resident_import import Report, import_reads, read_file

_KINDS = {".xlsx": XLSX, ".csv": CSV}
_STATEMENT_SECONDS = 60.0


def import_residents(
    path: Annotated[pathlib.Path, typer.Argument(help="An .xlsx or .csv as the template has it.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing, say what would become of each row.")
    ] = False,
    write_template: Annotated[
        bool, typer.Option("--template", help="Write the empty sheet to PATH, and no more.")
    ] = False,
    report: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where the sheet goes with refused rows in red; PATH-checked.xlsx."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Bring residents in by their ID cards; who is here already is brought up to date.

    Exit code 5 where rows were refused: the report is the same sheet, those rows red, with reasons.
    """
    if write_template:
        path.write_bytes(template())
        typer.echo(f"{path}. Next: fill it in, then qiao import residents --dry-run {path}")
        return
    kind = _KINDS.get(path.suffix.lower())
    if kind is None or not path.is_file():
        typer.echo(
            f"{path} is no .xlsx or .csv file. "
            "Next: qiao import residents --template residents.xlsx",
            err=True,
        )
        raise typer.Exit(USAGE)
    settings = read_settings()
    data = path.read_bytes()
    began = time.monotonic()
    sheet, reads = read_file(data, kind, settings.test_regions.split(","))
    columns = (TextColumn("residents"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    console = Console(stderr=True)
    with (
        reached_database(settings) as url,
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
    ):
        task = progress.add_task("residents", total=len(reads))

        async def show(done: int, _total: int) -> None:
            progress.update(task, completed=done)

        async def run() -> Report:
            pool = make_pool(
                url, size=2, statement_seconds=_STATEMENT_SECONDS, name="qiao import residents"
            )
            async with pool:
                context = import_context(hashlib.sha256(data).digest())
                return await import_reads(
                    lawful_store(pool), reads, context, is_dry=dry_run, on_progress=show
                )

        found = asyncio.run(run())
    counts = {**found.counts(), "seconds": round(time.monotonic() - began, 1), "dry_run": dry_run}
    typer.echo(json.dumps(counts) if as_json else ", ".join(f"{k} {v}" for k, v in counts.items()))
    if found.refused:
        target = report or path.with_name(f"{path.stem}-checked.xlsx")
        target.write_bytes(answer_sheet(sheet, found.results))
        typer.echo(f"Next: mend the red rows of {target} and import it again.", err=True)
        raise typer.Exit(PARTIAL)
