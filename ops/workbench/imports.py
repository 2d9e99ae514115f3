"""What `qiao map import` takes: the v2-to-FHIR guide's sheets, or rows of our maps as a sheet."""

import json
import pathlib

import typer

from conformance.problem import Problem
from mappings import guide
from mappings.engine.library import Library
from mappings.engine.rows import FaultyMaps
from ops.cli import CHECK_FAILED, USAGE
from ops.workbench.documents import refused
from ops.workbench.sheets import sheet_differences, write_sheet


def import_guide(folder: pathlib.Path, out: pathlib.Path | None) -> None:
    """Print a lint report of the guide's CSVs; into `out` go draft maps and ConceptMaps."""
    findings: list[guide.Finding] = []
    tables = drafts = 0
    for file in sorted((folder / "codesystems").glob("*.csv")):
        concept_map, found = guide.read_concept_map(_text(file), file.stem)
        findings += found
        tables += 1
        if out is not None:
            target = out / "tables" / f"{guide.name_of(file.stem)}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(concept_map, ensure_ascii=False, indent=1) + "\n")
    for kind in ("segments", "datatypes"):
        for file in sorted((folder / kind).glob("*.csv")):
            rows, found = guide.read_rows(_text(file), file.stem)
            findings += found
            drafts += bool(rows)
            if out is not None and rows:
                name = guide.name_of(file.stem)
                target = out / "drafts" / f"{name}.yaml"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(guide.to_yaml(rows, name, name.partition("-")[2]))
    for one in findings:
        typer.echo(f"{one.file}:{one.line}: {one.text}: {one.cell[:120]}")
    typer.echo(f"{tables} tables, {drafts} drafts, {len(findings)} findings", err=True)


def _text(file: pathlib.Path) -> str:
    return file.read_text(encoding="utf-8-sig")


def import_sheet(library: Library, sheet: pathlib.Path, folder: pathlib.Path | None) -> None:
    """Write the rows of a sheet into the maps of a folder and say which files hold them."""
    if not sheet.exists():
        typer.echo(f"{sheet} does not exist", err=True)
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
    if not sheet.exists():
        typer.echo(f"{sheet} does not exist", err=True)
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
