"""Partners' documents in the workbench: what a file becomes, and the document of a Bundle."""

import pathlib
from typing import Any

import typer

from conformance import resource_json
from conformance.problem import Problem
from mappings.document_bundles import content_of, document_bundle
from mappings.document_cases import DocumentCases
from mappings.documents import Documents
from mappings.engine.library import Library
from ops.cli import CHECK_FAILED, USAGE


def is_document(file: pathlib.Path) -> bool:
    """Say whether a file of the command line is a partner's document."""
    return file.suffix == ".xml"


def run_document(library: Library, file: pathlib.Path, *, traced: bool) -> None:
    """Print the Bundle that a document becomes, and what could not be read."""
    data = bytes_of(file)
    documents = Documents(library)
    try:
        name = DocumentCases(library).name_of(data)
        read = documents.read(name, data)
    except Problem as problem:
        raise refused(file, problem) from None
    bundle = document_bundle(library.maps[name], read, traced=traced)
    typer.echo(resource_json.dump(bundle).decode())
    for note in read.notes:
        typer.echo(f"{file.name}: {note.text_en}", err=True)


def back_document(library: Library, file: pathlib.Path, bundle: pathlib.Path | None) -> None:
    """Print the document that a Bundle (or what the file itself becomes) makes."""
    data = bytes_of(file)
    documents = Documents(library)
    try:
        name = DocumentCases(library).name_of(data)
        row_map = library.maps[name]
        given = (
            document_bundle(row_map, documents.read(name, data))
            if bundle is None
            else bundle_of(bundle)
        )
        content, resources = content_of(row_map, given)
        made = documents.compose(name, content, resources=resources)
    except Problem as problem:
        raise refused(file, problem) from None
    typer.echo(made.payload.decode())
    for note in made.notes:
        typer.echo(f"{file.name}: {note.text_en}", err=True)


def bytes_of(file: pathlib.Path) -> bytes:
    """Read a file of the command line; ends with 2 where there is none."""
    if not file.is_file():
        typer.echo(f"{file} is no file that exists", err=True)
        raise typer.Exit(USAGE)
    return file.read_bytes()


def refused(file: pathlib.Path, problem: Problem) -> typer.Exit:
    """Print what is wrong with a file and how to mend it; returns the exit to raise."""
    tell(file.name, problem)
    return typer.Exit(CHECK_FAILED)


def tell(name: str, problem: Problem) -> None:
    """Print what is wrong with a file or message, where, and how to mend it."""
    for issue in problem.issues:
        place = f" ({issue.expression})" if issue.expression else ""
        typer.echo(f"{name}: {issue.text_en.rstrip('.')}{place}. {issue.fix_en}", err=True)


def bundle_of(file: pathlib.Path) -> dict[str, Any]:
    """Read a Bundle; ends with 1 where the file is none, or an entry cannot be told by its URL."""
    try:
        bundle = resource_json.parse(bytes_of(file))
    except Problem as problem:
        raise refused(file, problem) from None
    return require_bundle(file.name, bundle)


def require_bundle(name: str, bundle: dict[str, Any]) -> dict[str, Any]:
    """Return what is a Bundle as `map run` prints it; ends with 1 where it is none."""
    entries = bundle.get("entry")
    is_sound = (
        bundle.get("resourceType") == "Bundle"
        and isinstance(entries, list)
        and all(
            isinstance(one, dict)
            and isinstance(one.get("fullUrl"), str)
            and isinstance(one.get("resource"), dict)
            and isinstance(one["resource"].get("resourceType"), str)
            for one in entries
        )
    )
    if not is_sound:
        typer.echo(
            f"{name}: no Bundle whose entries have fullUrl and resource. "
            "Begin with what `qiao map run` prints and change the resources in it.",
            err=True,
        )
        raise typer.Exit(CHECK_FAILED)
    return bundle
