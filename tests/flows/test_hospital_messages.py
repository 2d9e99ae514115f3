"""139 messages of 65 kinds, as others wrote them, by MLLP."""

import asyncio
import collections
import dataclasses
import functools

import orjson
import pytest

from adapters.transport.mllp_framing import to_frame
from adapters.transport.mllp_server import MllpServer
from conformance.structure import check
from mappings.engine.library import load
from mappings.hl7.message import parse
from ops.flow_translation import NOT_KEPT, Translation, translator_of

NINE = {f"ADT^{name}" for name in ["A01", "A03", "A04", "A08", "A11", "A13", "A28", "A31", "A40"]}


@functools.cache
def translator(is_of_nine_only):
    library = load()
    if is_of_nine_only:
        messages = {event: made for event, made in library.messages.items() if event in NINE}
        library = dataclasses.replace(library, messages=messages)
    return translator_of(library)


def event_of(payload):
    parts = parse(payload).segments[0].field(9).split("^")
    return "^".join(parts[:2])


@pytest.fixture
def files(shared_data):
    folder = shared_data / "hl7v2-messages" / "messages"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.hl7"))}


@pytest.mark.parametrize(
    ("is_of_nine_only", "translated", "unmapped"), [(True, 24, 115), (False, 136, 3)]
)
def test_every_message_is_acknowledged_and_those_with_a_map_become_valid_resources(
    is_of_nine_only, translated, unmapped, files, open_spine
):
    assert len(files) == 139
    assert sum(event_of(payload) in NINE for payload in files.values()) == 24

    async def run():
        async with open_spine() as spine:
            server = MllpServer(channel="his", accept=spine.flow.accept, refuse=spine.flow.refuse)
            await server.start("127.0.0.1", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            acks = collections.Counter()
            for payload in files.values():
                writer.write(to_frame(payload))
                ack = await reader.readuntil(b"\x1c\r")
                acks[parse(ack[1:-2]).value("MSA", 1)] += 1
            writer.close()
            await writer.wait_closed()
            await server.stop()
            # Both modes: those that ask by MSH-15/16 get a commit acknowledgement.
            assert acks["AA"] + acks["CA"] == 139
            assert await spine.rows("select count(*) from inbox") == [(139,)]

            translate = translator(is_of_nine_only).translate
            spine.work = Translation(channels=spine.flow.channels, translate=translate)
            await spine.drain()
            states = dict(await spine.rows("select state, count(*) from inbox group by 1"))
            assert states == {"translated": translated, "unmapped": unmapped}
            done = await spine.rows("select distinct event from inbox where state = 'translated'")
            assert {event for (event,) in done} >= NINE
            rows = await spine.rows("select body from resource")
            assert len(rows) > 50
            issues = [issue for (body,) in rows for issue in check(orjson.loads(body))]
            assert not any(orjson.loads(body)["resourceType"] in NOT_KEPT for (body,) in rows)
            # Some of R4's constraints are best practice and only warn.
            assert [issue for issue in issues if issue.severity != "warning"] == []

    asyncio.run(run())


def test_the_same_139_again_have_no_second_effect(files, open_spine):
    async def run():
        async with open_spine() as spine:
            first = [await spine.send(payload) for payload in files.values()]
            again = [await spine.send(payload) for payload in files.values()]
            assert first == again
            assert await spine.rows("select count(*) from inbox") == [(139,)]

    asyncio.run(run())


EVN_OF_A_PERSON = b"EVN|A01|20260101|20260102|R1|OP1^Li^Wei|20260101070000|H1\r"


@pytest.mark.parametrize(
    ("evn", "stored"),
    [
        (b"EVN|A01|20260101080000+0800\r", 0),
        (b"EVN|A01|20260101\r", 0),  # a day is no instant; nobody need look at the message
        (b"EVN||20260101080000\r", 0),
        (EVN_OF_A_PERSON, 1),
        (b"EVN|A01|20260101080000|||OP1^Li^Wei\r", 1),
    ],
)
def test_a_provenance_is_stored_where_it_tells_more_than_the_inbox_row(
    evn, stored, open_spine, adt
):
    async def run():
        async with open_spine() as spine:
            message = adt("M1", event="A01", extra="PV1|1|I|W1^1^1").replace(
                b"EVN|A01|20260101\r", evn
            )
            assert evn in message
            translate = translator(is_of_nine_only=True).translate
            spine.work = Translation(channels=spine.flow.channels, translate=translate)
            await spine.send(message)
            await spine.drain()
            assert await spine.states() == {"M1": "translated"}
            found = await spine.rows(
                "select body from resource join rtype using (tid) where name = 'Provenance'"
            )
            assert len(found) == stored
            for (body,) in found:
                provenance = orjson.loads(body)
                assert provenance["recorded"][10] == "T"
                assert [i for i in check(provenance) if i.severity == "error"] == []

    asyncio.run(run())
