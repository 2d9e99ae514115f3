"""`qiao demo`: send one real message to the running hub and show its way."""

import asyncio
import pathlib
import ssl
from typing import Annotated

import typer

from ops.certificates import demo_tls
from ops.cli import CANNOT_REACH, CHECK_FAILED
from ops.command_database import reached_database
from ops.demo.first_message import DemoFailed, send_one
from ops.ports_file import read_ports
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def demo(
    times: Annotated[int, typer.Option(help="How many messages, one after the other.")] = 1,
    certificate: Annotated[
        pathlib.Path | None,
        typer.Option(help="Our certificate (PEM), where MLLP asks callers for one."),
    ] = None,
    key: Annotated[pathlib.Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
) -> None:
    """Send an admission of a synthetic resident by MLLP and print its journey, room by room."""
    settings = read_settings()
    ports = read_ports(settings.home)
    if "mllp" not in ports:
        typer.echo(f"No hub runs with the data folder {settings.home}. Next: make run", err=True)
        raise typer.Exit(CANNOT_REACH)
    try:
        with reached_database(settings) as url:
            for _ in range(times):
                asyncio.run(_show(url, ports, demo_tls(settings, certificate, key)))
    except DemoFailed as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(CHECK_FAILED) from None


async def _show(url: str, ports: dict[str, str], tls: ssl.SSLContext | None) -> None:
    host, _, port = ports["mllp"].rpartition(":")
    base = f"http://{ports.get('http', 'localhost')}/fhir"
    async for room in send_one(url, host=host, port=int(port), base=base, tls=tls):
        typer.echo("\n".join(room.lines()))
