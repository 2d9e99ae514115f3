"""What a sender is told: that its message is kept, that it took effect, or why it did not."""

import asyncio
import contextlib

import psycopg
import pytest

from adapters.port import Outgoing
from adapters.transport.mllp_client import MllpSender
from adapters.transport.mllp_server import MllpServer
from mappings.hl7.message import parse
from ops.settings import Settings
from ops.wiring import running_hub


def adt_message(control_id, *, event="A01", patient="7", accept="", application=""):
    return (
        f"MSH|^~\\&|HIS|H1|HUB|Q|20260101||ADT^{event}|{control_id}|P|2.5|||{accept}|{application}\r"
        f"EVN|{event}|20260101\r"
        f"PID|1||{patient}{'^^^H1^MR' if patient else ''}||李^雷||19900101|F\r"
        "PV1|1|I|W1^1^1\r"
    ).encode()


def merge_without_survivor(control_id, **asked):
    """A message that is parked: nobody can carry it out as it stands."""
    whole = adt_message(control_id, event="A40", patient="", **asked)
    return whole.replace(b"PV1|1|I|W1^1^1\r", b"MRG|9^^^H1^MR\r")


@contextlib.asynccontextmanager
async def hub(database_url, folder, roles="mllp,worker", **declared):
    """A hub with one channel, declared by keys; yields a function that sends and gives the MSA."""
    lines = "".join(f"{key}: {value}\n" for key, value in declared.items())
    (folder / "his.yaml").write_text(f"channel: his\n{lines}", encoding="utf-8")
    settings = Settings(auth="off", http_port=0, mllp_port=0, channels=folder)
    async with running_hub(settings, database_url, roles=frozenset(roles.split(","))) as running:
        sender = MllpSender(host="127.0.0.1", port=running.mllp_port or 1, reply_seconds=30)

        async def send(payload):
            return await sender.send(Outgoing(key="k", payload=payload))

        send.reload = running.reload
        yield send
        await sender.close()


