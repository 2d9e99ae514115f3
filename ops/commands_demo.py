"""`qiao demo`: send one real message to the running hub and show its way."""

import asyncio
from typing import Annotated

import typer

from ops.cli import CANNOT_REACH, CHECK_FAILED
from ops.database import database
from ops.demo import DemoFailed, send_one
from ops.embedded_postgres import PostgresUnavailable
from ops.ports_file import read_ports
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def demo(
    times: Annotated[int, typer.Option(help="How many messages, one after the other.")] = 1,
) -> None:
    """Send an admission of a synthetic resident by MLLP and print its journey, room by room."""
    settings = read_settings()
    ports = read_ports(settings.home)
    if "mllp" not in ports:
        typer.echo(f"No hub runs with the data folder {settings.home}. Next: make run", err=True)
        raise typer.Exit(CANNOT_REACH)
    try:
        with database(settings) as url:
            for _ in range(times):
                asyncio.run(_show(url, ports))
    except PostgresUnavailable as failure:
        typer.echo(f"{failure}\nNext: qiao doctor", err=True)
        raise typer.Exit(CANNOT_REACH) from None
    except DemoFailed as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(CHECK_FAILED) from None


async def _show(url: str, ports: dict[str, str]) -> None:
    host, _, port = ports["mllp"].rpartition(":")
    base = f"http://{ports.get('http', 'localhost')}/fhir"
    async for room in send_one(url, host=host, port=int(port), base=base):
        typer.echo("\n".join(room.lines()))
