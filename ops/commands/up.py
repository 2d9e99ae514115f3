"""`qiao up`: everything on one machine, with a simulated province where none is configured.

One process listens, others work: a hub with one process on two cores leaves half a core idle.
"""

import asyncio
import contextlib
import fcntl
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import psycopg
import typer
import uvloop
from psycopg_pool import PoolTimeout

from adapters.province.simulator import running as running_simulator
from adapters.province.simulator import simulator_at
from conformance.identity_numbers import TEST_REGION
from conformance.problem import Unavailable
from mappings.engine.rows import FaultyMaps
from ops.certificates import demo_tls
from ops.channel_reload import reload_soon
from ops.cli import CANNOT_REACH, CHECK_FAILED
from ops.command_database import reached_database
from ops.data_folder import require_data_folder
from ops.demo.first_message import DemoFailed, send_one
from ops.demo.seed import seed_district
from ops.embedded_postgres import revive
from ops.garbage import collect_less_often
from ops.logs import configure_logs, log
from ops.ports_file import province_key, read_ports, show_ports, write_port
from ops.repeating import alongside, repeat
from ops.settings import Settings, read_settings
from ops.wiring import Running, running_hub
from ops.worker_beside import LISTENING, WorkerBeside, workers_beside

app = typer.Typer(rich_markup_mode=None)
RESIDENTS = 1000
_LOOK_SECONDS = 2.0  # between two looks whether the embedded server lives
_SEED_TRIES = 5
_AWAY = (psycopg.OperationalError, PoolTimeout, Unavailable)
_WENT_AWAY = (
    "PostgreSQL went away while the hub was starting; what was written is kept.\n"
    "Next: start again with the same command; if it stays away, qiao doctor says why"
)
_WORKERS_ENDED = "a process of the workers ended by itself (log: {}). Next: make run"


@app.command()
def up(
    demo: Annotated[bool, typer.Option(help="Send one real message and show its way.")] = False,
    residents: Annotated[int, typer.Option(help="Synthetic residents of a new database.")] = (
        RESIDENTS
    ),
) -> None:
    """Start everything on this machine and stay up until Ctrl-C; access control is off."""
    began = time.perf_counter()
    # One person's machine: nobody else can reach it, and there is no identity provider on it.
    settings = read_settings(auth="off", test_regions=TEST_REGION)
    require_data_folder(settings.home)
    try:
        with _alone(settings.home), (settings.home / "hub.log").open("ab", buffering=0) as log:
            configure_logs(log)
            with reached_database(settings, failures=(OSError,)) as url:
                _say(
                    began,
                    "PostgreSQL is up" if settings.database_url else "embedded PostgreSQL is up",
                )
                collect_less_often()
                with workers_beside(settings, url) as workers:
                    uvloop.run(_run(settings, url, workers, began, demo, residents))
    except FaultyMaps as faulty:
        typer.echo(f"{faulty}\nNext: correct the files, then qiao channels check", err=True)
        raise typer.Exit(CHECK_FAILED) from None
    except (DemoFailed, WorkersEnded) as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(CHECK_FAILED) from None
    except _AWAY:
        typer.echo(_WENT_AWAY, err=True)
        raise typer.Exit(CANNOT_REACH) from None


@contextlib.contextmanager
def _alone(home: pathlib.Path) -> Iterator[None]:
    """Let one `qiao up` have the data folder; two would share its ports file and its province."""
    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            at = read_ports(home).get("http")
            where = f" at http://{at}/console" if at else ""
            typer.echo(f"A hub runs in the data folder {home.absolute()} already{where}.", err=True)
            typer.echo("Next: use that one, or stop it; a second one needs a QIAO_HOME,", err=True)
            typer.echo("      a QIAO_HTTP_PORT and a QIAO_MLLP_PORT of its own", err=True)
            raise typer.Exit(CHECK_FAILED) from None
        yield


class WorkersEnded(Exception):
    """The process of the workers ended, although nobody told it to."""


