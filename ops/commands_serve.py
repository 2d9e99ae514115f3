"""`qiao serve`: some roles of the hub in this process; as many processes as wished."""

import asyncio
import contextlib
import signal
import sys
from typing import Annotated

import typer
import uvloop

from ops.cli import CANNOT_REACH
from ops.database import database
from ops.embedded_postgres import PostgresUnavailable
from ops.garbage import collect_less_often
from ops.logs import configure_logs
from ops.ports_file import write_port
from ops.settings import Settings, read_settings
from ops.wiring import ROLES, running_hub

app = typer.Typer(rich_markup_mode=None)


@app.command()
def serve(
    roles: Annotated[str, typer.Option(help="Of http, mllp, worker; comma between them.")] = (
        "http,mllp,worker"
    ),
) -> None:
    """Run these roles of the hub until it is told to stop; logs are JSON lines on stderr."""
    wanted = frozenset(role.strip() for role in roles.split(",") if role.strip())
    if not wanted or wanted - ROLES:
        names = ", ".join(sorted(wanted - ROLES)) or "none"
        raise typer.BadParameter(f"{names}; there are {', '.join(sorted(ROLES))}")
    settings = read_settings()
    configure_logs(sys.stderr.buffer)
    if settings.auth == "off":
        typer.echo("QIAO_AUTH=off: whoever reaches loopback may do everything", err=True)
    try:
        with database(settings) as url:
            collect_less_often()
            uvloop.run(_serve(settings, url, wanted))
    except (PostgresUnavailable, OSError) as failure:
        typer.echo(f"{failure}\nNext: qiao doctor", err=True)
        raise typer.Exit(CANNOT_REACH) from None


async def _serve(settings: Settings, url: str, roles: frozenset[str]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(settings, url, roles=roles))
        for name, port in (("http", hub.http_port), ("mllp", hub.mllp_port)):
            if port is not None:
                write_port(settings.home, name, f"{settings.host}:{port}")
                stack.callback(write_port, settings.home, name, None)
                typer.echo(f"{name} {settings.host}:{port}", err=True)
        await stopped.wait()
