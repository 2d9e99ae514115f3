"""`qiao hl7`: messages checked against HL7's own structures, or a profile, by hl7apy."""

import importlib
import json
import pathlib
import tempfile
import warnings
from typing import Annotated, Any

import typer

from conformance.problem import InvalidStructure
from mappings.hl7.charset_doubt import doubt_of
from mappings.hl7.message import Message, parse
from mappings.segment_names import notes_of_names
from ops.cli import CHECK_FAILED
from ops.workbench.messages import messages_of

app = typer.Typer(help="Check HL7 v2 messages.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Check HL7 v2 messages."""


@app.command()
def check(
    files: Annotated[list[pathlib.Path], typer.Argument(help="HL7 v2 files or folders of them.")],
    profile: Annotated[
        pathlib.Path | None, typer.Option(help="A message profile that hl7apy has compiled.")
    ] = None,
    charset: Annotated[str, typer.Option(help="Charset where MSH-18 names none.")] = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check structure, cardinality and data types of messages.

    The hub itself takes messages that fail here: this tells a sender what its messages lack.
    Ends with 1 where a message has an error.
    """
    failed = False
    for name, data in messages_of(files):
        found = findings(data, charset, profile)
        failed |= any(kind == "error" for kind, _ in found)
        _print(name, found, as_json=as_json)
    if failed:
        raise typer.Exit(CHECK_FAILED)


def _print(name: str, found: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"file": name, "findings": found}, ensure_ascii=False))
        return
    for kind, text in found:
        typer.echo(f"{name}: {kind}: {text}")
    if not found:
        typer.echo(f"{name}: sound")


def findings(
    data: bytes, charset: str = "utf-8", profile: pathlib.Path | None = None
) -> list[tuple[str, str]]:
    """Return (error or warning, text) for everything that hl7apy finds in a message."""
    try:
        message = parse(data, charset)
    except InvalidStructure as refused:
        return [("error", issue.text_en) for issue in refused.issues]
    doubt = doubt_of(data, message.codec)
    seen = [("error", doubt.text_en)] if doubt is not None else []
    seen += [("warning", note.text_en) for note in notes_of_names(message)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [*seen, *_judge(message, profile)]


def _judge(message: Message, profile: pathlib.Path | None) -> list[tuple[str, str]]:
    # hl7apy takes half a second to import, and only this command needs it.
    parser, validation, exceptions = (
        importlib.import_module(f"hl7apy.{name}") for name in ("parser", "validation", "exceptions")
    )
    text = "\r".join(segment.encode() for segment in message.segments) + "\r"
    reference: Any = None
    if profile is not None:
        reference = importlib.import_module("hl7apy").load_message_profile(str(profile))
    try:
        tree = parser.parse_message(text, find_groups=True, message_profile=reference)
    except exceptions.HL7apyException as error:
        return [("error", str(error))]
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report"
        try:
            validation.Validator.validate(tree, report_file=str(report))
        except exceptions.HL7apyException as error:
            lines = report.read_text().splitlines() if report.exists() else []
            return [_finding(line) for line in lines if line.strip()] or [("error", str(error))]
        lines = report.read_text().splitlines() if report.exists() else []
    return [_finding(line) for line in lines if line.strip()]


def _finding(line: str) -> tuple[str, str]:
    kind, _, text = line.partition(":")
    return ("warning" if "warn" in kind.lower() else "error"), text.strip() or line.strip()
