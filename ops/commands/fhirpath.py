"""`qiao fhirpath`: evaluate an expression over a resource in a file; needs no running hub."""

import json
import pathlib
import re
import sys
from decimal import Decimal
from typing import Annotated, Any

import typer

from conformance import fhirpath, resource_json, resource_xml
from conformance.fhirpath import Node, Ports, Value
from conformance.r4.tables import load
from ops.commands.validate import validator_over

app = typer.Typer(rich_markup_mode=None)

_ASKS = re.compile("memberOf|subsume|conformsTo|slice")
_MAX_BYTES = 64 << 20


@app.command()
def evaluate(
    expression: Annotated[str, typer.Argument(help="The expression, or @FILE that holds it.")],
    file: Annotated[
        pathlib.Path | None, typer.Argument(help="A resource as JSON or XML; - reads stdin.")
    ] = None,
    variable: Annotated[
        list[str] | None, typer.Option("--variable", "-v", help="name=text, as %name.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse names that the resource's type lacks.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an array of {type, value}.")
    ] = False,
) -> None:
    """Evaluate a FHIRPath expression over a resource and print one line for each value."""
    if expression.startswith("@") and pathlib.Path(expression[1:]).is_file():
        expression = pathlib.Path(expression[1:]).read_text(encoding="utf-8")
    resource = None if file is None else _read(file)
    type_name = resource.get("resourceType") if resource is not None and strict else None
    compiled = fhirpath.compile(expression, type_name, strict=strict)
    ports = _ports(expression, resource)
    values = compiled.values(resource, variables=_variables(variable or []), ports=ports)
    if as_json:
        shown = [{"type": value.type, "value": _plain(value.value)} for value in values]
        typer.echo(_json(shown))
        return
    for value in values:
        typer.echo(_line(value))


def _ports(expression: str, resource: dict[str, Any] | None) -> Ports:
    """Return what asks value sets and profiles: R4's and the package's, read only when needed."""
    type_name = (resource or {}).get("resourceType")
    if type_name not in load().resource_types or _ASKS.search(expression) is None:
        return Ports()
    return validator_over(()).ports_for(Node(resource, str(type_name)))


def _read(file: pathlib.Path) -> dict[str, Any]:
    if str(file) == "-":
        data = sys.stdin.buffer.read(_MAX_BYTES)
    elif file.is_file():
        data = file.read_bytes()
    else:
        raise typer.BadParameter(f"there is no file {file}")
    is_xml = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
    return resource_xml.parse(data) if is_xml else resource_json.parse(data)


def _variables(pairs: list[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"--variable takes name=text, and found {pair}")
        found[name] = text
    return found


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | str | Decimal | dict | list) else str(value)


def _json(value: Any) -> str:
    """Write any JSON value with the writer that keeps the text of numbers."""
    return resource_json.dump({"": value}).decode().removeprefix('{"":')[:-1]


def _line(value: Value) -> str:
    plain = _plain(value.value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, dict | list):
        return _json(plain)
    return json.dumps(plain, ensure_ascii=False)[1:-1] if isinstance(plain, str) else str(plain)
