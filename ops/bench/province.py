"""Documents a second to the simulated province: our sender, zeep, and bare HTTP exchanges."""

import asyncio
import dataclasses
import datetime
import importlib.resources
import logging
import pathlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import zeep
import zeep.transports

from adapters.envelope.profile import profile_of
from adapters.envelope.seal import seal
from adapters.port import Outgoing, Verdict
from adapters.province.client import Account, ProvinceSender
from adapters.province.ledger import Entry, Ledger
from adapters.province.simulator import ProvinceSimulator, running
from adapters.transport.http_post import HttpPoster, NoReply

KEY = b"bench key"
ROUNDS = 3
CALLS = 300
NAMES = [field.name for field in dataclasses.fields(Entry) if field.name != "msg_id"]


class _Serial:
    """Message ids that were not used before."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> str:
        self._last += 1
        return f"m-{self._last}"


async def _rate(call: Callable[[], Awaitable[Any]], connections: int) -> float:
    async def caller() -> None:
        for _ in range(CALLS // connections):
            await call()

    rates = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(connections)))
        rates.append(CALLS // connections * connections / (time.perf_counter() - begin))
    return statistics.median(rates)


def _by_template(sender: ProvinceSender, document: bytes, serial: _Serial) -> Any:
    async def call() -> None:
        receipt = await sender.send(Outgoing(key=serial(), payload=document))
        if receipt.verdict is not Verdict.ACCEPTED:
            raise RuntimeError(f"the simulator answered {receipt.code}")

    return call


def _by_zeep(client: Any, document: bytes, serial: _Serial) -> Any:
    profile = profile_of("province_upload")
    fields = {"orgCode": "H", "sysCode": "Q", "bizType": "resident", "opType": "A", "batchNo": "B"}

    async def call() -> None:
        now = datetime.datetime.now(datetime.UTC)
        wire = seal(profile, {**fields, "msgId": serial()}, payload=document, key=KEY, at=now)
        given = {name: text for name, text in wire.items() if text}
        [receipt] = await client.service.Upload(**given)
        if receipt.status != "accepted":
            raise RuntimeError(f"the simulator answered {receipt.code}")

    return call


async def run() -> dict[str, Any]:
    """Return sends a second at 1 and 16 callers; client and simulator share one process.

    The raw limit is an HTTP exchange of the same bytes and one durable line in a ledger.
    """
    logging.getLogger("zeep").setLevel(logging.INFO)
    file = importlib.resources.files("adapters.province").joinpath("resident_registration.xml")
    document = file.read_bytes()
    figures: dict[str, Any] = {"document_bytes": len(document), "rounds": ROUNDS, "calls": CALLS}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(pathlib.Path(folder) / "ledger.jsonl")
        lines = Ledger(pathlib.Path(folder) / "bare.jsonl")
        serial = _Serial()
        async with running(ProvinceSimulator(ledger=ledger, key=KEY)) as endpoint:
            bare = HttpPoster(endpoint + "/nowhere")
            wsdl = await asyncio.to_thread(_wsdl_client, endpoint)
            account = Account(endpoint=endpoint, key=KEY, org_code="H", org_name="医院")
            sender = ProvinceSender(account=account)

            async def exchange() -> None:
                if isinstance(await bare.post(document, {}), NoReply):
                    raise RuntimeError("the simulator did not answer")
                await lines.enter(Entry(**dict.fromkeys(NAMES, ""), msg_id=serial()))

            for callers in (1, 16):
                raw = await _rate(exchange, callers)
                ours = await _rate(_by_template(sender, document, serial), callers)
                by_zeep = await _rate(_by_zeep(wsdl, document, serial), callers)
                figures[f"callers_{callers}"] = {
                    "raw_http_per_second": round(raw),
                    "per_second": round(ours),
                    "ratio": round(ours / raw, 2),
                    "zeep_per_second": round(by_zeep),
                }
            await bare.close()
            await sender.close()
            await wsdl.transport.aclose()
    return figures


def _wsdl_client(endpoint: str) -> Any:
    with httpx.Client(trust_env=False) as http:
        transport = zeep.transports.AsyncTransport(  # type: ignore[no-untyped-call]
            client=httpx.AsyncClient(trust_env=False), wsdl_client=http
        )
        return zeep.AsyncClient(endpoint + "?wsdl", transport=transport)  # type: ignore[no-untyped-call]
