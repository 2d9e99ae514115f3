"""One real message on its way: from a hospital's socket to the province's receipt.

The journey is read from the hub's own tables and the simulator's ledger, as an operator would.
"""

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg

from adapters.port import Outgoing, Receipt, Verdict
from adapters.transport.mllp_client import MllpSender
from fhir_store.journey import journey
from ops.demo.synthetic_district import Person, people

PATIENCE_SECONDS = 30.0
FIRST_PERSON = 9000
"""Persons of the demonstration begin here; the district's residents are numbered below."""


@dataclass(frozen=True, slots=True)
class Room:
    """One station of the journey: what happened, milliseconds after the frame left, details."""

    name: str
    milliseconds: float | None
    details: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the room as it is printed."""
        at = f"{self.milliseconds:8.1f} ms" if self.milliseconds is not None else " " * 11
        first, *others = self.details
        return [f"  {at}  {self.name:<11} {first}", *(f"{' ' * 27}{line}" for line in others)]


class DemoFailed(Exception):
    """The message did not arrive; the text says where it stopped and what to do."""


def admission(person: Person, control_id: str, at: datetime.datetime) -> bytes:
    """Return an ADT^A01 of the person in GB18030, as a hospital system would send it."""
    stamp = at.strftime("%Y%m%d%H%M%S%z")
    sex = "F" if person.gender == "female" else "M"
    lines = [
        f"MSH|^~\\&|HIS|测试区人民医院|QIAO|HUB|{stamp}||ADT^A01^ADT_A01|{control_id}|P|2.5.1"
        "||||||GB 18030-2000",
        f"EVN|A01|{stamp}",
        f"PID|1||{person.id_card}^^^CN^NNCHN~{person.health_card}^^^CN^HC"
        f"~M{person.health_card[-13:]}^^^测试区人民医院^MR||{person.surname}^{person.given}"
        f"||{person.birth_on:%Y%m%d}|{sex}|||{person.address}^^^^^CN||{person.phone}",
        f"NK1|1|{person.surname}^某|SPO^配偶^HL70063||10000000000",
        "PV1|1|I|内科^301^1^测试区人民医院||||D000001^医^生||||||||||||"
        f"V{control_id}^^^测试区人民医院^VN|||||||||||||||||||||||||{stamp}",
    ]
    return ("\r".join(lines) + "\r").encode("gb18030")


async def send_one(
    database_url: str,
    *,
    host: str,
    port: int,
    base: str,
    tls: ssl.SSLContext | None = None,
    number: int | None = None,
) -> AsyncIterator[Room]:
    """Send an admission and yield each room as the message passes it; raises DemoFailed."""
    number = number or int(time.time()) % 900_000
    person = list(people(FIRST_PERSON + number, 1))[0]  # noqa: RUF015 - the generator ends here
    control_id = f"DEMO{time.time_ns() // 1_000_000}"
    now = datetime.datetime.now(datetime.UTC).astimezone()
    frame = admission(person, control_id, now)
    sender = MllpSender(host=host, port=port, tls=tls)
    began, began_at = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    yield Room("frame", 0.0, (f"ADT^A01 of {person.name}, {len(frame)} bytes of GB18030"
                              f"{' under TLS' if tls else ''}, MSH-10 {control_id}",))  # fmt: skip
    receipt = await sender.send(Outgoing(key=control_id, payload=frame))
    acked = (time.perf_counter() - began) * 1000
    await sender.close()
    if receipt.verdict is not Verdict.ACCEPTED:
        raise DemoFailed(_not_taken(receipt, is_under_tls=tls is not None))
    async for room in _follow(database_url, control_id, began_at, acked, receipt.raw, base):
        yield room


def _not_taken(receipt: Receipt, *, is_under_tls: bool) -> str:
    text = f"The hub answered {receipt.code}: {receipt.detail}. Next: "
    if is_under_tls and not receipt.raw:
        return (
            text + "qiao demo --certificate FILE --key FILE, if QIAO_MLLP_CLIENT_AUTHORITIES is set"
        )
    return text + "qiao doctor"


async def _follow(
    database_url: str,
    control_id: str,
    began_at: datetime.datetime,
    acked: float,
    ack: bytes,
    base: str,
) -> AsyncIterator[Room]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:

        def since(moment: datetime.datetime | None) -> float | None:
            return (moment - began_at).total_seconds() * 1000 if moment else None

        row = await _wait(connection, control_id, "inbox", bool)
        kept = f"entry {row['entry']}, kept before it was answered, trace {row['trace_id']}"
        yield Room("inbox row", since(row["received_at"]), (kept,))
        yield Room("ACK", acked, (_ack_line(ack),))
        row = await _wait(connection, control_id, "translation", lambda r: r["state"] in _WORKED)
        if row["state"] != "translated":
            advice = f"Next: qiao inbox show {row['entry']}"
            raise DemoFailed(f"The message is {row['state']}, not translated. {advice}")
        links = tuple(f"{base}/{name.split('/_history')[0]}" for name in row["written"])
        yield Room("resources", since(row["done_at"]), links)
        row = await _wait(connection, control_id, "outbox row", lambda r: bool(r["delivery"]))
        owed = f"delivery {row['delivery']} to {row['destination']}, owed in the same commit"
        yield Room("outbox row", since(row["owed_at"]), (owed,))
        row = await _wait(connection, control_id, "receipt", lambda r: r["delivery_state"] in _DONE)
        sent = f"Upload, {row['delivery_state']} after {row['attempts']} attempt(s)"
        yield Room("SOAP call", since(row["sent_at"]), (sent,))
        words = f"{row['code']} {row['detail']} registration {row['reference']}"
        yield Room("receipt", since(row["settled_at"]), (" ".join(words.split()),))
        if row["delivery_state"] not in ("accepted", "settled"):
            advice = f"Next: qiao outbox show {row['delivery']}"
            raise DemoFailed(f"The province did not take it: {row['delivery_state']}. {advice}")


_WORKED = ("translated", "unmapped", "held", "parked", "skipped")
_DONE = ("accepted", "settled", "refused", "superseded", "withdrawn")


async def _wait(connection: Any, control_id: str, room: str, is_there: Any) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        row = await journey(connection, control_id)
        if row and is_there(row):
            return row
        await asyncio.sleep(0.01)
    raise DemoFailed(f"Nothing after {PATIENCE_SECONDS:.0f} s at the {room}. Next: qiao inbox list")


def _ack_line(ack: bytes) -> str:
    text = ack.decode("gb18030", "replace")
    return next((line for line in text.splitlines() if line.startswith("MSA")), "no MSA")
