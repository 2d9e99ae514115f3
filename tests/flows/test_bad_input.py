"""Whatever a sender puts on the wire gets one answer or a closed connection with a log line."""

import asyncio
import contextlib
import random

import pytest

from adapters.transport.hl7_header import acknowledgement_of
from adapters.transport.mllp_framing import to_frame
from adapters.transport.mllp_limits import MllpLimits
from adapters.transport.mllp_server import MllpServer
from mappings.hl7.message import parse


@contextlib.asynccontextmanager
async def hospital_line(spine, limits=None):
    """The inlet as it runs in the hub; yields the server and a connection to it."""
    server = MllpServer(
        channel="his", accept=spine.flow.accept, refuse=spine.flow.refuse, limits=limits
    )
    await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**25)
    try:
        yield server, reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await server.stop(grace_seconds=5)


async def answer(reader):
    frame = await asyncio.wait_for(reader.readuntil(b"\x1c\r"), 30)
    assert frame[:1] == b"\x0b"
    return frame[1:-2]


def msa(ack):
    found = acknowledgement_of(ack)
    return found.code, found.control_id


def advice(ack):
    """ERR-2 and ERR-8 of an acknowledgement."""
    message = parse(ack)
    return message.value("ERR", 2), message.value("ERR", 8)


OBX = "OBX|1|ED|D||^^^B^"
OTHER = bytes.maketrans(b"|^", b"#@")
HEAD = b"MSH|^~\\&|HIS|H1|HUB|Q|20260101||ADT^A08|"
WRONG = {
    "not HL7": (b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", "AR"),
    "JSON": (b'{"resourceType": "Patient"}', "AR"),
    "empty": (b"", "AR"),
    "only zeros": (b"\x00" * 1000, "AR"),
    "no MSH": (b"PID|1||P1^^^H1^MR||Zhang^San\r", "AR"),
    "MSH not first": (b"EVN|A08|20260101\r" + HEAD + b"M1|P|2.5.1\r", "AR"),
    "MSH alone": (b"MSH", "AR"),
    "MSH without separators": (b"MSH|\r", "AR"),
    "the same separator twice": (b"MSH|^^~&|HIS|H1|HUB|Q|20260101||ADT^A08|M1|P|2.5.1\r", "AR"),
    "field separator among the others": (b"MSH|^|\\&|HIS|H1|HUB|Q|1||ADT^A08|M1|P|2.5\r", "AE"),
    "no MSH-9": (b"MSH|^~\\&|HIS|H1|HUB|Q|20260101|||M1|P|2.5.1\rPID|1\r", "AE"),
    "no MSH-10": (HEAD + b"|P|2.5.1\rPID|1||P1^^^H1^MR\r", "AE"),
    "blank MSH-10": (HEAD + b"   |P|2.5.1\rPID|1||P1^^^H1^MR\r", "AE"),
    "MSH-10 of a kilobyte": (HEAD + b"9" * 1000 + b"|P|2.5.1\r", "AR"),
    "cut inside MSH": (HEAD[:30], "AE"),
    "two MSH": (HEAD + b"M1|P|2.5.1\rPID|1\r" + HEAD + b"M2|P|2.5.1\rPID|1\r", "AR"),
    "a second block inside": (HEAD + b"M1|P|2.5.1\r\x0b\r" + HEAD + b"M2|P|2.5.1\r", "AR"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_gets_one_answer_with_place_and_advice_and_the_line_stays_open(
    name, open_spine, adt
):
    payload, code = WRONG[name]

    async def run():
        async with open_spine() as spine, hospital_line(spine) as (_, reader, writer):
            writer.write(to_frame(payload) + to_frame(adt("GOOD")))
            ack = await answer(reader)
            assert msa(ack)[0] == code
            place, fix = advice(ack)
            assert place.startswith("MSH")
            assert len(fix) > 10
            assert msa(await answer(reader)) == ("AA", "GOOD")
            assert await spine.states() == {"GOOD": "received"}

    asyncio.run(run())


# The advice of each refusal, followed; the corrected message must be taken.
MENDED = {
    "no MSH": HEAD + b"M1|P|2.5.1\rPID|1||P1^^^H1^MR||Zhang^San\r",
    "the same separator twice": HEAD + b"M1|P|2.5.1\r",
    "no MSH-9": HEAD + b"M1|P|2.5.1\rPID|1\r",
    "no MSH-10": HEAD + b"M1|P|2.5.1\rPID|1||P1^^^H1^MR\r",
    "MSH-10 of a kilobyte": HEAD + b"M1|P|2.5.1\r",
    "two MSH": HEAD + b"M1|P|2.5.1\rPID|1\r",
}


def test_following_the_advice_helps(open_spine):
    async def run():
        async with open_spine() as spine, hospital_line(spine) as (_, reader, writer):
            for name, payload in MENDED.items():
                writer.write(to_frame(WRONG[name][0]))
                assert msa(await answer(reader))[0] != "AA"
                writer.write(to_frame(payload))
                assert msa(await answer(reader)) == ("AA", "M1"), name

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "payload_of", "state"),
    [
        ("unknown trigger", lambda adt: adt("M1", event="X99"), "received"),
        ("unknown type", lambda adt: adt("M1").replace(b"ADT^A08", b"QQQ^Q99"), "received"),
        ("truncated PID", lambda adt: adt("M1")[:-9], "received"),
        ("no patient", lambda adt: adt("M1", patient=""), "received"),
        ("70 kB OBX", lambda adt: adt("M1", extra=OBX + "QU" * 35_000), "received"),
        ("9 MB OBX", lambda adt: adt("M1", extra=OBX + "QU" * 4_500_000), "received"),
        ("a million fields", lambda adt: adt("M1", extra="ZZZ" + "|" * 1_000_000), "received"),
        ("a hundred thousand segments", lambda adt: adt("M1", extra="Z|1\r" * 100_000), "received"),
        ("LF line ends", lambda adt: adt("M1").replace(b"\r", b"\n"), "received"),
        ("CRLF line ends", lambda adt: adt("M1").replace(b"\r", b"\r\n"), "received"),
        ("byte-order mark", lambda adt: b"\xef\xbb\xbf" + adt("M1"), "received"),
        ("other separators", lambda adt: adt("M1").translate(OTHER), "received"),
        (
            "undecodable bytes",
            lambda adt: adt("M1", f18="UNICODE UTF-8").replace(b"Zhang", "张".encode("gb18030")),
            "held",
        ),
        ("unknown charset", lambda adt: adt("M1", f18="KLINGON"), "held"),
    ],
)  # fmt: skip
def test_what_can_be_filed_is_kept_whole_and_answered_once(
    name, payload_of, state, open_spine, adt
):
    async def run():
        async with open_spine() as spine, hospital_line(spine) as (_, reader, writer):
            payload = payload_of(adt)
            writer.write(to_frame(payload) + to_frame(adt("GOOD")))
            ack = await answer(reader)
            assert msa(ack) == ("AA" if state == "received" else "AE", "M1"), name
            assert msa(await answer(reader)) == ("AA", "GOOD")
            rows = await spine.rows("select raw, state, ack from inbox where control_id = 'M1'")
            assert rows == [(payload, state, ack)]

    asyncio.run(run())


def test_undecodable_control_ids_that_look_alike_are_two_messages(open_spine, adt):
    async def run():
        async with open_spine() as spine, hospital_line(spine) as (_, reader, writer):
            first, second = (
                adt("ID", f7="20260101").replace(b"ID", b"M" + byte) for byte in (b"\xff", b"\xfe")
            )
            resent = first.replace(b"20260101|", b"20260102|", 1)
            for payload in (first, second, resent):
                writer.write(to_frame(payload))
            acks = [await answer(reader) for _ in range(3)]
            assert acks[0] == acks[2] != acks[1]
            kept = await spine.rows("select raw from inbox order by id")
            assert kept == [(first,), (second,)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "bytes outside a frame"),
        (b"\x0bMSH|^~\\&|HIS", "frame not finished in time"),
        (b"\x0bMSH|^~\\&|HIS\x1c", "FS without CR"),
    ],
)
def test_what_is_no_frame_closes_the_connection_with_a_log_line(
    sent, reason, open_spine, adt, caplog
):
    async def run():
        limits = MllpLimits(frame_seconds=0.5)
        async with open_spine() as spine, hospital_line(spine, limits) as (_, reader, writer):
            writer.write(to_frame(adt("GOOD")) + sent)
            assert msa(await answer(reader)) == ("AA", "GOOD")
            assert await asyncio.wait_for(reader.read(), 30) == b""
            assert await spine.states() == {"GOOD": "received"}

    asyncio.run(run())
    assert reason in caplog.text


