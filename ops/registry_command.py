"""`qiao import registry`: a registry's list of institutions into the store, or only counted."""

import asyncio
import hashlib
import json
import pathlib
from typing import Annotated

import typer

from conformance.problem import Issue, Problem
from fhir_store.import_reading import import_context
from fhir_store.store import make_pool
from mappings.engine.library import load
from ops.cli import CHECK_FAILED, USAGE
from ops.command_database import reached_database
from ops.laws import lawful_store
from ops.registry_import import RefusedList, Report, read_list, write_list
from ops.settings import read_settings
from ops.workbench.tables import is_table, tables_of

_STATEMENT_SECONDS = 60.0


def import_registry(
    path: Annotated[
        pathlib.Path, typer.Argument(help="The list: .xlsx, or .csv with list.医生.csv beside it.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing, say what would become of it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Bring institutions and their doctors in by their codes; what is here is brought up to date.

    The columns are those of a flat map (`institution-list`). The list goes in whole or not at all:
    ends with 1 where rows are refused, each named with what to do.
    """
    if not is_table(path) or not path.is_file():
        typer.echo(f"{path} is no .xlsx or .csv file.", err=True)
        raise typer.Exit(USAGE)
    try:
        messages, report = read_list(load(), *tables_of(path))
    except Problem as problem:
        raise _refused(path, [(0, issue) for issue in problem.issues]) from None
    except RefusedList as refused:
        raise _refused(path, refused.faults) from None
    for number, note in report.notes:
        _tell(path, number, note)

    async def run(url: str) -> None:
        pool = make_pool(
            url, size=1, statement_seconds=_STATEMENT_SECONDS, name="qiao import registry"
        )
        async with pool:
            context = import_context(hashlib.sha256(path.read_bytes()).digest())
            await write_list(lawful_store(pool), messages, report, context, is_dry=dry_run)

    with reached_database(read_settings()) as url:
        asyncio.run(run(url))
    _print(report, is_dry=dry_run, as_json=as_json)


def _print(report: Report, *, is_dry: bool, as_json: bool) -> None:
    result = {
        "records": report.records,
        "made": dict(sorted(report.made.items())),
        "changed": dict(sorted(report.changed.items())),
        "dry_run": is_dry,
    }
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    typer.echo(
        f"{report.records} records; "
        f"made: {_counts(result['made'])}; changed: {_counts(result['changed'])}"
        + ("; nothing written (--dry-run)" if is_dry else "")
    )


def _counts(by_type: object) -> str:
    counts = by_type.items() if isinstance(by_type, dict) else ()
    return ", ".join(f"{count} {type_}" for type_, count in counts) or "nothing"


def _refused(path: pathlib.Path, faults: list[tuple[int, Issue]]) -> typer.Exit:
    for number, issue in faults:
        _tell(path, number, issue)
    typer.echo(f"{len(faults)} faults; nothing is written", err=True)
    return typer.Exit(CHECK_FAILED)


def _tell(path: pathlib.Path, number: int, issue: Issue) -> None:
    where = f"{path.name} row {number}" if number else path.name
    typer.echo(f"{where}: {issue.text_en} / {issue.text_zh}", err=True)
    if issue.fix_en:
        typer.echo(f"  Next: {issue.fix_en} / {issue.fix_zh}", err=True)
