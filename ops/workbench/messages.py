"""Messages out of files and folders, for the workbench's commands."""

import pathlib
from collections.abc import Iterable, Iterator

import typer

from mappings.hl7.batch import split_batch
from ops.cli import USAGE


def messages_of(paths: Iterable[pathlib.Path]) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every message in the files and folders; batches are split.

    A case's `back.hl7` lists segments and is no message.
    """
    for path in paths:
        files = sorted(path.rglob("*.hl7")) if path.is_dir() else [path]
        if path.is_dir():
            files = [one for one in files if not _is_way_back_of_case(one)]
        for file in files:
            if not file.exists():
                typer.echo(f"{file} does not exist", err=True)
                raise typer.Exit(USAGE)
            for data in split_batch(file.read_bytes()):
                yield file.name, data


def _is_way_back_of_case(file: pathlib.Path) -> bool:
    return file.name == "back.hl7" and (file.parent / "in.hl7").exists()
