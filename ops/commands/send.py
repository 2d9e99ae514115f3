"""`qiao send`: send HL7 v2 files by MLLP and print the answers."""

import asyncio
import pathlib
from typing import Annotated

import typer

from adapters.port import Outgoing, Verdict
from adapters.transport.mllp_client import MllpSender
from mappings.hl7.charset import readable
from ops.certificates import sender_tls
from ops.cli import CANNOT_REACH, CHECK_FAILED
from ops.settings import read_settings

app = typer.Typer(rich_markup_mode=None)
_IN_DOUBT = (
    "No answer came, so the message may have been kept. Next: send it again, nothing is done "
    "twice; where the port speaks TLS, with --authorities, and --certificate and --key if it asks"
)


@app.command()
def send(
    files: Annotated[
        list[pathlib.Path], typer.Argument(help="One message each.", exists=True, dir_okay=False)
    ],
    host: Annotated[str | None, typer.Option(help="Default: QIAO_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Default: QIAO_MLLP_PORT.")
    ] = None,
    authorities: Annotated[
        pathlib.Path | None, typer.Option(help="Speak TLS and trust these authorities (PEM).")
    ] = None,
    certificate: Annotated[
        pathlib.Path | None, typer.Option(help="Our certificate (PEM), where one is asked for.")
    ] = None,
    key: Annotated[pathlib.Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
) -> None:
    """Send each file as one HL7 v2 message by MLLP; exit code 1 if any was not accepted."""
    settings = read_settings()
    sender = MllpSender(
        host=host or settings.host,
        port=port or settings.mllp_port,
        tls=sender_tls(authorities, certificate, key),
    )
    verdicts = asyncio.run(_send(sender, files))
    if Verdict.DEFERRED in verdicts:
        typer.echo("The hub cannot be reached. Next: make run, or qiao doctor", err=True)
        raise typer.Exit(CANNOT_REACH)
    if Verdict.UNKNOWN in verdicts:
        typer.echo(_IN_DOUBT, err=True)
    if any(verdict is not Verdict.ACCEPTED for verdict in verdicts):
        raise typer.Exit(CHECK_FAILED)


async def _send(sender: MllpSender, files: list[pathlib.Path]) -> list[Verdict]:
    verdicts = []
    for file in files:
        receipt = await sender.send(Outgoing(key=file.name, payload=file.read_bytes()))
        verdicts.append(receipt.verdict)
        text = readable(receipt.raw).replace("\r", "\n  ").strip()
        typer.echo(f"{file.name}: {receipt.verdict} {receipt.code} {receipt.detail}\n  {text}")
    await sender.close()
    return verdicts
