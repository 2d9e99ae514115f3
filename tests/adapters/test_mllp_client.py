"""The MLLP sender trusts only the ACK of its own message."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from adapters.port import Outgoing, Receipt, Verdict
from adapters.transport.hl7_header import acknowledgement_of, control_id_of
from adapters.transport.mllp_client import MllpSender

MESSAGE = b"MSH|^~\\&|Q|Q|HIS|H|20260102||ADT^A01|id-7|P|2.5.1\rPID|1\r"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ack(code: str, control_id: str, rest: str = "") -> bytes:
    text = f"MSH|^~\\&|HIS|H|Q|Q|||ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r{rest}"
    return b"\x0b" + text.encode() + b"\x1c\r"


@contextlib.asynccontextmanager
async def answered_by(answer: Answer, reply_seconds: float = 5.0) -> AsyncIterator[MllpSender]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await answer(reader, writer)
        finally:
            writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = MllpSender(host="127.0.0.1", port=port, reply_seconds=reply_seconds)
    yield sender
    await sender.close()
    server.close()
    await asyncio.sleep(0.05)


def receipts_of(answer: Answer, times: int = 1, reply_seconds: float = 5.0) -> list[Receipt]:
    async def scenario() -> list[Receipt]:
        async with answered_by(answer, reply_seconds) as sender:
            return [await sender.send(Outgoing(key="id-7", payload=MESSAGE)) for _ in range(times)]

    return asyncio.run(scenario())


def always(reply: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\x1c\r")
            writer.write(reply)

    return answer


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("AA", Verdict.ACCEPTED),
        ("CA", Verdict.ACCEPTED),
        ("AE", Verdict.REFUSED),
        ("AR", Verdict.REFUSED),
        ("CE", Verdict.REFUSED),
        ("CR", Verdict.REFUSED),
        ("XX", Verdict.UNKNOWN),
    ],
)
def test_msa_1_decides(code: str, verdict: Verdict) -> None:
    [receipt] = receipts_of(always(ack(code, "id-7")))
    assert (receipt.verdict, receipt.code, receipt.reference) == (verdict, code, "id-7")


def test_the_partners_words_are_handed_on() -> None:
    error = "ERR||PID^1^5|101^Required field missing^HL70357|E||||补充患者姓名\r"
    [receipt] = receipts_of(always(ack("AE", "id-7", error)))
    assert receipt.detail == "补充患者姓名"


def test_an_ack_for_another_message_is_unknown() -> None:
    [receipt] = receipts_of(always(ack("AA", "id-6")))
    assert (receipt.verdict, receipt.code) == (Verdict.UNKNOWN, "wrong-ack")


@pytest.mark.parametrize("reply", [b"\x0bMSH|^~\\&|ADT\x1c\r", b"\x0b\x1c\r", b"\x0bhello\x1c\r"])
def test_a_frame_that_is_no_ack_is_unknown(reply: bytes) -> None:
    [receipt] = receipts_of(always(reply))
    assert (receipt.verdict, receipt.code) == (Verdict.UNKNOWN, "not-an-ack")


def test_bytes_that_are_no_frame_are_unknown() -> None:
    [receipt] = receipts_of(always(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert (receipt.verdict, receipt.code) == (Verdict.UNKNOWN, "broken")


def test_a_connection_closed_before_the_ack_is_unknown() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\x1c\r")

    [receipt] = receipts_of(answer)
    assert (receipt.verdict, receipt.code) == (Verdict.UNKNOWN, "broken")


def test_a_late_ack_is_never_taken_for_the_next_message() -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\x1c\r")
        if connections == 1:
            await asyncio.sleep(0.4)
        writer.write(ack("AA" if connections == 2 else "AE", "id-7"))
        await reader.read()

    first, second = receipts_of(answer, times=2, reply_seconds=0.2)
    assert (first.verdict, first.code) == (Verdict.UNKNOWN, "timeout")
    assert (second.verdict, second.code) == (Verdict.ACCEPTED, "AA")


def test_one_connection_carries_many_messages_and_a_closed_one_is_replaced() -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await reader.readuntil(b"\x1c\r")
            writer.write(ack("AA", "id-7"))

    async def scenario() -> None:
        async with answered_by(answer) as sender:
            for number in range(9):
                receipt = await sender.send(Outgoing(key="id-7", payload=MESSAGE))
                assert receipt.verdict is Verdict.ACCEPTED, number
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert connections == 3


def test_a_host_that_does_not_exist_is_deferred() -> None:
    async def scenario() -> None:
        sender = MllpSender(host="nowhere.invalid", port=2575)
        receipt = await sender.send(Outgoing(key="id-7", payload=MESSAGE))
        assert (receipt.verdict, receipt.code) == (Verdict.DEFERRED, "connect")

    asyncio.run(scenario())


def test_msh_10_is_found_behind_a_name_whose_gb18030_bytes_hold_a_separator() -> None:
    text = "MSH|^~\\&|医院倈|H|Q|Q|20260102||ADT^A01|id-9|P|2.5.1"
    assert b"|" in "倈".encode("gb18030")
    assert control_id_of(text.encode("gb18030")) == "id-9"
    assert control_id_of(b"\xef\xbb\xbf" + text.encode()) == "id-9"
    assert control_id_of(b"MSH") == ""
    assert control_id_of(b"") == ""


def test_an_ack_is_read_with_any_line_end() -> None:
    for line_end in ("\r", "\n", "\r\n"):
        found = acknowledgement_of(line_end.join(["MSH|^~\\&|A", "MSA|AE|7|why"]).encode())
        assert found is not None
        assert (found.code, found.control_id, found.text) == ("AE", "7", "why")
