"""`qiao subscriptions`: who is told what, how far, what they refused, and telling it again."""

from typing import Annotated

import typer

from fhir_store import subscriptions
from ops.command_database import with_database
from ops.queue_output import print_rows

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Subscribers of apps.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="The Subscription's id, as `list` prints it.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List subscribers: state, last event, how far they were told, failures, dead letter."""
    rows = with_database(subscriptions.list_subscribers)
    columns = ("fid", "state", "last_number", "delivered", "failures", "due_at", "dead", "detail")
    print_rows(rows, columns, as_json=as_json)


@app.command()
def dead(subscription: Id, as_json: AsJson = False) -> None:
    """List the events that a subscriber refused, with what it said."""
    rows = with_database(lambda connection: subscriptions.list_dead(connection, subscription))
    print_rows(rows, ("number", "at", "type", "id", "ver", "dead"), as_json=as_json)


@app.command()
def retell(
    subscription: Id,
    since: Annotated[int, typer.Option("--from", help="The first event to be told again.")],
) -> None:
    """Tell a subscriber its events again from a number on, refused ones included."""
    count = with_database(
        lambda connection: subscriptions.tell_again(connection, subscription, since)
    )
    if not count:
        typer.echo("No such subscriber. Next: qiao subscriptions list / 没有该订阅", err=True)
        raise typer.Exit(1)
    typer.echo(f"told again from {since}")
