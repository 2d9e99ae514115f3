"""The MLLP listener on real sockets."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from adapters.port import Received
from adapters.transport.mllp_framing import to_frame
from adapters.transport.mllp_limits import MllpLimits
from adapters.transport.mllp_server import MllpServer, Refuse

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


class Keeper:
    """Keeps what it is given and answers `ACK <payload head>`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.kept: list[bytes] = []
        self.seconds = seconds
        self.running = 0
        self.most_running = 0

    async def __call__(self, received: Received) -> bytes | None:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(self.seconds)
            if received.payload == b"fail":
                raise ValueError("the store is away")
            self.kept.append(received.payload)
            return None if received.payload == b"quiet" else b"ACK " + received.payload[:20]
        finally:
            self.running -= 1


@contextlib.asynccontextmanager
async def listening(
    accept: Keeper, limits: MllpLimits | None = None, refuse: Refuse | None = None
) -> AsyncIterator[MllpServer]:
    server = MllpServer(channel="his-a", accept=accept, limits=limits, refuse=refuse)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop(grace_seconds=1)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(server: MllpServer) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ack_of(reader: asyncio.StreamReader) -> bytes:
    reply = await reader.readuntil(b"\x1c\r")
    assert reply[:1] == b"\x0b"
    return reply[1:-2]


def is_closed(read: bytes | None) -> bool:
    return read == b""


async def read_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def run(
    scenario: Coroutine[Any, Any, None],
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(scenario, 30))


