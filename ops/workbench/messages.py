"""Messages out of files and folders, for the workbench's commands."""

import pathlib
from collections.abc import Iterable, Iterator

import typer

from conformance.problem import Problem
from mappings.hl7.batch import split_file
from mappings.hl7.message import Message, parse
from ops.cli import USAGE
from ops.workbench.documents import tell


def files_of(paths: Iterable[pathlib.Path]) -> Iterator[pathlib.Path]:
    """Yield the files, and every `.hl7` below the folders; ends with 2 where there is none.

    A case's `back.hl7` lists segments and is no message.
    """
    for path in paths:
        if not path.exists():
            typer.echo(f"{path} does not exist", err=True)
            raise typer.Exit(USAGE)
        if not path.is_dir():
            if path.suffix in (".xml", ".csv", ".xlsx"):
                text = "is a document or a table; this command reads HL7 v2 messages"
                typer.echo(f"{path} {text}. Next: qiao map run {path}", err=True)
                raise typer.Exit(USAGE)
            yield path
            continue
        files = [one for one in sorted(path.rglob("*.hl7")) if not _is_way_back_of_case(one)]
        if not files:
            typer.echo(f"{path} holds no .hl7 file; name the files themselves", err=True)
            raise typer.Exit(USAGE)
        yield from files


def messages_of(paths: Iterable[pathlib.Path]) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every message in the files and folders.

    A file of several messages, in a batch or one behind the other, is split; the second of them
    is `name.hl7[2]`.
    """
    for file in files_of(paths):
        for number, data in enumerate(split_file(file.read_bytes()), 1):
            yield (file.name if number == 1 else f"{file.name}[{number}]"), data


class Messages:
    """Iterates over name and message; one that cannot be read is told and does not end the rest."""

    def __init__(self, paths: Iterable[pathlib.Path], charset: str) -> None:
        self._paths = paths
        self._charset = charset
        self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[str, Message]]:
        for name, data in messages_of(self._paths):
            try:
                message = parse(data, self._charset)
            except Problem as problem:
                self.unreadable += 1
                tell(name, problem)
                continue
            yield name, message


def _is_way_back_of_case(file: pathlib.Path) -> bool:
    return file.name == "back.hl7" and (file.parent / "in.hl7").exists()
