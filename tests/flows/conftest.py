"""A store on a fresh database, HL7 messages, and work for lanes that leaves traces."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from adapters.port import Received
from conformance.problem import InvalidContent, Issue, Unavailable
from fhir_store.inbox_writer import InboxWriter
from fhir_store.lanes import Finished
from fhir_store.store import Store, make_pool
from mappings.channels.profile import ChannelProfile
from ops.bell import Bell
from ops.channel import Channel
from ops.flow_inbound import InboundFlow
from ops.lanes import LaneWorkers
from ops.metrics import Metrics


def _adt(control_id, patient="P1", event="A08", name="Zhang", extra="", **msh):
    fields = {3: "HIS", 4: "H1", 7: "20260101080000", 11: "P", 12: "2.5.1", **msh}
    fields = {int(str(k).lstrip("f")): v for k, v in fields.items()}
    fields |= {9: f"ADT^{event}", 10: control_id}
    head = "|".join(["MSH", "^~\\&", *(fields.get(n, "") for n in range(3, 19))]).rstrip("|")
    pid = f"PID|1||{patient}^^^H1^MR||{name}^San" if patient else ""
    lines = [head, f"EVN|{event}|20260101", *([pid] if pid else []), *([extra] if extra else [])]
    return ("\r".join(lines) + "\r").encode()


@pytest.fixture
def adt():
    """A function that makes an ADT message; MSH fields are given as f18="GB18030"."""
    return _adt


@dataclass
class Effects:
    """Work that writes one row for each entry; a message that says POISON can never be done."""

    mended: bool = False
    fail_next: list = field(default_factory=list)

    def read(self, entry):
        if b"UNREADABLE" in entry.raw and not self.mended:
            raise InvalidContent(
                Issue(key="value", text_en="no", text_zh="不", expression="PID[1]")
            )
        return entry.raw

    async def write(self, transaction, readings):
        if self.fail_next:
            raise self.fail_next.pop()
        for entry, raw in readings:
            if b"POISON" in raw and not self.mended:
                await transaction.connection.execute("select 1/0")
            if b"BROKEN LINK" in raw and not self.mended:
                raise Unavailable(Issue(key="away", text_en="away", text_zh="离线"))
            await transaction.connection.execute(
                "insert into effect (entry, control_id, keys) values (%s, %s, %s)",
                (entry.id, entry.control_id, list(entry.keys)),
            )
        return [Finished(entry=entry, state="translated") for entry, _ in readings]

    async def tell(self, transaction, ended):
        """Nobody asks to be told."""


def channel_of(answers="always", application_acks=None, **profile):
    return Channel(
        name="his",
        profile=ChannelProfile(**profile),
        answers=answers,
        application_acks=application_acks,
    )


@dataclass
class Spine:
    store: Store
    writer: InboxWriter
    flow: InboundFlow
    work: Effects
    bell: Bell
    metrics: Metrics

    def workers(self, **choices):
        choices = {"careful": 0, **choices}
        return LaneWorkers(self.store, self.work, bell=self.bell, metrics=self.metrics, **choices)

    async def send(self, payload, channel="his"):
        received = Received(channel=channel, payload=payload, peer="127.0.0.1:1", received_at=0.0)
        return await self.flow.accept(received)

    async def rows(self, statement, *values):
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def effects(self):
        return [row[0] for row in await self.rows("select control_id from effect order by n")]

    async def states(self):
        return dict(await self.rows("select control_id, state from inbox"))

    async def drain(self, worker=None, rounds=400):
        """Work until nothing more moves."""
        worker = worker or self.workers()
        idle = 0
        lane = 0
        for _ in range(rounds):
            done = await worker.run_once(lane)
            if done is None:
                return
            lane = done[0] + 1
            idle = 0 if done[1] else idle + 1
            if idle > 32:
                return
        raise AssertionError("the lanes did not come to rest")


@pytest.fixture
def open_spine(database_url) -> Callable[..., object]:
    """A function for `async with`: inbox and lanes on this test's database."""

    @asynccontextmanager
    async def opened(**channel) -> AsyncIterator[Spine]:
        async with make_pool(database_url, size=8) as pool:
            async with pool.connection() as connection:
                await connection.execute(
                    "create table if not exists effect (n int8 generated always as identity,"
                    " entry int8, control_id text, keys text[])"
                )
            writer = InboxWriter(pool)
            metrics = Metrics()
            flow = InboundFlow(
                writer=writer,
                channels={"his": channel_of(**channel)},
                metrics=metrics,
            )
            yield Spine(Store(pool), writer, flow, Effects(), Bell(pool, "inbox"), metrics)
            await writer.close()

    return opened
