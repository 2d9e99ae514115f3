"""`qiao channels`: check the channel files, and let a running hub read them again."""

import json
import pathlib
from typing import Annotated, Any

import typer

from fhir_store.notices import announce
from mappings.channels.profile import ChannelProfile
from mappings.engine.rows import FaultyMaps
from ops.channel_reload import TOPIC
from ops.channels import Reading, read_channels
from ops.cli import CHECK_FAILED
from ops.command_database import with_database
from ops.province_choice import NAME as PROVINCE
from ops.settings import read_settings

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Channels of senders, declared in YAML."
)
Folder = Annotated[
    pathlib.Path | None, typer.Argument(help="Folder of *.yaml; default: QIAO_CHANNELS.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(folder: Folder = None) -> None:
    """Check the files with the maps they name; list every fault with file, line and fix."""
    found = _read(folder or read_settings().channels)
    typer.echo(f"{len(found.profiles)} channels are right", err=True)


@app.command("list")
def list_(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the channels that the files declare."""
    settings = read_settings()
    rows = [
        _row(profile, settings.mllp_port)
        for profile in _read(folder or settings.channels).profiles.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo("  ".join(f"{name}={value}" for name, value in row.items()))


@app.command()
def reload() -> None:
    """Check the files, then let every process of the running hub read them again."""
    settings = read_settings()
    found = _read(settings.channels)
    with_database(lambda connection: announce(connection, f"qiao_{TOPIC}"))
    typer.echo(
        f"{len(found.profiles)} channels are right; the running hub was told to read them. "
        "Its log says `channels read`.",
        err=True,
    )


def _read(folder: pathlib.Path | None) -> Reading:
    try:
        return read_channels(folder, (PROVINCE,))
    except FaultyMaps as faulty:
        for fault in faulty.faults:
            typer.echo(str(fault))
        typer.echo(f"{len(faulty.faults)} faults", err=True)
        raise typer.Exit(CHECK_FAILED) from None


def _row(profile: ChannelProfile, default_port: int) -> dict[str, Any]:
    return {
        "channel": profile.name,
        "port": profile.port or default_port,
        "charset": profile.charset,
        "zone": str(profile.sender.zone),
        "order": ",".join(profile.order) or "by event",
        "reused_id": profile.reused_id,
        "maps": profile.maps or "the hub's",
        "destinations": ",".join(profile.destinations) or "all",
        "acknowledge": profile.acknowledge,
        "max_bytes": profile.max_bytes or "the hub's",
    }
