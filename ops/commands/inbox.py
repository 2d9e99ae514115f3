"""`qiao inbox`: what came in, what is stuck, and getting it moving again."""

from typing import Annotated

import typer

from fhir_store import queue_desk
from fhir_store.inbox import STATES
from ops.command_database import with_database
from ops.queue_output import LARGEST_NUMBER, actor, print_entry, print_rows

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Messages that came in.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Number = Annotated[int, typer.Argument(help="The entry's number, as `list` prints it.")]
_COLUMNS = (
    "id", "state", "event", "channel", "control_id", "received_at", "attempts", "waits_for",
    "trace_id",
)  # fmt: skip
_ALL = "qiao inbox list, which lists all channels and states"
_FIRST = "qiao demo, or qiao send FILE: nothing has come in yet"


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help=f"One of {', '.join(STATES)}.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    before: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_NUMBER, help="Only entries with a lower number."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List entries, the newest first; `waits_for` is the stuck one an entry stands behind."""
    if state is not None and state not in STATES:
        raise typer.BadParameter(f"{state}; there are {', '.join(STATES)}", param_hint="--state")
    rows = with_database(
        lambda connection: queue_desk.list_inbox(
            connection, state=state, channel=channel, before=before, limit=limit
        )
    )
    is_narrowed = (state, channel, before) != (None, None, None)
    print_rows(rows, _COLUMNS, as_json=as_json, to=_ALL if is_narrowed else _FIRST)


@app.command()
def show(number: Number, as_json: AsJson = False) -> None:
    """Show one entry whole: message, acknowledgement, why it is stuck, what it wrote, trace."""
    row = with_database(lambda connection: queue_desk.show_inbox(connection, number))
    print_entry(row, as_json=as_json)


@app.command()
def replay(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
) -> None:
    """Work on a stuck entry again, and on all that wait behind it, in their original order."""
    count = with_database(
        lambda connection: queue_desk.replay(connection, number, actor=actor(), reason=reason)
    )
    typer.echo(f"entry {number} is open again; {count} will run in their order")


@app.command()
def skip(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")],
) -> None:
    """Give a stuck entry up; those behind it go on without it."""
    count = with_database(
        lambda connection: queue_desk.skip(connection, number, actor=actor(), reason=reason)
    )
    typer.echo(f"entry {number} is skipped; {count} that waited behind it go on")