def test_a_frame_over_the_limit_is_refused_by_name(open_spine, adt, caplog):
    async def run():
        limits = MllpLimits(frame_bytes=100_000)
        async with open_spine() as spine, hospital_line(spine, limits) as (_, reader, writer):
            writer.write(to_frame(adt("BIG", extra=OBX + "QU" * 100_000)))
            ack = await answer(reader)
            assert msa(ack) == ("AR", "BIG")
            assert "100000" in ack.decode()
            assert await asyncio.wait_for(reader.read(), 30) == b""
            assert await spine.states() == {}

    asyncio.run(run())
    assert "frame over 100000 bytes" in caplog.text


def test_what_was_acknowledged_before_a_connection_breaks_is_kept(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            acknowledged = []

            async def sender(name):
                async with hospital_line(spine) as (_, reader, writer):
                    for number in range(20):
                        writer.write(to_frame(adt(f"{name}-{number}", patient=name)))
                        if number == 19:
                            writer.transport.abort()
                            return
                        acknowledged.append(msa(await answer(reader)))

            await asyncio.gather(*(sender(f"S{number}") for number in range(8)))
            states = await spine.states()
            assert len(acknowledged) == 8 * 19
            assert {code for code, _ in acknowledged} == {"AA"}
            assert {control_id for _, control_id in acknowledged} <= set(states)

    asyncio.run(run())


@pytest.mark.parametrize("count", [1500, pytest.param(200_000, marks=pytest.mark.slow)])
def test_mutated_frames_each_get_exactly_one_answer(count, open_spine, adt):
    seed = 20261121
    chance = random.Random(seed)
    plain = adt("M1", f18="GB18030", name="Zhang").replace(b"Zhang", "张伟".encode("gb18030"))

    def mutated():
        frame = bytearray(plain)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(frame))
            match chance.randrange(4):
                case 0:
                    frame[place] = chance.randrange(256)
                case 1:
                    del frame[place : place + chance.randint(1, 40)]
                case 2:
                    frame[place:place] = frame[: chance.randint(1, 60)]
                case _:
                    frame[place:place] = chance.choice(
                        [b"\x0b", b"\r", b"|", b"\\", b"^", "倈".encode("gb18030"), b"\x00"]
                    )
            frame = frame or bytearray(b"x")
        # FS CR would end the frame early: two frames, two answers.
        return bytes(frame).replace(b"\x1c", b"")

    async def run():
        async with open_spine() as spine, hospital_line(spine) as (_, reader, writer):
            frames = [mutated() for _ in range(count)]
            codes = []

            async def send():
                for frame in frames:
                    writer.write(to_frame(frame))
                    await writer.drain()

            sending = asyncio.create_task(send())
            for frame in frames:
                ack = await answer(reader)
                code, _ = msa(ack)
                assert code in ("AA", "AE", "AR", "CA", "CE", "CR"), (seed, frame)
                codes.append(code)
            await sending
            # Nothing comes beyond one answer a frame.
            writer.write(to_frame(adt("LAST")))
            assert msa(await answer(reader)) == ("AA", "LAST")
            assert len(set(codes)) >= 3
            ((kept,),) = await spine.rows(
                "select count(*) from inbox where state in ('received', 'held')"
            )
            assert kept > 0

    asyncio.run(run())
