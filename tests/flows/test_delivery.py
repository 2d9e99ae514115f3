"""What is owed arrives once, in order per key, and no destination slows another."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from adapters.port import Receipt, Verdict
from conformance.problem import BusinessRule, InvalidContent, Issue
from fhir_store import outbox, queue_desk
from fhir_store.operations import Update, WriteContext
from fhir_store.outbox import Delivery
from fhir_store.store import Store, make_pool
from ops.bell import Bell
from ops.breaker import Breaker
from ops.flow_delivery import DeliveryWorkers, Destination, Document, Withheld
from ops.metrics import Metrics


@dataclass
class Partner:
    """Takes what it is sent; `says` holds what it answers next, as verdict or as a function."""

    says: list = field(default_factory=list)
    taken: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    seconds: float = 0.0
    sending: int = 0
    most_at_once: int = 0

    async def send(self, outgoing):
        self.sending += 1
        self.most_at_once = max(self.most_at_once, self.sending)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.sending -= 1
        verdict = self.says.pop(0) if self.says else Verdict.ACCEPTED
        if verdict is Verdict.ACCEPTED or verdict == "taken, unknown":
            self.taken.append((outgoing.key, outgoing.payload))
        if isinstance(verdict, Exception):
            raise verdict
        return Receipt(
            verdict=Verdict.UNKNOWN if verdict == "taken, unknown" else verdict,
            code="c", reference="R1", raw=b"" if verdict == "taken, unknown" else b"<raw/>",
        )  # fmt: skip

    async def ask(self, key):
        self.asked.append(key)
        verdict = Verdict.ACCEPTED if key in dict(self.taken) else Verdict.DEFERRED
        return Receipt(verdict=verdict, code="asked", raw=b"<status/>")

    async def close(self):
        pass


async def compose(owed, version):
    if b"WRONG" in version.body:
        raise InvalidContent(Issue(key="value", text_en="wrong", text_zh="错误"))
    payload = f"{owed.source_type}/{owed.source_id}/{owed.source_version}".encode()
    return Document(payload=payload, content_type="text/plain")


def to(*names, **how):
    return lambda written: [Delivery(destination=name, **how) for name in names]


@dataclass
class Post:
    store: Store
    workers: DeliveryWorkers

    async def write(self, id_, family, type_="Patient"):
        resource = {"resourceType": type_, "id": id_, "name": [{"family": family}]}
        context = WriteContext(actor="test", at=datetime.now(UTC), trace_id=f"t-{id_}")
        await self.store.write([Update(resource=resource)], context=context)

    async def rows(self, statement, *values):
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def states(self, destination="p"):
        rows = await self.rows(
            "select state from outbox where destination = %s order by id", destination
        )
        return [row[0] for row in rows]

    async def until(self, *states, destination="p", seconds=10):
        for _ in range(int(seconds / 0.02)):
            if await self.states(destination) == list(states):
                return
            await asyncio.sleep(0.02)
        assert await self.states(destination) == list(states)


class Opened:
    """A post office on the test's database, its workers running."""

    def __init__(self, url, destinations, choose):
        self.pool = make_pool(url, size=12)
        self.destinations, self.choose = destinations, choose

    async def __aenter__(self):
        await self.pool.open()
        store = Store(self.pool, choose_destinations=self.choose)
        self.workers = DeliveryWorkers(
            store,
            self.destinations,
            bell=Bell(self.pool, "outbox"),
            metrics=Metrics(),
            poll_seconds=0.02,
            grace_seconds=0.5,
        )
        await self.workers.start()
        return Post(store, self.workers)

    async def __aexit__(self, *_):
        await self.workers.stop()
        await self.pool.close()


def destination(partner, name="p", **how):
    how = {"wait_seconds": 0.02, "send_seconds": 5, "compose": compose, **how}
    return Destination(name=name, sender=partner, **how)


def test_a_written_version_is_delivered_and_its_raw_receipt_kept(database_url):
    async def run():
        partner = Partner()
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.write("1", "A")
            await post.until("accepted")
            assert [payload for _, payload in partner.taken] == [b"Patient/1/1"]
            rows = await post.rows("select receipt, reference, trace_id, payload from outbox")
            assert rows == [(b"<raw/>", "R1", "t-1", b"Patient/1/1")]

    asyncio.run(run())