@contextlib.asynccontextmanager
async def hospital(codes=()):
    """A sender's own inlet, which gets the application acknowledgements; answers codes, then CA."""
    got = asyncio.Queue()
    codes = list(codes)

    async def accept(received):
        ack = parse(received.payload)
        await got.put(ack)
        code = codes.pop(0) if codes else "CA"
        return (
            f"MSH|^~\\&|HIS|H1|HUB|Q|20260101||ACK|1|P|2.5\rMSA|{code}|{ack.value('MSH', 10)}\r"
        ).encode()

    server = MllpServer(channel="acks", accept=accept)
    await server.start("127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.port}", got
    finally:
        await server.stop(grace_seconds=1)


async def rows(url, statement, *values):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(statement, values)
        return await cursor.fetchall()


PATIENTS = "select count(*) from resource join rtype using (tid) where name = 'Patient'"


def test_applied_is_answered_when_the_resources_are_there(database_url, tmp_path):
    async def run():
        async with hub(database_url, tmp_path, acknowledge="applied") as send:
            for number in range(5):
                receipt = await send(adt_message(f"M{number}", patient=f"P{number}"))
                assert receipt.code == "AA"
                assert await rows(database_url, PATIENTS) == [(number + 1,)]
            again = await send(adt_message("M4", patient="P4"))
            assert again.raw == receipt.raw
            stored = await rows(database_url, "select ack from inbox where control_id = 'M4'")
            assert stored == [(again.raw,)]

    asyncio.run(run())


def test_stored_is_answered_without_any_effect(database_url, tmp_path):
    """The twin of the test above: its channel promises less, and nothing has been written."""

    async def run():
        async with hub(database_url, tmp_path, "mllp", acknowledge="stored") as send:
            assert (await send(adt_message("M1"))).code == "AA"
            assert await rows(database_url, PATIENTS) == [(0,)]

    asyncio.run(run())


def test_an_effect_that_does_not_come_in_time_is_ae_and_a_resend_learns_of_it(
    database_url, tmp_path
):
    async def run():
        declared = {"acknowledge": "applied", "applied_seconds": 1}
        async with hub(database_url, tmp_path, "mllp", **declared) as send:
            first = await send(adt_message("M1"))
            assert first.code == "AE"
            error = parse(first.raw)
            assert error.value("ERR", 2) == "MSH"
            assert "Send the same message again" in first.raw.decode()
            assert await rows(database_url, "select state from inbox") == [("received",)]
            async with hub(database_url, tmp_path, "worker", **declared):
                # Another process does the work; this one hears of it.
                for _ in range(20):
                    second = await send(adt_message("M1"))
                    if second.code == "AA":
                        break
                assert second.code == "AA"
            assert await rows(database_url, PATIENTS) == [(1,)]
            assert (await send(adt_message("M1"))).raw == second.raw

    asyncio.run(run())


def test_what_cannot_be_applied_is_said_with_its_place_and_mended_by_a_replay(
    database_url, tmp_path
):
    async def run():
        async with hub(database_url, tmp_path, acknowledge="applied") as send:
            parked = await send(merge_without_survivor("M1"))
            assert parked.code == "AE"
            assert parse(parked.raw).value("ERR", 2) == "PID"
            unmapped = await send(adt_message("M2", event="A99"))
            assert unmapped.code == "AR"
            assert parse(unmapped.raw).value("ERR", 3) == "200"
            assert (await send(merge_without_survivor("M1"))).raw == parked.raw
            states = await rows(database_url, "select control_id, state from inbox order by id")
            assert states == [("M1", "parked"), ("M2", "unmapped")]

    asyncio.run(run())


async def what_came(got, seconds):
    """All application acknowledgements that arrive until none comes for so long."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(await asyncio.wait_for(got.get(), seconds))
    return found


@pytest.mark.parametrize(
    ("asked", "told"),
    [("AL", {"GOOD": "AA", "BAD": "AE", "ODD": "AR"}), ("ER", {"BAD": "AE", "ODD": "AR"}),
     ("SU", {"GOOD": "AA"}), ("NE", {})],
)  # fmt: skip
def test_msh_16_says_which_application_acknowledgements_are_sent(
    database_url, tmp_path, asked, told
):
    async def run():
        async with (
            hospital() as (address, got),
            hub(database_url, tmp_path, application_acks=f'"{address}"') as send,
        ):
            how = {"accept": "AL", "application": asked}
            for payload in (
                adt_message("GOOD", **how),
                merge_without_survivor("BAD", **how),
                adt_message("ODD", event="A99", patient="8", **how),
            ):
                assert (await send(payload)).code == "CA"
            found = []
            while len(found) < len(told):
                found.append(await asyncio.wait_for(got.get(), 20))
            found += await what_came(got, 1.0)
            assert {ack.value("MSA", 2): ack.value("MSA", 1) for ack in found} == told
            assert len(found) == len(told)
            assert {ack.value("MSH", 15) for ack in found} <= {"AL"}
            owed = "select distinct state from outbox where destination = 'his-acks'"
            assert await rows(database_url, owed) == ([("accepted",)] if told else [])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("declared", "code", "state", "times"),
    [
        ({}, "AE", "accepted", 2),
        ({}, "AR", "refused", 1),
        ({"answers": "{retry_on: [AR], give_up_on: [AE]}"}, "AE", "refused", 1),
        ({"answers": "{retry_on: [AR], give_up_on: [AE]}"}, "AR", "accepted", 2),
    ],
)
def test_the_channel_says_what_the_senders_own_answers_mean(
    database_url, tmp_path, declared, code, state, times
):
    async def run():
        async with (
            hospital([code]) as (address, got),
            hub(database_url, tmp_path, application_acks=f'"{address}"', **declared) as send,
        ):
            await send(adt_message("M1", accept="AL", application="AL"))
            settled = "select state from outbox where destination = 'his-acks'"
            while await rows(database_url, settled) != [(state,)]:
                await asyncio.sleep(0.05)
            told = await what_came(got, 0.5)
            assert len(told) == times
            assert len({ack.value("MSH", 10) for ack in told}) == 1, "the same one again"

    asyncio.run(run())


def test_a_reload_gives_acknowledgements_another_address(database_url, tmp_path):
    """The one that the old address did not take goes to the new one, too."""

    async def run():
        async with (
            hospital() as (address, got),
            hub(database_url, tmp_path, application_acks='"127.0.0.1:1"') as send,
        ):
            how = {"accept": "AL", "application": "AL"}
            await send(adt_message("M1", **how))
            deferred = "select state from outbox where destination = 'his-acks' and attempts > 0"
            while await rows(database_url, deferred) != [("deferred",)]:
                await asyncio.sleep(0.05)
            declared = f'channel: his\napplication_acks: "{address}"\n'
            (tmp_path / "his.yaml").write_text(declared, encoding="utf-8")
            assert await send.reload() == ()
            await send(adt_message("M2", patient="8", **how))
            told = [(await asyncio.wait_for(got.get(), 20)).value("MSA", 2) for _ in range(2)]
            assert sorted(told) == ["M1", "M2"]

            (tmp_path / "his.yaml").write_text("channel: his\n", encoding="utf-8")
            assert await send.reload() == ()
            await send(adt_message("M3", patient="9", **how))
            assert await what_came(got, 0.5) == []

    asyncio.run(run())


def test_a_replayed_message_is_answered_once_more_where_the_answer_changes(database_url, tmp_path):
    async def run():
        async with (
            hospital() as (address, got),
            hub(database_url, tmp_path, application_acks=f'"{address}"') as send,
        ):
            how = {"accept": "AL", "application": "AL"}
            await send(merge_without_survivor("M1", **how))
            assert (await asyncio.wait_for(got.get(), 20)).value("MSA", 1) == "AE"
            mended = adt_message("M1", **how)
            await rows_committed(
                database_url,
                "update inbox set state = 'received', raw = %s, attempts = 0 returning id",
                mended,
            )
            assert (await asyncio.wait_for(got.get(), 20)).value("MSA", 1) == "AA"

    asyncio.run(run())


async def rows_committed(url, statement, *values):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(statement, values)


@pytest.mark.parametrize("accept", ["NE", ""])
def test_ne_with_al_is_the_original_mode_in_other_words(database_url, tmp_path, accept):
    """Chapter 2.9.3: the one answer is the application's."""

    async def run():
        async with hub(database_url, tmp_path, acknowledge="applied") as send:
            how = {"accept": accept, "application": "AL"}
            assert (await send(adt_message("M1", **how))).code == "AA"
            assert await rows(database_url, PATIENTS) == [(1,)]
            assert (await send(merge_without_survivor("M2", **how))).code == "AE"

    asyncio.run(run())
