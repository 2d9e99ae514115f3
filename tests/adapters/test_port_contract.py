"""One contract for every sender: verdicts instead of exceptions."""

import asyncio
import contextlib
import importlib.resources
import pathlib
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from adapters.memory import MemorySender
from adapters.port import Outgoing, Received, Sender, Verdict
from adapters.province.client import Account, ProvinceSender
from adapters.province.ledger import read_ledger
from adapters.province.simulator import running, simulator_at
from adapters.transport.hl7_header import control_id_of
from adapters.transport.mllp_client import MllpSender
from adapters.transport.mllp_server import MllpServer


@dataclass
class Partner:
    """The other side: how it behaves, and which keys took effect there how often."""

    sender: Sender
    effects: dict[str, int]


class Kind(Protocol):
    def outgoing(self, key: str) -> Outgoing: ...
    def open(self, behaviour: str) -> contextlib.AbstractAsyncContextManager[Partner]: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class InMemory:
    def outgoing(self, key: str) -> Outgoing:
        return Outgoing(key=key, payload=b"payload")

    @contextlib.asynccontextmanager
    async def open(self, behaviour: str) -> AsyncIterator[Partner]:
        verdicts = {
            "accepts": Verdict.ACCEPTED,
            "refuses": Verdict.REFUSED,
            "is silent": Verdict.UNKNOWN,
            "is away": Verdict.DEFERRED,
        }
        sender = MemorySender(verdicts[behaviour])
        partner = Partner(sender, {})
        yield partner
        partner.effects.update(dict.fromkeys(sender.kept, 1))


class ByMllp:
    def outgoing(self, key: str) -> Outgoing:
        header = f"MSH|^~\\&|桥|Q|HIS|H|20260102030405||ADT^A01|{key}|P|2.5.1||||||UNICODE UTF-8\r"
        return Outgoing(key=key, payload=header.encode())

    @contextlib.asynccontextmanager
    async def open(self, behaviour: str) -> AsyncIterator[Partner]:
        effects: dict[str, int] = {}

        async def accept(received: Received) -> bytes | None:
            control_id = control_id_of(received.payload)
            effects[control_id] = 1
            if behaviour == "is silent":
                return None
            code = "AA" if behaviour == "accepts" else "AE"
            return f"MSH|^~\\&|HIS|H|Q|Q|||ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r".encode()

        server = MllpServer(channel="his", accept=accept)
        await server.start("127.0.0.1", 0)
        port = server.port if behaviour != "is away" else free_port()
        sender = MllpSender(host="127.0.0.1", port=port, reply_seconds=0.3, connect_seconds=2)
        yield Partner(sender, effects)
        await server.stop()


class ByProvinceSoap:
    document = (
        importlib.resources.files("adapters.province")
        .joinpath("resident_registration.xml")
        .read_bytes()
    )

    def outgoing(self, key: str) -> Outgoing:
        return Outgoing(key=key, payload=self.document, facts={"bizType": "resident"})

    @contextlib.asynccontextmanager
    async def open(self, behaviour: str) -> AsyncIterator[Partner]:
        mood = {"refuses": {"refuse": 1.0}, "is silent": {"timeout": 1.0}}.get(behaviour, {})
        effects: dict[str, int] = {}
        with tempfile.TemporaryDirectory() as folder:
            simulator = simulator_at(pathlib.Path(folder), key=b"key", faults=mood)
            async with running(simulator) as endpoint:
                if behaviour == "is away":
                    endpoint = f"http://127.0.0.1:{free_port()}/registration"
                account = Account(endpoint=endpoint, key=b"key", org_code="H", org_name="医院")
                yield Partner(ProvinceSender(account=account, reply_seconds=1), effects)
            for entry in read_ledger(pathlib.Path(folder) / "province-ledger.jsonl"):
                effects[entry.msg_id] = effects.get(entry.msg_id, 0) + 1


KINDS = pytest.mark.parametrize(
    "kind", [InMemory(), ByMllp(), ByProvinceSoap()], ids=["memory", "mllp", "province"]
)


@KINDS
@pytest.mark.parametrize(
    ("behaviour", "verdict"),
    [
        ("accepts", Verdict.ACCEPTED),
        ("refuses", Verdict.REFUSED),
        ("is silent", Verdict.UNKNOWN),
        ("is away", Verdict.DEFERRED),
    ],
)
def test_what_the_partner_does_becomes_a_verdict(
    kind: Kind, behaviour: str, verdict: Verdict
) -> None:
    async def scenario() -> None:
        async with kind.open(behaviour) as partner:
            receipt = await partner.sender.send(kind.outgoing("k-1"))
            assert receipt.verdict is verdict
            assert receipt.code
            await partner.sender.close()

    asyncio.run(scenario())


@KINDS
def test_the_same_key_twice_is_answered_twice(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.open("accepts") as partner:
            for _ in range(2):
                receipt = await partner.sender.send(kind.outgoing("k-1"))
                assert receipt.verdict is Verdict.ACCEPTED
            await partner.sender.close()
        assert partner.effects == {"k-1": 1}

    asyncio.run(scenario())


@KINDS
def test_asking_for_an_unknown_key_raises_nothing(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.open("accepts") as partner:
            receipt = await partner.sender.ask("never sent")
            assert receipt.verdict in (Verdict.UNKNOWN, Verdict.DEFERRED)
            await partner.sender.close()
            await partner.sender.close()

    asyncio.run(scenario())


@KINDS
def test_many_sends_at_once_each_get_their_own_receipt(kind: Kind) -> None:
    async def scenario() -> None:
        async with kind.open("accepts") as partner:
            keys = [f"k-{number}" for number in range(50)]
            receipts = await asyncio.gather(
                *(partner.sender.send(kind.outgoing(key)) for key in keys)
            )
            assert {receipt.verdict for receipt in receipts} == {Verdict.ACCEPTED}
            await partner.sender.close()
        assert sorted(partner.effects) == sorted(keys)

    asyncio.run(scenario())
