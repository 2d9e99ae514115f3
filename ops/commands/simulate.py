"""`qiao simulate`: partners that are not here yet, on real sockets."""

import asyncio
import contextlib
import pathlib
import signal
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated

import typer

from adapters.identity_proof.simulator import FACEID_MOODS, FaceidSimulator
from adapters.notify.simulators import (
    SMS_MOODS,
    WECHAT_MOODS,
    NotifySimulator,
    SmsSimulator,
    WechatSimulator,
    read_moods,
)
from adapters.province.ledger import Ledger
from adapters.province.mischief import KINDS, Mischief, parse_faults
from adapters.province.simulator import ProvinceSimulator, running
from adapters.transport.http_serving import serving_on_socket
from ops.ports_file import province_key, write_port
from ops.settings import read_settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate a partner.")

Port = Annotated[int, typer.Option(help="0 takes a free one.")]
Seed = Annotated[int, typer.Option(help="The same seed misbehaves the same way.")]
_FAULTS_HELP = "none, some, many, or shares such as timeout=0.2,twice=0.1; kinds: " + ", ".join(
    KINDS
)


@app.callback()
def simulate() -> None:
    """Simulate a partner on a real socket until Ctrl-C."""


@app.command()
def province(
    port: Port = 0,
    seed: Seed = 0,
    faults: Annotated[str, typer.Option(help=_FAULTS_HELP)] = "none",
    delay_seconds: Annotated[float, typer.Option(help="How late a late answer is.")] = 2.0,
    hang_seconds: Annotated[float, typer.Option(help="How long a lost answer hangs.")] = 120.0,
    ledger: Annotated[pathlib.Path | None, typer.Option(help="What it registered (JSONL).")] = None,
) -> None:
    """Simulate the province's registration service (SOAP)."""
    try:
        shares = parse_faults(faults)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--faults") from wrong
    home = read_settings().home
    path = ledger or home / "province-ledger.jsonl"
    simulator = ProvinceSimulator(
        ledger=Ledger(path),
        key=province_key(home),
        mischief=Mischief(shares, seed),
        delay_seconds=delay_seconds,
        hang_seconds=hang_seconds,
    )
    told = ", ".join(f"{kind} {share:g} ({KINDS[kind]})" for kind, share in shares.items())
    lines = {"ledger": str(path), "key": str(home / "province.key"), "faults": told or "none"}
    serving = running(simulator, port=port)
    asyncio.run(_serve("province", serving, home, lines, page="?wsdl"))


_MOODS_HELP = "none, or shares such as refused=0.2,timeout=0.1; kinds: "


@app.command()
def sms(
    port: Port = 0,
    seed: Seed = 0,
    moods: Annotated[str, typer.Option(help=_MOODS_HELP + ", ".join(SMS_MOODS))] = "none",
) -> None:
    """Simulate the SMS cloud (SendSms with TC3-HMAC-SHA256)."""
    home = read_settings().home
    simulator = SmsSimulator(
        ledger=home / "sms-ledger.jsonl", moods=_moods(moods, SMS_MOODS), seed=seed
    )
    keys = {"secret id": simulator.secret_id, "secret key": simulator.secret_key}
    asyncio.run(_serve_notices("sms", simulator, home, port, keys))


@app.command()
def faceid(
    port: Port = 0,
    seed: Seed = 0,
    moods: Annotated[str, typer.Option(help=_MOODS_HELP + ", ".join(FACEID_MOODS))] = "none",
) -> None:
    """Simulate the register that compares name, ID card and face (faceid with TC3-HMAC-SHA256)."""
    home = read_settings().home
    simulator = FaceidSimulator(
        ledger=home / "faceid-ledger.jsonl", moods=_moods(moods, FACEID_MOODS), seed=seed
    )
    keys = {"secret id": simulator.secret_id, "secret key": simulator.secret_key}
    asyncio.run(_serve_notices("faceid", simulator, home, port, keys))


@app.command()
def wechat(
    port: Port = 0,
    seed: Seed = 0,
    moods: Annotated[str, typer.Option(help=_MOODS_HELP + ", ".join(WECHAT_MOODS))] = "none",
) -> None:
    """Simulate WeChat's access tokens and subscription messages."""
    home = read_settings().home
    simulator = WechatSimulator(
        ledger=home / "wechat-ledger.jsonl", moods=_moods(moods, WECHAT_MOODS), seed=seed
    )
    keys = {"app id": simulator.app_id, "secret": simulator.secret}
    asyncio.run(_serve_notices("wechat", simulator, home, port, keys))


def _moods(text: str, known: Mapping[str, str]) -> dict[str, float]:
    try:
        return read_moods(text, known)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--moods") from wrong


async def _serve_notices(
    name: str, simulator: NotifySimulator, home: pathlib.Path, port: int, keys: Mapping[str, str]
) -> None:
    lines = {"ledger": str(simulator.ledger), **keys}
    await _serve(name, serving_on_socket(simulator, port=port), home, lines)


async def _serve(
    name: str,
    serving: AbstractAsyncContextManager[str],
    home: pathlib.Path,
    lines: Mapping[str, str],
    *,
    page: str = "",
) -> None:
    """Serve until told to stop, and print the address (its `page`) and what else to know."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(serving)
        except OSError as broken:
            typer.echo(f"{broken} / 端口被占用；换一个 --port", err=True)
            raise typer.Exit(3) from broken
        write_port(home, name, address)
        for label, text in {name: f"{address}{page}", **lines}.items():
            typer.echo(f"{label:<10}  {text}")
        try:
            await stopped.wait()
        finally:
            write_port(home, name, None)
