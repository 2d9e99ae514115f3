"""What `qiao map import` takes: the v2-to-FHIR guide's sheets, or rows of our maps as a sheet."""

import json
import pathlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer

from conformance.problem import Problem
from mappings import guide
from mappings.engine.library import Library
from mappings.engine.rows import FaultyMaps
from ops.cli import CHECK_FAILED, USAGE
from ops.workbench.documents import refused
from ops.workbench.sheets import sheet_differences, write_sheet


def is_guide_sheet(file: pathlib.Path) -> bool:
    """Say whether a file is one of the guide's sheets, by its two lines of headings."""
    return file.suffix == ".csv" and file.is_file() and guide.kind_of(_text(file)) is not None


def import_guide(path: pathlib.Path, out: pathlib.Path | None) -> None:
    """Print a lint report of the guide's CSVs; into `out` go draft maps and ConceptMaps.

    `path` is one of its sheets, or a folder of them.
    """
    files = [path] if path.is_file() else [
        file for file in sorted(path.rglob("*.csv")) if guide.is_named(file.stem)
    ]  # fmt: skip
    if not files or (path.is_file() and guide.kind_of(_text(path)) is None):
        typer.echo(f"{path} is no sheet of the guide and holds none", err=True)
        typer.echo(
            "Next: name the guide's folder `mappings`, one CSV of it, or a .csv or", err=True
        )
        typer.echo("      .xlsx that `qiao map export` wrote", err=True)
        raise typer.Exit(USAGE)
    findings: list[guide.Finding] = []
    counts = Counter[str]()
    for file in files:
        text = _text(file)
        name = guide.name_of(file.stem)
        if guide.kind_of(text) == guide.TABLE:
            concept_map, found = guide.read_concept_map(text, file.stem)
            target, made = f"tables/{name}.json", _json(concept_map)
            counts["tables"] += 1
        else:
            rows, found = guide.read_rows(text, file.stem)
            target, made = "", ""
            if rows:
                target = f"drafts/{name}.yaml"
                made = guide.to_yaml(rows, name, name.partition("-")[2])
                counts["drafts"] += 1
        findings += found
        if out is not None and target:
            (out / target).parent.mkdir(parents=True, exist_ok=True)
            (out / target).write_text(made, encoding="utf-8")
    for one in findings:
        typer.echo(f"{one.file}:{one.line}: {one.text}: {one.cell[:120]!r}. {one.fix}")
    typer.echo(
        f"{counts['tables']} tables, {counts['drafts']} drafts, {len(findings)} findings", err=True
    )


def _json(concept_map: Mapping[str, Any]) -> str:
    return json.dumps(concept_map, ensure_ascii=False, indent=1) + "\n"


def _text(file: pathlib.Path) -> str:
    return file.read_text(encoding="utf-8-sig", errors="replace")


def import_sheet(library: Library, sheet: pathlib.Path, folder: pathlib.Path | None) -> None:
    """Write the rows of a sheet into the maps of a folder and say which files hold them."""
    if not sheet.is_file():
        typer.echo(f"{sheet} is no file that exists", err=True)
        raise typer.Exit(USAGE)
    try:
        written = write_sheet(library, sheet, folder)
    except Problem as problem:
        raise refused(sheet, problem) from None
    except FaultyMaps as faulty:
        for fault in faulty.faults:
            typer.echo(str(fault))
        typer.echo(f"{len(faulty.faults)} faults; nothing is written", err=True)
        raise typer.Exit(CHECK_FAILED) from None
    for name in sorted(written.files):
        typer.echo(f"wrote {name}")
    typer.echo(f"{written.changed} rows changed, {written.added} added", err=True)


def compare_sheet(library: Library, sheet: pathlib.Path) -> None:
    """Say how a sheet differs from the maps; ends with 1 where it does."""
    if not sheet.is_file():
        typer.echo(f"{sheet} is no file that exists", err=True)
        raise typer.Exit(USAGE)
    try:
        found = list(sheet_differences(library, sheet))
    except Problem as problem:
        raise refused(sheet, problem) from None
    for one in found:
        typer.echo(one)
    typer.echo(f"{len(found)} differences", err=True)
    if found:
        raise typer.Exit(CHECK_FAILED)
