"""Answers sent as one message, over real sockets: the same bytes as by uvicorn's own two."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from serving import served
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from routes.fhir_application import send_rendered
from routes.limits import Limits
from routes.receive_deadline import deadline_protocol
from routes.render import Rendered

Application = Callable[[Any, Any, Any], Awaitable[None]]
OURS = deadline_protocol(Limits())


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the FHIR application does: the body is the path and what was sent."""
    body = b""
    if scope["method"] == "POST":
        body = (await receive())["body"]
    await asyncio.sleep(0.02 if scope["path"] == "/slow" else 0)
    body = scope["path"].encode() + body
    if scope["path"] == "/nothing":
        await send_rendered(Rendered(status=304, headers=[], body=b""), "id", scope, send)
        return
    value = b"a\r\nX-Forged: b" if scope["path"] == "/forged" else b"text/plain"
    headers = [(b"content-type", value), (b"content-length", b"%d" % len(body))]
    await send_rendered(Rendered(status=200, headers=headers, body=body), "id", scope, send)


def exchange(protocol: Any, sent: bytes) -> bytes:
    """Return all bytes until the server closes, without the line that tells the time."""

    async def run() -> bytes:
        async with served(answering, protocol) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answer = await reader.read()
            writer.close()
            return re.sub(rb"date: [^\r]+\r\n", b"", answer)

    return asyncio.run(run())


LAST = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
NEXT = b" HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /x" + LAST + b"\r\n",
        b"HEAD /x" + LAST + b"\r\n",
        b"GET /nothing" + LAST + b"\r\n",
        b"GET /x HTTP/1.0\r\n\r\n",
        b"POST /x" + LAST + b"Content-Length: 3\r\n\r\nabc",
        b"POST /x" + LAST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /slow" + NEXT + b"\r\nGET /x" + NEXT + b"\r\nGET /slow" + LAST + b"\r\n",
    ],
    ids=["get", "head", "not-modified", "1.0", "post", "continue", "pipelined"],
)
def test_the_bytes_are_those_of_two_messages(sent: bytes) -> None:
    ours = exchange(OURS, sent)
    assert ours.count(b"HTTP/1.1 ") == max(sent.count(b"Host: a"), 1) + ours.count(b" 100 ")
    assert ours == exchange(HttpToolsProtocol, sent)


def test_a_line_break_in_a_header_forges_nothing() -> None:
    answer = exchange(OURS, b"GET /forged" + LAST + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"X-Forged" not in answer