def test_versions_of_one_resource_arrive_in_order_and_others_beside_them(database_url):
    async def run():
        partner = Partner(seconds=0.01)
        async with Opened(database_url, [destination(partner, parallel=4)], to("p")) as post:
            for version in range(5):
                for id_ in "ABC":
                    await post.write(id_, f"V{version}")
            await post.until(*["accepted"] * 15)
            sent = [payload.decode().split("/") for _, payload in partner.taken]
            for id_ in "ABC":
                mine = [int(v) for _, i, v in sent if i == id_]
                assert mine == [1, 2, 3, 4, 5]
            assert partner.most_at_once > 1

    asyncio.run(run())


def test_a_deferred_delivery_waits_and_goes_again_before_its_successors(database_url):
    async def run():
        partner = Partner(says=[Verdict.DEFERRED, Verdict.DEFERRED])
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.write("1", "A")
            await post.write("1", "B")
            await post.until("accepted", "accepted")
            assert [p for _, p in partner.taken] == [b"Patient/1/1", b"Patient/1/2"]

    asyncio.run(run())


def test_a_refused_delivery_stops_and_its_successor_goes(database_url):
    async def run():
        partner = Partner(says=[Verdict.REFUSED])
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.write("1", "A")
            await post.write("1", "B")
            await post.until("refused", "accepted")

    asyncio.run(run())


def test_what_may_have_been_taken_is_asked_about_and_not_sent_again(database_url):
    async def run():
        partner = Partner(says=["taken, unknown"])
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.write("1", "A")
            await post.until("settled")
            assert len(partner.taken) == 1
            assert partner.asked == [partner.taken[0][0]]

    asyncio.run(run())


def test_what_was_lost_on_the_way_goes_again_under_the_same_key(database_url):
    async def run():
        partner = Partner(says=[OSError("gone")])
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.write("1", "A")
            await post.until("accepted")
            assert partner.asked == [partner.taken[0][0]]

    asyncio.run(run())


def test_blind_resending_would_register_twice(database_url):
    """The twin: declared idempotent although it is not, the partner takes the document twice."""

    async def run():
        partner = Partner(says=["taken, unknown"])
        wrongly = destination(partner, is_idempotent=True)
        async with Opened(database_url, [wrongly], to("p")) as post:
            await post.write("1", "A")
            await post.until("accepted")
            assert len(partner.taken) == 2
            assert len({key for key, _ in partner.taken}) == 1

    asyncio.run(run())


def test_a_sender_that_hangs_becomes_unknown_in_time(database_url):
    async def run():
        partner = Partner(seconds=30)
        slow = destination(partner, send_seconds=0.05)
        async with Opened(database_url, [slow], to("p")) as post:
            await post.write("1", "A")
            for _ in range(200):
                if partner.asked:
                    break
                await asyncio.sleep(0.02)
            assert partner.asked

    asyncio.run(run())


def test_a_dead_destination_slows_no_other(database_url):
    async def run():
        dead, alive = Partner(seconds=30), Partner()
        both = [destination(dead, "dead"), destination(alive, "alive")]
        async with Opened(database_url, both, to("dead", "alive")) as post:
            for n in range(20):
                await post.write(str(n), "A")
            await post.until(*["accepted"] * 20, destination="alive")
            assert "accepted" not in await post.states("dead")

    asyncio.run(run())


def test_a_send_that_nobody_finished_is_asked_about_by_the_next_worker(database_url):
    async def run():
        partner = Partner()
        async with Opened(database_url, [], to("p")) as post:
            await post.write("1", "A")
            await post.rows(
                "update outbox set state = 'inflight', attempts = 1, payload = 'x',"
                " lease_until = now() - interval '1 s'"
            )
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.until("accepted")
            assert len(partner.asked) == 1
            assert partner.taken[0][1] == b"x"

    asyncio.run(run())


def test_a_claim_whose_worker_died_was_never_sent_and_is_taken_again(database_url):
    async def run():
        partner = Partner()
        async with Opened(database_url, [], to("p")) as post:
            await post.write("1", "A")
            await post.rows(
                "update outbox set state = 'claimed', attempts = 1,"
                " lease_until = now() - interval '1 s'"
            )
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.until("accepted")
            assert partner.asked == []

    asyncio.run(run())


