"""ADT messages in the inbox of a database, as a hub that held them keeps them."""

import asyncio

from fhir_store.inbox import NewEntry
from fhir_store.inbox_writer import InboxWriter
from fhir_store.store import make_pool


def update(control_id: str, sex: str) -> bytes:
    """Return an ADT^A08 of a synthetic person with an administrative sex."""
    return (
        f"MSH|^~\\&|HIS|H1|QIAO|HUB|20260101080000||ADT^A08|{control_id}|P|2.5.1\r"
        f"PID|1||7^^^H1^MR||Li^Lei||19900101|{sex}\r"
    ).encode()


def keep_messages(url: str, *sexes: str, channel: str = "his") -> None:
    """Keep a held message `M1`, `M2`, … for each administrative sex."""
    entries = [
        NewEntry(
            channel=channel, sender="HIS", facility="H1", control_id=f"M{number}",
            content_hash=bytes([number]), event="ADT^A08", order_key=f"{number}^H1",
            trace_id=f"{channel}{number}", peer="p", raw=update(f"M{number}", sex), ack=b"ACK",
            state="held",
        )
        for number, sex in enumerate(sexes, 1)
    ]  # fmt: skip
    keep_entries(url, *entries)


def keep_entries(url: str, *entries: NewEntry) -> None:
    """Keep entries as they are given, in their order."""

    async def run() -> None:
        async with make_pool(url, size=1) as pool:
            writer = InboxWriter(pool)
            for one in entries:
                await writer.keep(one)
            await writer.close()

    asyncio.run(run())
