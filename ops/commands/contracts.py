"""`qiao contracts`: do by hand what the calendar does to contracts."""

import asyncio
import datetime
import json
from typing import Annotated

import typer
from rich.console import Console

from care.contract.steps import SERVICE, START
from care.fulfilment.schedule import tasks_for
from care.periods import LOCAL, day_of, start_of
from fhir_store.claims import ending_between, take_begun, take_over
from fhir_store.store import make_pool
from ops.cli import PARTIAL, REFUSED
from ops.command_database import reached_database
from ops.flow_contracts import ContractCalendar, DayFigures
from ops.laws import lawful_store
from ops.settings import Settings, read_settings
from routes.operations.contract_writing import Following
from routes.operations.doctors import may_sign_by_registration

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Contracts by the calendar.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MOST = 1_000_000


@app.command("run-day")
def run_day(
    day: Annotated[
        str | None, typer.Option("--day", help="What was due by the start of this day; today.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """End and begin the contracts that are due, and close delegations that are over."""
    until = _instant_of(day)
    settings = read_settings()
    with reached_database(settings) as url:
        figures = asyncio.run(_run(url, until, settings))
    told = {
        "expired": figures.expired,
        "renewed": figures.renewed,
        "started": figures.started,
        "delegations": figures.delegations,
        "failed": figures.failed,
    }
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo(
            f"expired {figures.expired}, renewed {figures.renewed}, started {figures.started}, "
            f"delegations closed {figures.delegations}, failed {len(figures.failed)}"
        )
    if figures.failed:
        for holder in figures.failed[:20]:
            typer.echo(f"left: {holder}; the log names the reason", err=True)
        raise typer.Exit(PARTIAL)


@app.command()
def due(as_json: AsJson = False) -> None:
    """Count what is due now, and what ends in the next 30 days without a renewal."""
    with reached_database(read_settings()) as url:
        told = asyncio.run(_count(url))
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo("\n".join(f"{name}: {count}" for name, count in told.items()))


def _instant_of(day: str | None) -> datetime.datetime:
    now = datetime.datetime.now(datetime.UTC)
    if day is None:
        return now
    try:
        wanted = datetime.date.fromisoformat(day)
    except ValueError:
        raise typer.BadParameter(f"{day}; write YYYY-MM-DD", param_hint="--day") from None
    if wanted > day_of(now):
        typer.echo(
            f"{day} has not begun in China: contracts would end before their term.\n"
            f"Next: qiao contracts run-day --day {now.astimezone(LOCAL).date()}",
            err=True,
        )
        raise typer.Exit(REFUSED)
    return start_of(wanted)


async def _run(url: str, until: datetime.datetime, settings: Settings) -> DayFigures:
    may_sign = may_sign_by_registration(is_review_required=settings.doctor_review == "required")
    async with make_pool(url, size=2, statement_seconds=60.0) as pool:
        store = lawful_store(pool)
        async with pool.connection() as connection:
            await store.parameters.refresh(connection)
        calendar = ContractCalendar(
            store=store,
            following=Following(store.searcher, tasks_for=tasks_for),
            may_sign=may_sign,
        )
        with Console(stderr=True).status("contracts by the calendar") as status:
            return await calendar.look(until, lambda figures: status.update(f"{figures.done} done"))


async def _count(url: str) -> dict[str, int]:
    now = datetime.datetime.now(datetime.UTC)
    month = datetime.timedelta(days=30)
    async with (
        make_pool(url, size=1, statement_seconds=60.0) as pool,
        pool.connection() as connection,
        connection.transaction(),
    ):
        over = await take_over(connection, SERVICE, now, _MOST)
        begun = await take_begun(connection, START, now, _MOST)
        ending = await ending_between(connection, SERVICE, now, now + month, _MOST)
    return {"over": len(over), "to begin": len(begun), "ending in 30 days": len(ending)}
