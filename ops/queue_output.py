"""How the commands of both queues speak to people."""

import base64
import datetime
import getpass
import json
from collections.abc import Sequence
from typing import Any

import typer

from fhir_store.named_rows import Row
from mappings.hl7.charset import readable


def actor() -> str:
    """Return who moves an entry, for the audit."""
    return f"cli:{getpass.getuser()}"


LARGEST_NUMBER = 2**63 - 1
"""Of an entry or delivery: they are int8."""


def print_rows(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool, to: str = "") -> None:
    """Print rows as JSON, or as a table with one line for each.

    `to` is the command that lists more of them, told where there is none.
    """
    if to and not rows:
        typer.echo(f"Nothing here is like that. Next: {to}", err=True)
    if as_json:
        typer.echo(to_json(list(rows)))
        return
    texts = [[_short(row[name]) for name in columns] for row in rows]
    widths = [
        max([len(name), *(len(line[place]) for line in texts)])
        for place, name in enumerate(columns)
    ]
    for line in [list(columns), *texts]:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))


def print_entry(row: Row, *, as_json: bool) -> None:
    """Print one entry whole; bytes as text where they are text."""
    if as_json:
        typer.echo(to_json(row))
        return
    for name, value in row.items():
        if value is None or value in ("", [], {}):
            continue
        if isinstance(value, bytes | memoryview):
            text = _readable(bytes(value)).replace("\r\n", "\n").replace("\r", "\n")
            typer.echo(f"{name}:")
            typer.echo("\n".join(f"    {line}" for line in text.rstrip("\n").split("\n")))
        elif isinstance(value, list | dict):
            typer.echo(f"{name}: {json.dumps(value, ensure_ascii=False, default=_plain)}")
        else:
            typer.echo(f"{name}: {_short(value)}")


def _readable(data: bytes) -> str:
    """Return UTF-8 as it is, and a message in the charset that it declares."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return readable(data)


def to_json(value: Any) -> str:
    """Return JSON; times in ISO 8601, bytes as text, or in Base64 where they are not UTF-8."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(bytes(value)).decode()}
    return str(value)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime.datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
