"""Requests that trickle in, are too large or are no HTTP at all, over real sockets."""

import asyncio
import json
from typing import Any

import pytest
from serving import served
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from routes.limits import Limits
from routes.receive_deadline import deadline_protocol

LIMITS = Limits(receive_seconds=0.4, head_bytes=2_000, body_bytes_per_second=1_000_000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def application(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def answer_to(port: int, *pieces: bytes, pause: float = 0.0, wait: float = 5.0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.read(65536))
    try:
        for piece in pieces:
            if answer.done():
                break
            writer.write(piece)
            await asyncio.sleep(pause)
        return await asyncio.wait_for(answer, wait)
    finally:
        writer.close()


TRICKLE = [b"GET / HTTP/1.1\r\n", *[b"X-%d: a\r\n" % number for number in range(12)]]


@pytest.mark.anyio
async def test_a_head_that_trickles_is_answered_408_and_closed() -> None:
    async with served(application, deadline_protocol(LIMITS)) as port:
        answer = await answer_to(port, *TRICKLE, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408")
    outcome = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == "receive-timeout"


@pytest.mark.anyio
async def test_without_the_deadline_the_same_head_is_waited_for() -> None:
    async with served(application, HttpToolsProtocol) as port:
        with pytest.raises(TimeoutError):
            await answer_to(port, *TRICKLE, pause=0.1, wait=0.5)


@pytest.mark.anyio
async def test_a_body_that_trickles_is_closed_and_one_that_flows_is_not() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 12\r\n\r\n"
    async with served(application, deadline_protocol(LIMITS)) as port:
        slow = await answer_to(port, head, *[b"a"] * 11, pause=0.1)
        fast = await answer_to(port, head, b"a" * 6, b"a" * 6, pause=0.05)
    assert slow.startswith(b"HTTP/1.1 408")
    assert fast.startswith(b"HTTP/1.1 200")
    assert b"\r\n12\r\n" in fast


@pytest.mark.anyio
async def test_an_idle_connection_is_closed_without_words() -> None:
    async with served(application, deadline_protocol(LIMITS)) as port:
        assert await answer_to(port) == b""


@pytest.mark.anyio
async def test_a_head_that_is_too_long_is_answered_431() -> None:
    async with served(application, deadline_protocol(LIMITS)) as port:
        answer = await answer_to(port, b"GET / HTTP/1.1\r\nX: " + b"a" * 4_000)
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.anyio
async def test_what_is_no_http_gets_an_outcome() -> None:
    async with served(application, deadline_protocol(LIMITS)) as port:
        answer = await answer_to(port, b"\x0bMSH|^~\\&|\r\x1c\r")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"not-http" in answer


@pytest.mark.anyio
async def test_connections_are_kept_for_the_next_request() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with served(application, deadline_protocol(LIMITS)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(request)
            assert b"200 OK" in await reader.read(1000)
            await asyncio.sleep(0.5)
        writer.close()
