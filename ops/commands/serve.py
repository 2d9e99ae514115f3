"""`qiao serve`: some roles of the hub in this process; as many processes as wished."""

import asyncio
import contextlib
import signal
import sys
from typing import Annotated

import typer
import uvloop

from mappings.engine.rows import FaultyMaps
from ops.channel_reload import reload_soon
from ops.cli import CHECK_FAILED
from ops.command_database import reached_database
from ops.garbage import collect_less_often
from ops.logs import configure_logs
from ops.ports_file import show_ports
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
        with reached_database(settings, failures=(OSError,)) as url:
            collect_less_often()
            uvloop.run(_serve(settings, url, wanted))
    except FaultyMaps as faulty:
        typer.echo(f"{faulty}\nNext: correct the files, then qiao channels check", err=True)
        raise typer.Exit(CHECK_FAILED) from None


async def _serve(settings: Settings, url: str, roles: frozenset[str]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(settings, url, roles=roles))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload_soon, hub)
        for name, address in show_ports(stack, settings.home, settings.host, hub).items():
            typer.echo(f"{name} {address}", err=True)
        await stopped.wait()
