"""`qiao audit`: whether the audit is untouched, and who did what."""

import json
from typing import Annotated, Any

import typer
from psycopg import AsyncConnection

from fhir_store.audit import Finding, Seal, seal, verify
from fhir_store.audit_events import AuditQuery, list_events
from ops.cli import CHECK_FAILED, USAGE
from ops.command_database import with_database

app = typer.Typer(
    help="Whether the audit is untouched, and who did what.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_WORDS = {
    "rows-changed": "rows were changed",
    "rows-missing": "rows were removed",
    "rows-added": "rows were added",
    "chain-broken": "a seal was removed or put in",
    "head-missing": "the seals up to the given head are not all there",
}
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("verify")
def verify_command(
    head: Annotated[
        str | None,
        typer.Option(help="NUMBER:HASH of a seal from the log ('audit head'), kept elsewhere."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every seal; exit 1 and name the spans where the audit was touched."""
    wanted = _seal_of(head) if head is not None else None

    async def work(connection: AsyncConnection[Any]) -> tuple[Seal | None, list[Finding]]:
        newest = None
        while (sealed := await seal(connection)) is not None:
            newest = sealed
        return newest, await verify(connection, head=wanted)

    newest, findings = with_database(work, autocommit=True)
    for one in findings:
        if as_json:
            typer.echo(json.dumps({name: getattr(one, name) for name in one.__slots__}))
        else:
            span = f"transactions {one.from_txid} to {one.to_txid - 1}"
            typer.echo(
                f"seal {one.number} ({span}): {_WORDS[one.kind]};"
                f" {one.sealed_rows} sealed, {one.found_rows} found"
            )
    if newest is not None:
        typer.echo(f"head {newest.number}:{newest.hash.hex()}", err=True)
    typer.echo(f"{len(findings)} findings", err=True)
    if findings:
        raise typer.Exit(CHECK_FAILED)


@app.command("list")
def list_command(
    of: Annotated[str | None, typer.Option(help="Type/id: who has seen or changed it.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    action: Annotated[str | None, typer.Option(help="create, read, search-type, …")] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List accesses, newest first."""
    type_, _, id_ = (of or "").partition("/")
    query = AuditQuery(
        entity=(type_, id_) if of is not None else None, actor=actor, action=action, count=count
    )

    async def work(connection: AsyncConnection[Any]) -> list[dict[str, Any]]:
        return list((await list_events(connection, query)).events)

    for event in with_database(work, autocommit=True):
        if as_json:
            typer.echo(json.dumps(event, ensure_ascii=False))
            continue
        who = event["agent"][0]["who"]
        what = event.get("entity", [{}])[0].get("what", {}).get("reference", "")
        typer.echo(
            f"{event['recorded']}  {event['subtype'][0]['code']:<12} {event['outcome']}  "
            f"{who.get('reference') or who.get('display')}  {what}"
        )


def _seal_of(text: str) -> Seal:
    number, _, digest = text.partition(":")
    try:
        return Seal(number=int(number), rows=0, hash=bytes.fromhex(digest))
    except ValueError:
        typer.echo("--head is NUMBER:HASH, as the log says under 'audit head'.", err=True)
        raise typer.Exit(USAGE) from None
