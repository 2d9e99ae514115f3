"""MLLP listener: every frame of every connection goes to `accept`, its reply goes back in order.

What a caller can do to us is bounded here (`MllpLimits`); what a message means is decided by
`accept`. docs/reference/mllp.md says what a sender sees.
"""

import asyncio
import functools
import logging
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

from adapters.port import Accept, Received
from adapters.transport.mllp_framing import Frame, FrameReader, Garbage, Oversize, to_frame
from adapters.transport.mllp_limits import Ending, MllpLimits, Peer
from adapters.transport.tcp_listeners import open_listeners

logger = logging.getLogger(__name__)

Refuse = Callable[[Received, str], bytes | None]
"""Builds the last reply (an AR) for a frame that is not read to its end, from its first bytes."""

_LINGER_SECONDS = 2.0


class MllpServer:
    """One listening port of one channel."""

    def __init__(
        self,
        *,
        channel: str,
        accept: Accept,
        limits: MllpLimits | None = None,
        tls: ssl.SSLContext | None = None,
        refuse: Refuse | None = None,
        on_ended: Callable[[str], None] | None = None,
    ) -> None:
        self.channel = channel
        self.accept = accept
        self.limits = limits or MllpLimits()
        self.tls = tls
        self.refuse = refuse
        self._on_ended = on_ended
        self.counts: Counter[str] = Counter()
        self.held = 0
        self.connections: set[_Connection] = set()
        self.tasks: set[asyncio.Task[bytes | None]] = set()
        self._admitted = 0
        self._per_host: Counter[str] = Counter()
        self._welcomes: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._background: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> None:
        """Listen on every address of `host`; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._sockets = await open_listeners(host, port)
        self._background = [loop.create_task(self._listen(one)) for one in self._sockets]
        self._background.append(loop.create_task(self._sweep()))

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._sockets[0].getsockname()[1])

    async def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Take no new frame, answer those being kept, then let go of every socket."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        background, self._background = self._background, []
        for task in (*background[:-1], *self._welcomes):
            task.cancel()
        await asyncio.gather(*background[:-1], *self._welcomes, return_exceptions=True)
        for listener in self._sockets:
            listener.close()
        for connection in list(self.connections):
            connection.finish(Ending("stopped"))
        while self.connections and loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.end(Ending("stopped"))
        await asyncio.sleep(0)
        for task in background:
            task.cancel()

    def admit(self, peer: Peer) -> str | None:
        """Count a caller in, or return why there is no room."""
        if self._admitted >= self.limits.connections:
            return "connections"
        if self._per_host[peer.host] >= self.limits.connections_per_peer:
            return "connections-per-peer"
        self._admitted += 1
        self._per_host[peer.host] += 1
        return None

    def release(self, peer: Peer) -> None:
        """Count a caller out."""
        self._admitted -= 1
        self._per_host[peer.host] -= 1
        if not self._per_host[peer.host]:
            del self._per_host[peer.host]

    def note(self, ending: Ending, peer: Peer) -> None:
        """Count and log the end of a connection that the peer did not choose."""
        self.counts[ending.reason] += 1
        if self._on_ended is not None:
            self._on_ended(ending.reason)
        logger.warning(
            "mllp connection ended: %s; peer %s, channel %s",
            ending.text or ending.reason,
            peer.name,
            self.channel,
            extra={"reason": ending.reason, "peer": peer.name, "channel": self.channel},
        )

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as broken:
                # Out of file descriptors, or the caller is gone already.
                logger.warning("mllp cannot accept: %s; channel %s", broken, self.channel)
                await asyncio.sleep(0.1)
                continue
            peer = Peer(host=str(address[0]), name=f"{address[0]}:{address[1]}")
            reason = self.admit(peer)
            if reason is not None:
                self.note(Ending(reason), peer)
                accepted.close()
                continue
            task = loop.create_task(self._welcome(accepted, peer))
            self._welcomes.add(task)
            task.add_done_callback(self._welcomes.discard)
            task.add_done_callback(functools.partial(self._turned_away, accepted, peer))

    def _turned_away(self, accepted: socket.socket, peer: Peer, task: asyncio.Task[None]) -> None:
        """Let go of a caller whose welcome was cancelled before it began."""
        if task.cancelled():
            self.release(peer)
            accepted.close()

    async def _welcome(self, accepted: socket.socket, peer: Peer) -> None:
        """Hand an admitted caller to a connection, after the TLS handshake where there is one."""
        connection = _Connection(self, peer)
        patience = self.limits.handshake_seconds if self.tls else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, accepted, ssl=self.tls, ssl_handshake_timeout=patience
            )
        except (OSError, asyncio.CancelledError) as broken:
            if connection.is_open:
                return
            reason = getattr(broken, "verify_message", None) or getattr(broken, "reason", None)
            reason = reason or type(broken).__name__
            self.release(peer)
            word = "tls" if self.tls else "not-connected"
            self.note(Ending(word, f"{word}: {reason}"), peer)
            accepted.close()

    async def _sweep(self) -> None:
        limits = self.limits
        shortest = min(
            limits.frame_seconds, limits.opening_seconds, limits.idle_seconds, limits.reply_seconds
        )
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, shortest / 4))
            now = loop.time()
            for connection in list(self.connections):
                ending = connection.overdue(now)
                if ending is not None:
                    connection.end(ending)


class _Connection(asyncio.Protocol):
    """One caller: cuts frames, hands them to `accept` and writes the replies in order."""

    def __init__(self, server: MllpServer, peer: Peer) -> None:
        self._server = server
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(frame_bytes=server.limits.frame_bytes)
        self._waiting: deque[bytes] = deque()
        self._running: deque[asyncio.Task[bytes | None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._held = 0
        self._opened_at = self._active_at = self._loop.time()
        self._frame_began_at: float | None = None
        self._write_blocked_at: float | None = None
        self._linger_until: float | None = None
        self._last_reply: bytes | None = None
        self._has_had_frame = False
        self._reading = True
        self._finishing = False
        self._lost = False

    @property
    def is_open(self) -> bool:
        """The server counts this caller out when it is lost."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        self._server.counts["connected"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None or self._lost:
            return
        self._lost = True
        self._server.connections.discard(self)
        self._server.release(self._peer)
        self._server.held -= self._held
        self._held = 0
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._finishing or self._lost:
            return
        began = self._frame_began_at
        for event in self._reader.feed(data):
            if isinstance(event, Frame):
                self._waiting.append(event.payload)
                self._has_had_frame = True
                self._active_at = self._loop.time()
                began = None
            elif isinstance(event, Garbage):
                if not self._bears(event):
                    return
            else:
                self._refuse(event)
                return
        if not self._reader.in_frame:
            self._frame_began_at = None
        elif began is None:
            self._frame_began_at = self._loop.time()
        self._account()
        self._advance()

    def eof_received(self) -> bool:
        if self._reader.in_frame and not self._finishing:
            self.finish(Ending("cut-short", "closed by the peer inside a frame"))
        elif self._transport is not None:
            self._finishing = True
            self._advance()
        # A sender may close its half and still wait for the ACK; TLS knows no half.
        return self._server.tls is None and self._transport is not None and not self._lost

    def pause_writing(self) -> None:
        self._write_blocked_at = self._loop.time()

    def resume_writing(self) -> None:
        self._write_blocked_at = None
        self._advance()

    def overdue(self, now: float) -> Ending | None:
        """Return the limit this connection has broken by `now`, if any."""
        limits = self._server.limits
        if self._linger_until is not None:
            return Ending("lingered") if now > self._linger_until else None
        if self._write_blocked_at is not None:
            late = now - self._write_blocked_at > limits.reply_seconds
            return Ending("reply-unread", "reply not read in time") if late else None
        if self._frame_began_at is not None and self._reading:
            if now - self._frame_began_at <= limits.frame_seconds:
                return None
            ending = ", FS without CR" if self._reader.ends_without_return else ""
            return Ending("frame-late", "frame not finished in time" + ending)
        if self._running or self._waiting:
            return None
        if self._has_had_frame:
            return Ending("idle") if now - self._active_at > limits.idle_seconds else None
        return Ending("silent") if now - self._opened_at > limits.opening_seconds else None

    def finish(self, ending: Ending) -> None:
        """Take nothing more from this caller; answer what is being kept, then close."""
        if self._finishing or self._lost:
            return
        self._finishing = True
        self._server.note(ending, self._peer)
        if ending.reason == "stopped":
            self._waiting.clear()
        self._frame_began_at = None
        self._advance()

    def end(self, ending: Ending) -> None:
        """Close at once."""
        if self._lost or self._transport is None:
            return
        if not self._finishing:
            self._server.note(ending, self._peer)
        self._finishing = True
        self._waiting.clear()
        self._transport.abort()

    def _bears(self, garbage: Garbage) -> bool:
        if self._server.limits.garbage == "close":
            self.finish(Ending("garbage", f"{garbage.size} bytes outside a frame"))
            return False
        text = f"ignored {garbage.size} bytes outside a frame"
        logger.warning("mllp %s; peer %s", text, self._peer.name)
        return True

    def _refuse(self, oversize: Oversize) -> None:
        limit = self._server.limits.frame_bytes
        if self._server.refuse is not None:
            head = self._received(oversize.head)
            self._last_reply = self._server.refuse(head, f"the frame is over {limit} bytes")
        self.finish(Ending("frame-size", f"frame over {limit} bytes"))

    def _account(self) -> None:
        held = self._reader.held
        self._server.held += held - self._held
        self._held = held
        if held and self._server.held > self._server.limits.held_bytes:
            text = "unfinished frames of all connections hold too much memory"
            self.finish(Ending("memory", text))

    def _received(self, payload: bytes) -> Received:
        return Received(
            channel=self._server.channel,
            payload=payload,
            peer=self._peer.name,
            received_at=self._loop.time(),
        )

    def _advance(self) -> None:
        if self._lost or self._transport is None:
            return
        limit = self._server.limits.frames_in_flight
        while self._waiting and len(self._running) < limit and self._write_blocked_at is None:
            received = self._received(self._waiting.popleft())
            task = self._loop.create_task(self._keep(received))
            self._running.append(task)
            self._server.tasks.add(task)
            task.add_done_callback(self._answer)
        if self._finishing and not self._running and not self._waiting:
            self._close()
        elif self._waiting and self._reading and not self._finishing:
            self._reading = False
            self._transport.pause_reading()
        elif not self._waiting and not self._reading:
            self._reading = True
            if self._reader.in_frame:
                # The pause was ours: the sender gets its whole time again.
                self._frame_began_at = self._loop.time()
            self._transport.resume_reading()

    async def _keep(self, received: Received) -> bytes | None:
        return await self._server.accept(received)

    def _answer(self, ended: asyncio.Task[bytes | None]) -> None:
        self._server.tasks.discard(ended)
        while self._running and self._running[0].done():
            task = self._running.popleft()
            failed = task.cancelled() or task.exception() is not None
            if self._lost or self._transport is None or self._transport.is_closing():
                self._server.counts["unanswered"] += 1
            elif failed:
                # Nothing was promised: without a reply the sender sends it again.
                name = "cancelled" if task.cancelled() else type(task.exception()).__name__
                self.end(Ending("accept-failed", f"accept failed: {name}"))
            else:
                self._write(task.result())
        self._advance()

    def _write(self, reply: bytes | None) -> None:
        self._server.counts["frames"] += 1
        self._active_at = self._loop.time()
        if reply is not None and self._transport is not None:
            self._transport.write(to_frame(reply))

    def _close(self) -> None:
        if self._transport is None or self._linger_until is not None:
            return
        self._write(self._last_reply) if self._last_reply is not None else None
        if self._last_reply is not None and self._transport.can_write_eof():
            # Closing with unread bytes resets the connection and loses the reply on its way.
            self._linger_until = self._loop.time() + _LINGER_SECONDS
            self._transport.write_eof()
            if not self._reading:
                self._transport.resume_reading()
        else:
            self._linger_until = self._loop.time() + self._server.limits.reply_seconds
            self._transport.close()
