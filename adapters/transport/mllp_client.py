"""MLLP sender: one frame in flight on one connection, kept open between frames."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from adapters.port import Outgoing, Receipt, Verdict
from adapters.transport.hl7_header import acknowledgement_of, control_id_of
from adapters.transport.mllp_framing import Frame, FrameReader, to_frame

VERDICTS: Mapping[str, Verdict] = MappingProxyType(
    {
        "AA": Verdict.ACCEPTED,
        "CA": Verdict.ACCEPTED,
        "AE": Verdict.REFUSED,
        "CE": Verdict.REFUSED,
        "AR": Verdict.REFUSED,
        "CR": Verdict.REFUSED,
    }
)
"""What MSA-1 means (HL7 table 0008) where a destination says nothing else."""


class MllpSender:
    """A destination that speaks MLLP. Never raises: whatever happens becomes a verdict."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        connect_seconds: float = 5.0,
        reply_seconds: float = 30.0,
        frame_bytes: int = 16 * 2**20,
        tls: ssl.SSLContext | None = None,
        verdicts: Mapping[str, Verdict] = VERDICTS,
    ) -> None:
        self._host = host
        self._port = port
        self._connect_seconds = connect_seconds
        self._reply_seconds = reply_seconds
        self._frame_bytes = frame_bytes
        self._tls = tls
        self._verdicts = verdicts
        self._turn = asyncio.Lock()
        self._line: _Line | None = None

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Send one message and judge its ACK; MSA-2 must name the message's MSH-10."""
        async with self._turn:
            try:
                line = await self._connected()
            except (OSError, TimeoutError) as broken:
                return _receipt(Verdict.DEFERRED, "connect", broken)
            try:
                async with asyncio.timeout(self._reply_seconds):
                    reply = await line.exchange(to_frame(outgoing.payload))
            except TimeoutError as broken:
                # A late ACK must never be taken for the next message's.
                await self._hang_up()
                return _receipt(Verdict.UNKNOWN, "timeout", broken)
            except OSError as broken:
                await self._hang_up()
                return _receipt(Verdict.UNKNOWN, "broken", broken)
            receipt = self._judge(reply, control_id_of(outgoing.payload))
            if receipt.verdict is Verdict.UNKNOWN:
                await self._hang_up()
            return receipt

    async def ask(self, key: str) -> Receipt:
        """MLLP has no status query."""
        return Receipt(verdict=Verdict.UNKNOWN, code="no-query", detail="MLLP cannot be asked")

    async def close(self) -> None:
        """Let go of the socket."""
        async with self._turn:
            await self._hang_up()

    async def _connected(self) -> "_Line":
        if self._line is not None and self._line.usable:
            return self._line
        await self._hang_up()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_seconds):
            _, protocol = await loop.create_connection(
                lambda: _Line(self._frame_bytes), self._host, self._port, ssl=self._tls
            )
        self._line = protocol
        return protocol

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.hang_up()

    def _judge(self, reply: bytes, control_id: str) -> Receipt:
        found = acknowledgement_of(reply)
        if found is None:
            return Receipt(
                verdict=Verdict.UNKNOWN, code="not-an-ack", detail="no MSA came back", raw=reply
            )
        if found.control_id != control_id:
            detail = "MSA-2 does not name the message that was sent"
            return Receipt(verdict=Verdict.UNKNOWN, code="wrong-ack", detail=detail, raw=reply)
        verdict = self._verdicts.get(found.code, Verdict.UNKNOWN)
        return Receipt(
            verdict=verdict,
            code=found.code,
            detail=found.text,
            reference=found.control_id,
            raw=reply,
        )


class _Line(asyncio.Protocol):
    """One connection with at most one frame in flight."""

    def __init__(self, frame_bytes: int) -> None:
        self._reader = FrameReader(frame_bytes=frame_bytes)
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[bytes] | None = None
        self._lost = asyncio.get_running_loop().create_future()
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            if self._reply is None or self._reply.done():
                # Nobody waits for it, so whose answer it is cannot be known.
                self.usable = False
            elif isinstance(event, Frame):
                self._reply.set_result(event.payload)
            else:
                self._break(ConnectionError("the reply is not an MLLP frame"))

    def eof_received(self) -> None:
        self._break(ConnectionError("the other side closed before its ACK"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        broken = exc if isinstance(exc, OSError) else ConnectionError("connection closed")
        self._break(broken)

    async def exchange(self, frame: bytes) -> bytes:
        """Write one frame and return the next one that comes back."""
        if self._transport is None or not self.usable:
            raise ConnectionError("connection closed")
        self._reply = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(frame)
            return await self._reply
        finally:
            self._reply = None

    async def hang_up(self) -> None:
        """Close at once and wait until the socket is gone."""
        self.usable = False
        if self._transport is None:
            return
        self._transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._lost

    def _break(self, broken: OSError) -> None:
        self.usable = False
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(broken)


def _receipt(verdict: Verdict, code: str, broken: Exception) -> Receipt:
    return Receipt(verdict=verdict, code=code, detail=str(broken) or type(broken).__name__)
