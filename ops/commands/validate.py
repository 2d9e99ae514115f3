"""`qiao validate`: check resources in files; needs no running hub."""

import json
import pathlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from conformance import documents, structure
from conformance.cphc import artefacts
from conformance.fhirpath import Ports
from conformance.problem import Issue, Problem, to_operation_outcome
from conformance.profiles import Profiles
from conformance.terminology.library import Library
from conformance.terminology.port import terminology_of
from conformance.validation import ENFORCE, OFF, WARN, Validator
from ops.cli import CHECK_FAILED, USAGE

app = typer.Typer(rich_markup_mode=None)

# Name, bytes, and the line of the file on which they begin.
Input = tuple[str, bytes, int]

_ERRORS = {"error", "fatal"}


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(help="Resources as JSON or XML, NDJSON, folders; - reads stdin.")
    ],
    profile: Annotated[
        list[str] | None, typer.Option("--profile", "-p", help="A profile to check, by its url.")
    ] = None,
    definitions: Annotated[
        list[str] | None,
        typer.Option("--definitions", "-d", help="Files or folders with profiles and value sets."),
    ] = None,
    claimed: Annotated[
        str, typer.Option(help="What meta.profile claims: enforce, warn or off.")
    ] = ENFORCE,
    trust_references: Annotated[
        bool,
        typer.Option(
            "--trust-references",
            help="Only warn of references that are neither absolute nor Type/id.",
        ),
    ] = False,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Print warnings and information too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line a resource, with OperationOutcome.")
    ] = False,
) -> None:
    """Check resources against R4 and profiles: where, what is wrong and how to mend it."""
    validator = validator_over(definitions or [], claimed)
    validator = replace(validator, trusts_references=trust_references)
    refused = checked = 0
    for name, data, first_line in _shown(_inputs(files)):
        found = _check(validator, data, profile or [])
        issues = [_moved(issue, first_line) for issue in found]
        checked += 1
        is_refused = any(issue.severity in _ERRORS for issue in issues)
        refused += is_refused
        if as_json:
            outcome = to_operation_outcome(issues)
            line = {"file": name, "line": first_line, "valid": not is_refused, "outcome": outcome}
            typer.echo(json.dumps(line, ensure_ascii=False))
        else:
            _print(name, [issue for issue in issues if warnings or issue.severity in _ERRORS])
    typer.echo(f"{checked} checked, {refused} refused", err=True)
    if refused:
        raise typer.Exit(CHECK_FAILED)


def _shown(inputs: Iterable[Input]) -> Iterator[Input]:
    """Yield the inputs and count them on the terminal."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} checked"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("check", total=None)
        for one in inputs:
            yield one
            progress.advance(task)


def _inputs(names: Iterable[str]) -> Iterator[Input]:
    """Yield name, bytes and first line of every resource."""
    for name in names:
        if name == "-":
            yield name, sys.stdin.buffer.read(), 1
            continue
        path = pathlib.Path(name)
        if not path.exists():
            typer.echo(f"There is no file {name}. / 没有文件 {name}。", err=True)
            raise typer.Exit(USAGE)
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in {".json", ".xml", ".ndjson"})
        for file in found:
            yield from _resources_in(file)


def _resources_in(file: pathlib.Path) -> Iterator[Input]:
    data = file.read_bytes()
    if file.suffix != ".ndjson":
        yield str(file), data, 1
        return
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield str(file), line, number


def validator_over(folders: Iterable[str], claimed: str = ENFORCE) -> Validator:
    """Return a validator that knows R4's definitions, our own and those in the folders."""
    if claimed not in (ENFORCE, WARN, OFF):
        raise typer.BadParameter("--claimed takes enforce, warn or off")
    given = [_definition(name, data) for name, data, _ in _inputs(folders)]
    known = [*given, *artefacts.package()]
    terminology = terminology_of(Library(known))
    return Validator(
        profiles=Profiles(known), ports=Ports(terminology=terminology), claimed=claimed
    )


def _definition(name: str, data: bytes) -> dict[str, Any]:
    """Return a definition; say what is wrong with one that has not R4's form, and end.

    What is only missing, such as a status, is let be: it can be used without.
    """
    try:
        document = documents.read(data)
        found = structure.check(document.resource, constraints=False, narratives=False)
        issues = documents.with_places(document, found)
    except Problem as problem:
        issues = list(problem.issues)
    wrong = (issue for issue in issues if issue.key != "missing-element")
    errors = [issue for issue in wrong if issue.severity in _ERRORS]
    if errors:
        typer.echo("A definition cannot be used. / 定义无法使用。", err=True)
        _print(name, errors, err=True)
        raise typer.Exit(USAGE)
    return document.resource


def _check(validator: Validator, data: bytes, profiles: list[str]) -> list[Issue]:
    try:
        document = documents.read(data)
        found = validator.check(document.resource, profiles=profiles)
    except Problem as problem:
        return list(problem.issues)
    return documents.with_places(document, found)


def _moved(issue: Issue, first_line: int) -> Issue:
    """Count lines from the start of the file where one file has a resource on each line."""
    if first_line == 1 or issue.line is None:
        return issue
    values: dict[str, Any] = {name: getattr(issue, name) for name in Issue.__slots__}
    return Issue(**{**values, "line": issue.line + first_line - 1})


def _print(name: str, issues: Iterable[Issue], *, err: bool = False) -> None:
    for issue in issues:
        place = f"{name}:{issue.line or 1}:{issue.column or 1}"
        where = f" {issue.expression}" if issue.expression else ""
        typer.echo(f"{place}: {issue.severity} {issue.key}{where}", err=err)
        typer.echo(f"    {issue.text_en} / {issue.text_zh}", err=err)
        if issue.fix_en:
            typer.echo(f"    Next: {issue.fix_en} / {issue.fix_zh}", err=err)
