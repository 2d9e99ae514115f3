"""`qiao import`: NDJSON files and Bundles into the store."""

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_store.import_progress import Counts
from ops.cli import PARTIAL, USAGE
from ops.command_database import reached_database
from ops.importing import (
    Outcome,
    Stretch,
    drop_repeats,
    import_stretches,
    open_stretches,
    shifts,
    stretches_of,
    total_of,
)
from ops.registry_command import import_registry
from ops.residents_command import import_residents
from ops.settings import read_settings


class FilesUnlessNamed(typer.core.TyperGroup):
    """Takes whatever is no command of its own for files."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command for files before arguments that name none."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["files", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=FilesUnlessNamed,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Bring data in: FHIR files (`qiao import FILE…`), residents or institutions from a sheet.",
)
app.command("residents")(import_residents)
app.command("registry")(import_registry)
# A process waits for the server for a third of its time, so one more than there are processors.
WORKERS = (os.cpu_count() or 1) + 1
_KINDS = {".ndjson", ".json"}


@app.command("files")
def import_command(
    paths: Annotated[
        list[pathlib.Path],
        typer.Argument(help=".ndjson (a resource a line), .json (a Bundle), or folders of them."),
    ],
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = WORKERS,
    report: Annotated[
        pathlib.Path, typer.Option(help="Where refused lines are listed, one JSON a line.")
    ] = pathlib.Path("import-errors.ndjson"),
    again: Annotated[
        bool, typer.Option("--again", help="Also what is noted as imported already.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Bring resources in under their ids; call it again to go on after an interruption.

    Exit code 5 where some lines were refused; the report says which and why.
    """
    files = list(_files(paths))
    with reached_database(read_settings()) as url:
        stretches = [stretch for file in files for stretch in stretches_of(file)]
        due, before = (stretches, Counts()) if again else open_stretches(url, stretches)
        begin = time.monotonic()
        report.touch()
        outcomes = _import(url, due, workers, report)
    drop_repeats(report)
    total = total_of(outcome.counts for outcome in outcomes)
    result = {
        "files": len(files),
        "lines": total.lines,
        "written": total.written,
        "refused": total.failed,
        "stretches_skipped": len(stretches) - len(due),
        "refused_before": before.failed,
        "seconds": round(time.monotonic() - begin, 1),
    }
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.items()))
    if total.failed or before.failed:
        typer.echo(f"Next: see {report}, mend the lines and import them again.", err=True)
        raise typer.Exit(PARTIAL)
    if not report.stat().st_size:
        report.unlink()


def _files(paths: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.suffix in _KINDS)
        elif path.is_file() and path.suffix in _KINDS:
            yield path
        else:
            typer.echo(f"{path} is no .ndjson or .json file and no folder.", err=True)
            raise typer.Exit(USAGE)


def _import(url: str, due: Sequence[Stretch], workers: int, report: pathlib.Path) -> list[Outcome]:
    """Import all stretches by so many processes."""
    outcomes: list[Outcome] = []
    columns = (TextColumn("import"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    console = Console(stderr=True)
    size = sum(stretch.end - stretch.start for stretch in due)
    with (
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
        concurrent.futures.ProcessPoolExecutor(
            min(workers, len(due)) or 1, mp_context=multiprocessing.get_context("spawn")
        ) as pool,
    ):
        task = progress.add_task("import", total=size)
        running = [
            pool.submit(import_stretches, url, shift, report) for shift in shifts(due, workers)
        ]
        for done in concurrent.futures.as_completed(running):
            for outcome in done.result():
                outcomes.append(outcome)
                progress.advance(task, outcome.stretch.end - outcome.stretch.start)
    return outcomes