def test_a_child_waits_until_its_parent_was_taken(database_url):
    async def run():
        partner = Partner(says=[Verdict.DEFERRED, Verdict.REFUSED])

        def choose(written):
            parent = None if written.version.type == "Patient" else "Patient/1"
            return [Delivery(destination="p", depends_on=parent)]

        async with Opened(database_url, [destination(partner)], choose) as post:
            await post.write("1", "A")
            await post.write("9", "child", type_="Practitioner")
            await post.until("refused", "waiting")
            await post.write("1", "B")
            await post.until("refused", "accepted", "accepted")
            assert [p for _, p in partner.taken] == [b"Patient/1/2", b"Practitioner/9/1"]

    asyncio.run(run())


def test_a_child_of_several_waits_for_each_and_not_for_what_was_withdrawn(database_url):
    async def run():
        partner = Partner()

        async def withhold(owed, version):
            if owed.source_id == "2":
                return Withheld(code="demo", detail="nobody gets it")
            return await compose(owed, version)

        def choose(written):
            parents = None if written.version.type == "Patient" else "Patient/1 Patient/2 Patient/3"
            return [Delivery(destination="p", depends_on=parents)]

        async with Opened(database_url, [], choose) as post:
            await post.write("9", "child", type_="Practitioner")
            for id_ in "12":
                await post.write(id_, "A")
        one = destination(partner, compose=withhold)
        async with Opened(database_url, [one], choose) as post:
            await post.until("accepted", "accepted", "withdrawn")
            sent = [p for _, p in partner.taken]
            assert sent == [b"Patient/1/1", b"Practitioner/9/1"], "nothing is owed for the third"
            ((code,),) = await post.rows("select code from outbox where source_id = '2'")
            assert code == "demo"

    asyncio.run(run())


def test_only_the_latest_version_goes_where_that_is_enough(database_url):
    async def run():
        partner = Partner()
        choose = to("p", is_latest_only=True)
        async with Opened(database_url, [], choose) as post:
            for family in "ABC":
                await post.write("1", family)
        async with Opened(database_url, [destination(partner)], choose) as post:
            await post.until("superseded", "superseded", "accepted")
            assert [p for _, p in partner.taken] == [b"Patient/1/3"]

    asyncio.run(run())


def test_a_version_that_makes_no_document_is_refused_and_may_be_queued_again(database_url):
    async def run():
        partner = Partner()
        async with Opened(database_url, [destination(partner)], to("p")) as post:
            await post.write("1", "WRONG")
            await post.until("refused")
            ((id_, code),) = await post.rows("select id, code from outbox")
            assert code == "value"
            async with post.store.begin() as transaction:
                await queue_desk.move_outbox(
                    transaction.connection, id_, "requeue", actor="operator"
                )
            await post.until("refused")
            moves = await post.rows("select action from queue_audit where queue = 'outbox'")
            assert moves == [("requeue",)]

    asyncio.run(run())


def test_moving_an_unknown_delivery_needs_a_reason(database_url):
    async def run():
        async with Opened(database_url, [], to("p")) as post:
            await post.write("1", "A")
            await post.rows("update outbox set state = 'unknown'")
            ((id_,),) = await post.rows("select id from outbox")
            async with post.store.begin() as transaction:
                connection = transaction.connection
                with pytest.raises(BusinessRule):
                    await queue_desk.move_outbox(connection, id_, "requeue", actor="o")
                await queue_desk.move_outbox(
                    connection, id_, "settle", actor="o", reason="telephone"
                )
            assert await post.states() == ["settled"]

    asyncio.run(run())


def test_the_same_version_is_owed_once(database_url):
    async def run():
        async with Opened(database_url, [], to("p")) as post:
            await post.write("1", "A")
            row = outbox.OutboxRow(
                source_type="Patient", source_id="1", source_version=1,
                delivery=Delivery(destination="p"),
            )  # fmt: skip
            async with post.store.begin() as transaction:
                await outbox.insert_rows(transaction.connection, [row, row])
            assert await post.states() == ["waiting"]

    asyncio.run(run())


def test_the_breaker_opens_after_failures_and_lets_one_probe_through():
    now = [0.0]
    breaker = Breaker(failures_to_open=3, rest_seconds=5, clock=lambda: now[0])
    for _ in range(3):
        assert breaker.allowed(4) == 4
        breaker.failed()
    assert breaker.allowed(4) == 0
    now[0] = 5.0
    assert breaker.allowed(4) == 1
    breaker.failed()
    assert breaker.allowed(4) == 0
    assert breaker.seconds_left() == 10.0
    now[0] = 15.0
    breaker.succeeded()
    assert breaker.allowed(4) == 4
