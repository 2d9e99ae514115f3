"""`qiao map-score`: what the maps restore on the way back, and what another converter says."""

import json
import pathlib
import zoneinfo
from typing import Annotated, Any

import typer

from mappings.channels.profile import ChannelProfile
from mappings.engine.context import Sender
from mappings.engine.library import load
from mappings.facts_score import FaultyLedger, read_ledger, score
from mappings.round_trip import round_trip
from mappings.translate import Translator
from ops.cli import CHECK_FAILED
from ops.workbench.messages import messages_of

app = typer.Typer(
    help="Measure the maps: values restored on the way back, facts against expected Bundles.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Folder = Annotated[pathlib.Path, typer.Argument(help="A folder of HL7 v2 messages.")]


@app.command(name="round-trip")
def show_round_trip(folder: Folder, as_json: AsJson = False) -> None:
    """Send messages to FHIR and back, with the original at hand and with it withheld.

    Ends with 1 where a message came back with other bytes, or a value neither returned nor has a
    row that declares the loss.
    """
    found = round_trip(messages_of([folder]), Translator(load()), ChannelProfile())
    report: dict[str, Any] = {
        "messages": found.messages,
        "values": found.values,
        "with_original": round(found.share_with_original, 4),
        "original_withheld": round(found.share_without_original, 4),
        "restored": found.restored,
        "declared_lossy": found.lossy.total(),
        "one_way": found.one_way.total(),
        "said_twice_of_one_resource": found.joined.total(),
        "undeclared": dict(found.undeclared),
    }
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        typer.echo(f"{found.messages} messages, {found.values} mapped values")
        typer.echo(f"with the original at hand: {found.share_with_original:.2%} restored")
        typer.echo(
            f"with the original withheld: {found.share_without_original:.2%} restored; of the rest "
            f"{report['declared_lossy']} by rows that declare a loss, {report['one_way']} by "
            f"one-way rows, {report['said_twice_of_one_resource']} said otherwise by another "
            f"segment of the same resource, {found.undeclared.total()} undeclared"
        )
        for name, count in found.undeclared.most_common():
            typer.echo(f"undeclared {name}: {count}")
    if found.changed or found.undeclared:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def facts(
    folder: Annotated[pathlib.Path, typer.Argument(help="A folder with messages/ and expected/.")],
    zone: Annotated[
        str, typer.Option(help="The zone of times without one, as the expected Bundles took it.")
    ] = "Asia/Kolkata",
    as_json: AsJson = False,
    full: Annotated[bool, typer.Option("--full", help="List what counts against us.")] = False,
    ledger: Annotated[
        pathlib.Path | None, typer.Option("--ledger", help="Another ledger than the hub's.")
    ] = None,
) -> None:
    """Compare facts (type, path, value) with another converter's Bundles of the same messages.

    Ends with 1 where they disagree and the ledger has no line for it.
    """
    channel = ChannelProfile(sender=Sender(zone=zoneinfo.ZoneInfo(zone)))
    try:
        lines = read_ledger(ledger)
    except FaultyLedger as faulty:
        for fault in faulty.faults:
            typer.echo(fault, err=True)
        raise typer.Exit(CHECK_FAILED) from None
    report = score(folder, Translator(load()), channel, lines).report()
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print_facts(report, full=full)
    if report["unlined"]:
        raise typer.Exit(CHECK_FAILED)


def _print_facts(report: dict[str, Any], *, full: bool) -> None:
    for name in ("precision", "recall", "raw_precision", "raw_recall"):
        typer.echo(f"{name.replace('_', ' ')}: {report[name]:.2%}")
    for kind, counts in report["by_resource"].items():
        typer.echo(
            f"{kind}: precision {counts['precision']:.1%}, recall {counts['recall']:.1%} "
            f"({counts['expected']} expected, {counts['ours']} ours, {counts['both']} both)"
        )
    for name, count in report["verdicts"].items():
        typer.echo(f"verdict {name}: {count}")
    if full:
        for side in ("missing", "surplus"):
            for name, count in report[side].items():
                typer.echo(f"{side} {name}: {count}")
    for fact, messages in report["unlined"].items():
        typer.echo(f"no line in the ledger: {fact} ({', '.join(messages[:3])})")
