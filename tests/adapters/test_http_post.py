"""Posting over real sockets: every outcome is a value; connections are used again only whole."""

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from certificates import CLIENT, SERVER, issue

from adapters.transport.http_post import HttpPoster, HttpReply, NoReply
from adapters.transport.tls import client_context

Answer = Callable[[asyncio.StreamWriter, bytes, int], Awaitable[None]]


class Partner:
    """A server that reads whole requests and lets `answer` write what it likes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = 0
        self.most_at_once = 0
        self.at_once = 0
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        number = 0
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.heads.append(head)
                    length = int(head.lower().partition(b"content-length:")[2].split()[0])
                    body = await reader.readexactly(length)
                    number += 1
                    await self.answer(writer, body, number)
        finally:
            self.at_once -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def posting(partner: Partner, **choices: object) -> AsyncIterator[HttpPoster]:
    server = await asyncio.start_server(partner, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    poster = HttpPoster(f"http://127.0.0.1:{port}/in?a=b", **choices)  # type: ignore[arg-type]
    yield poster
    await poster.close()
    server.close()
    await asyncio.sleep(0.05)


def ok(body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def always(*pieces: bytes, close: bool = False, pause: float = 0.0) -> Answer:
    async def answer(writer: asyncio.StreamWriter, _body: bytes, _number: int) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return answer


def posted(answer: Answer, times: int = 1, **choices: object) -> list[HttpReply | NoReply]:
    async def scenario() -> list[HttpReply | NoReply]:
        async with posting(Partner(answer), **choices) as poster:  # type: ignore[arg-type]
            return [await poster.post(b"hello", {"x-a": "1"}) for _ in range(times)]

    return asyncio.run(asyncio.wait_for(scenario(), 30))


def bodies(replies: list[HttpReply | NoReply]) -> list[bytes]:
    return [reply.body for reply in replies if isinstance(reply, HttpReply)]


def test_the_request_is_whole_and_one_connection_carries_many() -> None:
    async def echo(writer: asyncio.StreamWriter, body: bytes, number: int) -> None:
        writer.write(ok(body + b" %d" % number))

    async def scenario() -> None:
        partner = Partner(echo)
        async with posting(partner) as poster:
            replies = [await poster.post(b"hello", {"x-a": "1"}) for _ in range(5)]
            assert bodies(replies) == [b"hello %d" % number for number in range(1, 6)]
        assert partner.connections == 1
        head = partner.heads[0]
        assert head.startswith(b"POST /in?a=b HTTP/1.1\r\nhost: 127.0.0.1:")
        assert b"\r\nx-a: 1\r\ncontent-length: 5\r\n\r\n" in head

    asyncio.run(asyncio.wait_for(scenario(), 30))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (always(CHUNKED), b"abcde"),
        (always(*(bytes([byte]) for byte in CHUNKED)), b"abcde"),
        (always(b"HTTP/1.0 200 OK\r\n\r\nto the end", close=True), b"to the end"),
        (always(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"then this")), b"then this"),
        (always(ok(b"", "Connection: close"), close=True), b""),
    ],
)
def test_replies_of_every_framing_are_read(answer: Answer, body: bytes) -> None:
    assert bodies(posted(answer, times=2)) == [body, body]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (always(b"", close=True), "broken"),
        (always(b"not http\r\n\r\n"), "broken"),
        (always(ok(b"abc")[:-1], close=True), "broken"),
        (always(CHUNKED[:-5], close=True), "broken"),
        (always(b"HTTP/1.1 200 OK\r\n"), "timeout"),
        (always(*[b"HTTP/1.1 200 OK\r\n"], *[b"A: b\r\n"] * 90, pause=0.1), "timeout"),
        (always(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000), "too-large"),
        (always(b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 200_000), "too-large"),
        (always(ok(b"x" * 2001)), "too-large"),
    ],
)
def test_what_is_no_whole_reply_says_why(answer: Answer, reason: str) -> None:
    first, second = posted(answer, times=2, reply_seconds=1.0, most_bytes=2000)
    assert first == NoReply(reason=reason)
    assert isinstance(second, NoReply)


def test_nobody_there_is_told_from_nobody_answering() -> None:
    async def scenario() -> None:
        for host in ("127.0.0.1:1", "nowhere.invalid"):
            poster = HttpPoster(f"http://{host}/", connect_seconds=5)
            assert await poster.post(b"", {}) == NoReply(reason="connect")
            await poster.close()

    asyncio.run(scenario())


def test_a_connection_the_server_closed_is_not_used_again() -> None:
    async def answer(writer: asyncio.StreamWriter, body: bytes, number: int) -> None:
        writer.write(ok(body))
        if number == 2:
            writer.close()

    async def scenario() -> None:
        partner = Partner(answer)
        async with posting(partner) as poster:
            for _ in range(6):
                assert isinstance(await poster.post(b"x", {}), HttpReply)
                await asyncio.sleep(0.02)
        assert partner.connections == 3

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_connection_idle_too_long_is_replaced() -> None:
    async def scenario() -> None:
        partner = Partner(always(ok(b"")))
        async with posting(partner, idle_seconds=0.05) as poster:
            for _ in range(3):
                assert isinstance(await poster.post(b"x", {}), HttpReply)
                await asyncio.sleep(0.1)
        assert partner.connections == 3

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_bytes_nobody_asked_for_end_the_connection() -> None:
    async def scenario() -> None:
        partner = Partner(always(ok(b"yours") + ok(b"whose?")))
        async with posting(partner) as poster:
            replies = [await poster.post(b"x", {}) for _ in range(3)]
            assert bodies(replies) == [b"yours"] * 3
        assert partner.connections == 3

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_there_are_never_more_connections_than_allowed() -> None:
    async def answer(writer: asyncio.StreamWriter, body: bytes, _number: int) -> None:
        await asyncio.sleep(0.02)
        writer.write(ok(body))

    async def scenario() -> None:
        partner = Partner(answer)
        async with posting(partner, connections=3) as poster:
            posts = (poster.post(b"%d" % number, {}) for number in range(30))
            replies = await asyncio.gather(*posts)
            assert sorted(bodies(list(replies))) == sorted(b"%d" % n for n in range(30))
        assert partner.most_at_once == 3

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("usage", [SERVER, CLIENT])
def test_a_server_is_believed_by_its_certificate_only(
    usage: object, tmp_path: pathlib.Path
) -> None:
    authority = issue(tmp_path, "authority", is_authority=True)
    server = issue(tmp_path, "server", issuer=authority, usage=usage)  # type: ignore[arg-type]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server.certificate_file, server.key_file)

    async def scenario() -> None:
        context = client_context(authorities=authority.certificate_file)
        listener = await asyncio.start_server(
            Partner(always(ok(b"secret"))), "127.0.0.1", 0, ssl=tls
        )
        port = listener.sockets[0].getsockname()[1]
        poster = HttpPoster(f"https://127.0.0.1:{port}/", tls=context)
        reply = await poster.post(b"x", {})
        believed = isinstance(reply, HttpReply) and reply.body == b"secret"
        assert believed == (usage is SERVER)
        stranger = HttpPoster(f"https://127.0.0.1:{port}/")
        assert await stranger.post(b"x", {}) == NoReply(reason="connect")
        await poster.close()
        await stranger.close()
        listener.close()
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("url", ["ftp://a/", "http://", "//a", "http://a:port/", "http://a..b/"])
def test_an_address_that_cannot_be_posted_to_is_refused_when_it_is_given(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        HttpPoster(url)
