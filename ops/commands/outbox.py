"""`qiao outbox`: what is owed to partners, what they said, and sending it again."""

import re
from typing import Annotated

import typer

from fhir_store import queue_desk
from fhir_store.outbox import STATES
from fhir_store.queue_desk import Move
from ops.command_database import with_database
from ops.queue_output import LARGEST_NUMBER, actor, print_entry, print_rows

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Deliveries to partners.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Number = Annotated[int, typer.Argument(help="The delivery's number, as `list` prints it.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
_COLUMNS = (
    "id", "state", "destination", "order_key", "part", "source_version", "attempts", "due_at",
    "code", "reference", "depends_on", "trace_id",
)  # fmt: skip
_ABOUT = re.compile(r"[A-Z][A-Za-z]+/\S+")
_ALL = "qiao outbox list, which lists all destinations, states and messages"


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help=f"One of {', '.join(STATES)}.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only this destination.")] = None,
    trace: Annotated[str | None, typer.Option(help="Only what one message caused.")] = None,
    of: Annotated[str | None, typer.Option(help="Only what is owed about Type/id.")] = None,
    before: Annotated[
        int | None, typer.Option(min=1, max=LARGEST_NUMBER, help="Only rows with a lower number.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List deliveries, the newest first."""
    if state is not None and state not in STATES:
        raise typer.BadParameter(f"{state}; there are {', '.join(STATES)}", param_hint="--state")
    if of is not None and not _ABOUT.fullmatch(of):
        raise typer.BadParameter(f"{of}; write Type/id, as in Patient/123", param_hint="--of")
    rows = with_database(
        lambda connection: queue_desk.list_outbox(
            connection,
            state=state,
            destination=destination,
            trace_id=trace,
            order_key=of,
            before=before,
            limit=limit,
        )
    )
    print_rows(rows, _COLUMNS, as_json=as_json, to=_ALL)


@app.command()
def show(number: Number, as_json: AsJson = False) -> None:
    """Show one delivery whole: document, raw receipt, moves by hand."""
    row = with_database(lambda connection: queue_desk.show_outbox(connection, number))
    print_entry(row, as_json=as_json)


@app.command()
def requeue(number: Number, reason: Reason = "") -> None:
    """Send a refused, deferred or unknown delivery again (an unknown one only with a reason)."""
    _move(number, "requeue", reason)


@app.command()
def settle(number: Number, reason: Reason) -> None:
    """Declare a delivery done on a person's word (the partner said so by telephone)."""
    _move(number, "settle", reason)


@app.command()
def withdraw(number: Number, reason: Reason) -> None:
    """Take a delivery back before it is sent."""
    _move(number, "withdraw", reason)


def _move(number: int, move: Move, reason: str) -> None:
    with_database(
        lambda connection: queue_desk.move_outbox(
            connection, number, move, actor=actor(), reason=reason
        )
    )
    typer.echo(f"delivery {number}: {move} done")
