"""`qiao map-held`: codes of senders that hold messages, and saying what one means."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from fhir_store.store import make_pool
from ops.channel_reload import Reloading
from ops.command_channels import book_of_files
from ops.command_database import reached_database
from ops.queue_output import actor, print_rows, to_json
from ops.settings import read_settings
from routes.console.held_codes import HeldCodes, Resolution

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Codes that hold messages until somebody says what they mean.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COLUMNS = ("channel", "table", "code", "source", "row", "messages", "targets")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List each code that holds messages, those messages, and what its table knows."""
    codes = _with_codes(lambda held: held.waiting())
    if as_json:
        typer.echo(to_json(codes))
        return
    rows = [
        {
            **one,
            "messages": ", ".join(str(message["id"]) for message in one["messages"]),
            "targets": ", ".join(target["code"] for target in one["targets"]),
        }
        for one in codes
    ]
    print_rows(rows, _COLUMNS, as_json=False)


@app.command()
def resolve(
    channel: Annotated[str, typer.Argument(help="The sender's channel, as `list` prints it.")],
    table: Annotated[str, typer.Argument(help="The code table, as `list` prints it.")],
    code: Annotated[str, typer.Argument(help="The sender's code.")],
    target: Annotated[str, typer.Argument(help="What it means: a code that the table knows.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep what a sender's code means, and work on the messages that wait for nothing else."""
    asked = Resolution(channel=channel, table=table, code=code, target=target, reason=reason)
    done = _with_codes(lambda held: held.resolve(asked, actor()))
    if as_json:
        typer.echo(to_json(done))
        return
    typer.echo(
        f"{table}: {code} is {target} for {channel}; "
        f"{len(done['messages'])} messages are open again, {done['opened']} will run in their order"
    )


def _with_codes(work: Callable[[HeldCodes], Awaitable[Any]]) -> Any:
    """Run `work` on the channels of the files and the codes that are resolved already."""
    settings = read_settings()
    book = book_of_files(settings)

    async def run(url: str) -> Any:
        async with make_pool(url, size=1) as pool:
            reloading = Reloading(book=book, pool=pool)
            await reloading.refresh_codes()
            held = HeldCodes(
                pool=pool,
                profiles=book.profiles,
                translator=book.translator,
                told=reloading.tell_codes,
            )
            return await work(held)

    with reached_database(settings, makes=False) as url:
        return asyncio.run(run(url))
