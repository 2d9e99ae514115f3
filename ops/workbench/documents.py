"""Partners' documents in the workbench: what a file becomes, and the document of a Bundle."""

import pathlib

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
    data = _bytes_of(file)
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
    data = _bytes_of(file)
    documents = Documents(library)
    try:
        name = DocumentCases(library).name_of(data)
        row_map = library.maps[name]
        given = (
            document_bundle(row_map, documents.read(name, data))
            if bundle is None
            else resource_json.parse(_bytes_of(bundle))
        )
        content, resources = content_of(row_map, given)
        made = documents.compose(name, content, resources=resources)
    except Problem as problem:
        raise refused(file, problem) from None
    typer.echo(made.payload.decode())
    for note in made.notes:
        typer.echo(f"{file.name}: {note.text_en}", err=True)


def _bytes_of(file: pathlib.Path) -> bytes:
    if not file.exists():
        typer.echo(f"{file} does not exist", err=True)
        raise typer.Exit(USAGE)
    return file.read_bytes()


def refused(file: pathlib.Path, problem: Problem) -> typer.Exit:
    """Print what is wrong with a file and how to mend it; returns the exit to raise."""
    for issue in problem.issues:
        typer.echo(f"{file.name}: {issue.text_en}. {issue.fix_en}", err=True)
    return typer.Exit(CHECK_FAILED)