@LOOPS
def test_every_frame_in_one_read_is_answered_in_order_and_the_connection_stays(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with listening(keeper) as server, connected(server) as (reader, writer):
            for _ in range(2):
                writer.write(b"".join(to_frame(b"m%d" % number) for number in range(50)))
                replies = [await ack_of(reader) for _ in range(50)]
                assert replies == [b"ACK m%d" % number for number in range(50)]
            assert len(keeper.kept) == 100
            assert keeper.most_running == 1

    run(scenario(), new_loop)


@LOOPS
def test_a_frame_in_single_bytes_is_one_frame(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with listening(keeper) as server, connected(server) as (reader, writer):
            for byte in to_frame("MSH|^~\\&|甲".encode("gb18030")):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await ack_of(reader)).startswith(b"ACK MSH")
            assert keeper.kept == ["MSH|^~\\&|甲".encode("gb18030")]

    run(scenario(), new_loop)


def test_frames_in_flight_are_answered_in_their_order() -> None:
    class Backwards(Keeper):
        async def __call__(self, received: Received) -> bytes | None:
            self.seconds = 0.05 / int(received.payload)
            return await super().__call__(received)

    async def scenario() -> None:
        keeper = Backwards()
        async with (
            listening(keeper, MllpLimits(frames_in_flight=4)) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(b"".join(to_frame(b"%d" % number) for number in range(1, 9)))
            replies = [await ack_of(reader) for _ in range(8)]
            assert replies == [b"ACK %d" % number for number in range(1, 9)]
            assert keeper.most_running == 4
            assert keeper.kept != [b"%d" % number for number in range(1, 9)]

    run(scenario())


def test_a_nine_megabyte_frame_is_kept() -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with listening(keeper) as server, connected(server) as (reader, writer):
            writer.write(to_frame(b"x" * 9_000_000))
            assert await ack_of(reader) == b"ACK " + b"x" * 20
            assert len(keeper.kept[0]) == 9_000_000
            assert server.held == 0

    run(scenario())


def test_no_reply_is_written_where_none_is_owed() -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with listening(keeper) as server, connected(server) as (reader, writer):
            writer.write(to_frame(b"quiet") + to_frame(b"loud"))
            assert await ack_of(reader) == b"ACK loud"
            assert keeper.kept == [b"quiet", b"loud"]

    run(scenario())


def test_a_frame_over_the_limit_gets_a_last_reply_and_a_closed_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heads: list[bytes] = []

    def refuse(head: Received, reason: str) -> bytes:
        heads.append(head.payload)
        return f"AR {reason}".encode()

    async def scenario() -> None:
        keeper = Keeper()
        limits = MllpLimits(frame_bytes=100_000)
        async with (
            listening(keeper, limits, refuse) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(to_frame(b"good") + b"\x0bMSH|" + b"z" * 3_000_000)
            assert await ack_of(reader) == b"ACK good"
            assert await ack_of(reader) == b"AR the frame is over 100000 bytes"
            assert is_closed(await read_end(reader))
            assert keeper.kept == [b"good"]
            assert heads[0].startswith(b"MSH|")

    run(scenario())
    assert "frame over 100000 bytes" in caplog.text


def test_bytes_outside_a_frame_close_the_connection_after_what_was_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        keeper = Keeper(seconds=0.05)
        async with listening(keeper) as server, connected(server) as (reader, writer):
            writer.write(to_frame(b"good") + b"GET / HTTP/1.1\r\n\r\n" + to_frame(b"never"))
            assert await ack_of(reader) == b"ACK good"
            assert is_closed(await read_end(reader))
            assert keeper.kept == [b"good"]

    run(scenario())
    assert "14 bytes outside a frame" in caplog.text


def test_bytes_outside_a_frame_are_only_logged_where_the_port_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with (
            listening(Keeper(), MllpLimits(garbage="log")) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(b"hello\n" + to_frame(b"good"))
            assert await ack_of(reader) == b"ACK good"

    run(scenario())
    assert "ignored 5 bytes outside a frame" in caplog.text


def test_a_failing_accept_gives_no_reply_and_closes() -> None:
    async def scenario() -> None:
        keeper = Keeper()
        async with (
            listening(keeper, MllpLimits(frames_in_flight=3)) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(to_frame(b"one") + to_frame(b"fail") + to_frame(b"three"))
            assert await ack_of(reader) == b"ACK one"
            assert is_closed(await read_end(reader))

    run(scenario())


@pytest.mark.parametrize(
    ("sent", "limits", "reason"),
    [
        (b"", MllpLimits(opening_seconds=0.2), "silent"),
        (b"\x0bMSH|", MllpLimits(frame_seconds=0.2), "frame not finished in time"),
        (b"\x0bMSH|\x1c", MllpLimits(frame_seconds=0.2), "FS without CR"),
        (b"\x0bgood\x1c\r", MllpLimits(idle_seconds=0.2), "idle"),
    ],
)
def test_a_connection_that_only_waits_is_closed(
    sent: bytes, limits: MllpLimits, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with listening(Keeper(), limits) as server, connected(server) as (reader, writer):
            writer.write(sent)
            await read_end(reader)
            while server.connections:
                await asyncio.sleep(0.01)

    run(scenario())
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("sent", "limits"),
    [
        (b"", MllpLimits(opening_seconds=0.2)),
        (b"\x0bMSH|", MllpLimits(frame_seconds=0.2)),
        (b"\x0bgood\x1c\r", MllpLimits(idle_seconds=0.2)),
        (b"garbage", MllpLimits()),
        (b"\x0b" + b"x" * 200_000, MllpLimits(frame_bytes=100_000)),
        (b"\x0b" + b"x" * 200_000, MllpLimits(held_bytes=100_000)),
    ],
)
def test_without_its_limit_each_of_these_connections_would_stay(
    sent: bytes, limits: MllpLimits
) -> None:
    async def scenario() -> None:
        async with (
            listening(Keeper(), limits) as limited,
            listening(Keeper(), MllpLimits(garbage="log")) as unlimited,
            connected(limited) as (reader, writer),
            connected(unlimited) as (_, other),
        ):
            writer.write(sent)
            other.write(sent)
            await read_end(reader)
            while limited.connections:
                await asyncio.sleep(0.01)
            assert len(unlimited.connections) == 1

    run(scenario())


def test_trickled_bytes_do_not_extend_the_receive_deadline() -> None:
    async def scenario() -> None:
        async with (
            listening(Keeper(), MllpLimits(frame_seconds=0.3)) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(b"\x0b")
            while server.counts.total() < 2:
                writer.write(b"x")
                await asyncio.sleep(0.02)
            assert is_closed(await read_end(reader))
            assert server.counts["frame-late"] == 1

    run(scenario())


def test_one_host_has_only_so_many_connections_and_gets_them_back() -> None:
    async def scenario() -> None:
        limits = MllpLimits(connections_per_peer=2)
        async with listening(Keeper(), limits) as server:
            async with connected(server) as (reader, writer), connected(server) as second:
                async with connected(server) as (refused, _):
                    assert is_closed(await read_end(refused))
                for stream in ((reader, writer), second):
                    stream[1].write(to_frame(b"good"))
                    assert await ack_of(stream[0]) == b"ACK good"
            while server.connections:
                await asyncio.sleep(0.01)
            async with connected(server) as (reader, writer):
                writer.write(to_frame(b"again"))
                assert await ack_of(reader) == b"ACK again"
            assert server.counts["connections-per-peer"] == 1

    run(scenario())


def test_all_hosts_together_have_only_so_many_connections() -> None:
    async def scenario() -> None:
        async with listening(Keeper(), MllpLimits(connections=1)) as server, connected(server):
            async with connected(server) as (refused, _):
                assert is_closed(await read_end(refused))
            assert server.counts["connections"] == 1

    run(scenario())


def test_unfinished_frames_share_one_memory_limit() -> None:
    async def scenario() -> None:
        limits = MllpLimits(held_bytes=1_000_000)
        async with (
            listening(Keeper(), limits) as server,
            connected(server) as (_, first),
            connected(server) as (reader, second),
        ):
            first.write(b"\x0b" + b"x" * 600_000)
            await first.drain()
            second.write(b"\x0b" + b"x" * 600_000)
            assert is_closed(await read_end(reader))
            assert server.held <= 1_000_000

    run(scenario())


def test_a_sender_that_closes_its_half_still_gets_its_ack() -> None:
    async def scenario() -> None:
        async with (
            listening(Keeper(seconds=0.05)) as server,
            connected(server) as (reader, writer),
        ):
            writer.write(to_frame(b"one") + to_frame(b"two"))
            writer.write_eof()
            assert await reader.read() == to_frame(b"ACK one") + to_frame(b"ACK two")

    run(scenario())


@LOOPS
def test_a_peer_that_never_reads_its_acks_is_stopped_and_closed(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    class Shouter(Keeper):
        async def __call__(self, received: Received) -> bytes | None:
            self.kept.append(received.payload)
            return b"A" * 100_000

    async def scenario() -> None:
        keeper = Shouter()
        limits = MllpLimits(reply_seconds=0.5)
        async with listening(keeper, limits) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
            writer.transport.pause_reading()
            with contextlib.suppress(ConnectionError):
                for number in range(10_000):
                    writer.write(to_frame(b"%d" % number))
                    await writer.drain()
                    if server.counts["reply-unread"]:
                        break
                    await asyncio.sleep(0)
            while not server.counts["reply-unread"]:
                await asyncio.sleep(0.05)
            # Sockets hold some megabytes of replies; what is accepted beyond them is bounded.
            assert len(keeper.kept) < 500
            while server.connections:
                await asyncio.sleep(0.01)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            assert reader is not None

    run(scenario(), new_loop)


def test_stop_answers_what_is_being_kept_and_takes_nothing_more() -> None:
    async def scenario() -> None:
        keeper = Keeper(seconds=0.2)
        async with listening(keeper) as server, connected(server) as (reader, writer):
            writer.write(to_frame(b"kept") + to_frame(b"not taken"))
            while not keeper.running:
                await asyncio.sleep(0.01)
            await server.stop(grace_seconds=5)
            assert await reader.read() == to_frame(b"ACK kept")
            assert keeper.kept == [b"kept"]

    run(scenario())


def test_five_hundred_slow_sockets_are_closed_and_a_good_sender_is_served() -> None:
    async def scenario() -> None:
        limits = MllpLimits(
            frame_seconds=2.0, opening_seconds=2.0, connections=600, connections_per_peer=600
        )
        async with listening(Keeper(), limits) as server, contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(connected(server)) for _ in range(500)]
            for number, (_, writer) in enumerate(slow):
                if number % 2:
                    writer.write(b"\x0bMSH")
            async with connected(server) as (reader, writer):
                for number in range(100):
                    writer.write(to_frame(b"%d" % number))
                    assert await ack_of(reader) == b"ACK %d" % number
                ends = await asyncio.gather(*(read_end(reader) for reader, _ in slow))
                assert all(is_closed(end) for end in ends)
                writer.write(to_frame(b"still here"))
                assert await ack_of(reader) == b"ACK still here"
            # On a busy machine a socket may run out of time before its first byte is sent.
            assert server.counts["silent"] >= 250
            assert server.counts["silent"] + server.counts["frame-late"] == 500

    run(scenario())


def test_whoever_watches_learns_why_connections_end() -> None:
    async def scenario() -> None:
        ended: list[str] = []
        server = MllpServer(channel="his-a", accept=Keeper(), on_ended=ended.append)
        await server.start("localhost", 0)
        async with connected(server) as (reader, writer):
            writer.write(b"garbage")
            await read_end(reader)
        async with connected(server) as (reader, writer):
            writer.write(to_frame(b"fail"))
            await read_end(reader)
        async with connected(server) as (_, writer):
            writer.write(b"\x0bcut")
        while len(ended) < 3:
            await asyncio.sleep(0.01)
        assert ended == ["garbage", "accept-failed", "cut-short"]
        await server.stop()

    run(scenario())


def test_log_lines_carry_no_content(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with listening(Keeper()) as server, connected(server) as (reader, writer):
            writer.write(b"PID|1||999001199001010014")
            await read_end(reader)

    caplog.set_level(logging.DEBUG)
    run(scenario())
    assert "outside a frame" in caplog.text
    assert "999001" not in caplog.text