async def _run(
    settings: Settings,
    url: str,
    workers: list[WorkerBeside],
    began: float,
    demo: bool,
    residents: int,
) -> None:
    first, *others = workers
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is None:
            await stack.enter_async_context(alongside(_kept_alive(settings.home)))
        endpoint = settings.province_url or await _simulated_province(stack, settings)
        province = "" if settings.province_url else endpoint
        await stack.enter_async_context(first.working(province))
        hub = await stack.enter_async_context(running_hub(settings, url, roles=LISTENING))
        base = f"http://{settings.host}:{hub.http_port}"
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, hub, workers)
        show_ports(stack, settings.home, settings.host, hub)
        if not await first.is_ready():
            raise WorkersEnded(_WORKERS_ENDED.format(settings.home / "hub.log"))
        await stack.enter_async_context(alongside(_heard(first, hub, stopped)))
        _say(began, "HTTP, MLLP and workers are up")
        building = asyncio.create_task(hub.pages.build())
        stack.callback(building.cancel)
        written = await _seeded(hub, residents)
        if written:
            _say(began, f"a synthetic district was written: {written} resources")
        if demo:
            await _show_demo(url, settings, hub, base)
        _show_links(settings, hub, base, endpoint)
        _say(began, "ready; Ctrl-C stops everything")
        for other in others:  # starting, they would take the processors from the start
            await stack.enter_async_context(other.working(province))
            await stack.enter_async_context(alongside(_begin(other, hub, stopped)))
        await stopped.wait()
        typer.echo("stopping …", err=True)
        if any(worker.has_ended for worker in workers):
            raise WorkersEnded(_WORKERS_ENDED.format(settings.home / "hub.log"))


async def _seeded(hub: Running, residents: int) -> int:
    """Write the district; a server that was killed meanwhile is soon back, and it goes on."""
    for _ in range(_SEED_TRIES):
        try:
            return await seed_district(hub.store, residents)
        except Unavailable:
            await asyncio.sleep(_LOOK_SECONDS)
    return await seed_district(hub.store, residents)


async def _kept_alive(home: pathlib.Path) -> None:
    """Start the embedded server again where it was killed; what was committed is there."""

    async def look() -> None:
        if await asyncio.to_thread(revive, home):
            log.warning("embedded PostgreSQL had ended and was started again")

    await repeat(look, failed="embedded PostgreSQL was not started", rest_seconds=_LOOK_SECONDS)


async def _heard(worker: WorkerBeside, hub: Running, stopped: asyncio.Event) -> None:
    """Show what the workers count; without them the hub would keep messages and do no more."""
    await worker.heard_by(hub.metrics)
    stopped.set()


async def _begin(worker: WorkerBeside, hub: Running, stopped: asyncio.Event) -> None:
    if await worker.is_ready():
        await worker.heard_by(hub.metrics)
    stopped.set()


def _reload(hub: Running, workers: list[WorkerBeside]) -> None:
    reload_soon(hub)
    for worker in workers:
        worker.reload()


async def _simulated_province(stack: contextlib.AsyncExitStack, settings: Settings) -> str:
    """Stand in for the province that nobody configured; return the address it listens on."""
    key = province_key(settings.home)
    simulator = simulator_at(pathlib.Path(settings.home), key=key)
    endpoint = await stack.enter_async_context(running_simulator(simulator))
    write_port(settings.home, "province", endpoint)
    stack.callback(write_port, settings.home, "province", None)
    return endpoint


async def _show_demo(url: str, settings: Settings, hub: Running, base: str) -> None:
    assert hub.mllp_port is not None
    typer.echo("")
    if settings.mllp_client_authorities is not None:
        typer.echo("MLLP asks for a client certificate. Next: qiao demo --certificate --key")
        return
    tls = demo_tls(settings, None, None)
    rooms = send_one(url, host=settings.host, port=hub.mllp_port, base=f"{base}/fhir", tls=tls)
    async for room in rooms:
        typer.echo("\n".join(room.lines()))
    typer.echo("")


def _show_links(settings: Settings, hub: Running, base: str, endpoint: str) -> None:
    rows = [
        ("console", f"{base}/console"),
        ("FHIR", f"{base}/fhir/metadata"),
        ("residents", f"{base}/fhir/Patient?_count=10&_pretty=true"),
        ("MLLP", f"{settings.host}:{hub.mllp_port}"),
        ("province", f"{endpoint}?wsdl"),
        ("metrics", f"{base}/metrics"),
        ("log", str(settings.home / "hub.log")),
        ("next", ".venv/bin/qiao inbox list; .venv/bin/qiao outbox list; .venv/bin/qiao demo"),
    ]
    for name, text in rows:
        typer.echo(f"  {name:<10} {text}")
    typer.echo("  access     off: whoever reaches this machine's loopback may do everything")


def _say(began: float, text: str) -> None:
    sys.stderr.write(f"{time.perf_counter() - began:6.1f} s  {text}\n")
    sys.stderr.flush()
