"""`qiao demo-data`: synthetic districts with contracts in every state and two years of care."""

import asyncio
import datetime
import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from care.periods import day_of
from fhir_store.store import make_pool
from ops.command_database import reached_database
from ops.demo.data import write_demo_data
from ops.laws import lawful_store
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command("demo-data")
def demo_data(
    residents: Annotated[int, typer.Option(min=1, max=200_000, help="How many.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write people who do not exist (region 999001); nothing is delivered to partners.

    The same number on the same day writes the same data, so that a repeat changes nothing.
    """
    columns = (TextColumn("residents"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with (
        reached_database(read_settings()) as url,
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("residents", total=residents)

        async def show(done: int, _all: int) -> None:
            progress.update(task, completed=done)

        async def run() -> int:
            async with make_pool(url, size=1, statement_seconds=60, name="qiao demo-data") as pool:
                return await write_demo_data(
                    lawful_store(pool),
                    residents,
                    today=day_of(datetime.datetime.now(datetime.UTC)),
                    on_progress=show,
                )

        began = time.monotonic()
        written = asyncio.run(run())
        seconds = round(time.monotonic() - began, 1)
    result = {"residents": residents, "resources": written, "seconds": seconds}
    typer.echo(json.dumps(result) if as_json else ", ".join(f"{k} {v}" for k, v in result.items()))
