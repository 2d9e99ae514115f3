"""HTTP/1.1 POST over kept connections; every outcome is a value, nothing is raised.

A general client costs about a millisecond of processor time for each request, which is more than
everything else in a delivery (`qiao bench province`).
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """A whole reply; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """Why there is none: `connect` (nothing was sent), `timeout`, `broken` or `too-large`."""

    reason: str


_MOST_HEAD_BYTES = 65_536


class HttpPoster:
    """Posts to one address over at most `connections` connections."""

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float = 5.0,
        reply_seconds: float = 30.0,
        idle_seconds: float = 3.0,
        connections: int = 16,
        most_bytes: int = 2**20,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address must begin with http:// or https:// and name a host")
        parts.hostname.encode("idna")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = f"POST {target} HTTP/1.1\r\nhost: {parts.netloc.rpartition('@')[2]}\r\n"
        self._connect_seconds = connect_seconds
        self._reply_seconds = reply_seconds
        self._idle_seconds = idle_seconds
        self._most_bytes = most_bytes
        self._room = asyncio.Semaphore(connections)
        self._idle: list[_Line] = []

    async def post(self, body: bytes, headers: Mapping[str, str]) -> HttpReply | NoReply:
        """Post once; a connection is used again only after a whole reply."""
        request = self._request(body, headers)
        async with self._room:
            try:
                line = await self._line()
            except (OSError, TimeoutError):
                return NoReply(reason="connect")
            try:
                async with asyncio.timeout(self._reply_seconds):
                    reply = await line.exchange(request, self._most_bytes)
            except TimeoutError:
                reply = NoReply(reason="timeout")
            finally:
                self._put_back(line)
            return reply

    async def close(self) -> None:
        """Let go of the sockets."""
        idle, self._idle = self._idle, []
        for line in idle:
            await line.hang_up()

    def _request(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{self._head}{lines}content-length: {len(body)}\r\n\r\n".encode() + body

    async def _line(self) -> "_Line":
        loop = asyncio.get_running_loop()
        while self._idle:
            line = self._idle.pop()
            # A server closes idle connections; a request written just then would be lost.
            if line.is_usable and loop.time() - line.idle_since < self._idle_seconds:
                return line
            line.drop()
        async with asyncio.timeout(self._connect_seconds):
            _, line = await loop.create_connection(_Line, self._host, self._port, ssl=self._tls)
        return line

    def _put_back(self, line: "_Line") -> None:
        if line.is_usable:
            line.idle_since = asyncio.get_running_loop().time()
            self._idle.append(line)
        else:
            line.drop()


@dataclass(slots=True)
class _Parts:
    """What the parser has seen of the reply so far."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ends_with_connection: bool = False


class _Line(asyncio.Protocol):
    """One connection with at most one request in flight; also the parser's listener."""

    def __init__(self) -> None:
        self.is_usable = True
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[HttpReply | NoReply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts = _Parts()
        self._most_bytes = 0
        self._received = 0
        self._lost = asyncio.get_running_loop().create_future()

    async def exchange(self, request: bytes, most_bytes: int) -> HttpReply | NoReply:
        """Write one request and return its reply; until then the line is not usable."""
        if self._transport is None or not self.is_usable:
            return NoReply(reason="broken")
        self.is_usable = False
        self._most_bytes = most_bytes
        self._received = 0
        self._parser = httptools.HttpResponseParser(self)
        self._parts = _Parts()
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def drop(self) -> None:
        """Close at once."""
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    async def hang_up(self) -> None:
        """Close at once and wait until the socket is gone."""
        self.drop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.done():
            # Bytes nobody asked for: whose answer they are cannot be known.
            self.drop()
            return
        self._received += len(data)
        if self._received > 2 * self._most_bytes + _MOST_HEAD_BYTES:
            self._finish(NoReply(reason="too-large"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish(NoReply(reason="broken"))

    def eof_received(self) -> None:
        if self._parts.ends_with_connection:
            self.on_message_complete()
        self.is_usable = False
        self._finish(NoReply(reason="broken"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        self._finish(NoReply(reason="broken"))
        if not self._lost.done():
            self._lost.set_result(None)

    def on_message_begin(self) -> None:
        if self._reply is None or self._reply.done():
            # A second reply to one request.
            self.drop()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parts.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        headers = self._parts.headers
        is_framed = "content-length" in headers or "transfer-encoding" in headers
        self._parts.ends_with_connection = not is_framed

    def on_body(self, body: bytes) -> None:
        self._parts.body += body
        if len(self._parts.body) > self._most_bytes:
            self._finish(NoReply(reason="too-large"))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._parts = _Parts()
            return
        parts = self._parts
        if self._reply is not None and not self._reply.done():
            self.is_usable = self._parser.should_keep_alive() and not parts.ends_with_connection
        self._finish(HttpReply(status=status, headers=parts.headers, body=bytes(parts.body)))

    def _finish(self, reply: HttpReply | NoReply) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)
