"""The WebSocket of subscriptions: `bind-with-token: …`, then notifications in their order.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#websockets. A client that comes
back binds again and asks `$events` for what it missed; a number that comes twice is the same event.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from conformance.problem import Problem
from fhir_store.cancellation import end_if_cancelled
from fhir_store.store import Store
from fhir_store.subscriptions import (
    Subscriber,
    events_of,
    note_heard,
    subscribers_named,
    take_token,
)
from routes.subscription_notices import Notices

PATH = "/subscriptions/ws"
_BIND = "bind-with-token:"
_BIND_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_BATCH = 50
_POLICY = 1008  # RFC 6455: the message is against the rules

Hearing = Callable[[], AbstractContextManager[asyncio.Event]]


@dataclass(slots=True, kw_only=True)
class _Line:
    """One subscription on one socket: the last number sent, and when."""

    subscriber: Subscriber
    sent: int
    said: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSocket:
    """Serves the sockets; `hearing` gives an event that is set when there may be news."""

    store: Store
    notices: Notices
    hearing: Hearing

    def router(self) -> APIRouter:
        """Return the route for the application."""
        router = APIRouter()
        router.add_api_websocket_route(PATH, self.serve)
        return router

    async def serve(self, socket: WebSocket) -> None:
        """Serve one socket until it closes or asks for what it may not."""
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            lines = await self._bind(socket)
            if lines:
                telling = asyncio.create_task(self._tell(socket, lines))
                listening = asyncio.create_task(_until_closed(socket))
                try:
                    await asyncio.wait((telling, listening), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (telling, listening):
                        task.cancel()
                    await asyncio.gather(telling, listening, return_exceptions=True)
        if socket.application_state is not WebSocketState.DISCONNECTED:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(_POLICY)

    async def _bind(self, socket: WebSocket) -> list[_Line]:
        try:
            async with asyncio.timeout(_BIND_SECONDS):
                text = (await socket.receive_text()).strip()
        except TimeoutError:
            return []
        if not text.startswith(_BIND):
            return []
        token = text.removeprefix(_BIND).strip().removesuffix(";").strip()
        async with self.store.pool.connection() as connection:
            fids = await take_token(connection, token)
            found = await subscribers_named(connection, fids) if fids else []
            for one in found:
                await note_heard(connection, one.fid, 0)
        lines = []
        for one in found:
            if one.state != "off":
                lines.append(_Line(subscriber=one, sent=one.last_number, said=time.monotonic()))
                await socket.send_text((await self.notices.render(one, "handshake")).decode())
        return lines

    async def _tell(self, socket: WebSocket, lines: list[_Line]) -> None:
        with self.hearing() as rung:
            while lines:
                end_if_cancelled()
                rung.clear()
                try:
                    told = await self._tell_once(socket, lines)
                except Problem:
                    return
                if not told:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(rung.wait(), _LOOK_SECONDS)

    async def _tell_once(self, socket: WebSocket, lines: list[_Line]) -> bool:
        told = False
        async with self.store.pool.connection() as connection:
            current = {
                one.fid: one
                for one in await subscribers_named(
                    connection, [line.subscriber.fid for line in lines]
                )
            }
            news = {
                line.subscriber.fid: await events_of(
                    connection, line.subscriber.fid, after=line.sent, limit=_BATCH
                )
                for line in lines
                if (one := current.get(line.subscriber.fid)) and one.last_number > line.sent
            }
        for line in [*lines]:
            one = current.get(line.subscriber.fid)
            if one is None or one.state == "off":
                lines.remove(line)
                continue
            for event in news.get(one.fid, ()):
                body = await self.notices.render(one, "event-notification", [event])
                await socket.send_text(body.decode())
                line.sent, line.said, told = event.number, time.monotonic(), True
            if news.get(one.fid):
                async with self.store.pool.connection() as connection:
                    await note_heard(connection, one.fid, line.sent)
            elif one.heartbeat and time.monotonic() - line.said >= one.heartbeat:
                await socket.send_text((await self.notices.render(one, "heartbeat")).decode())
                line.said = time.monotonic()
        return told


async def _until_closed(socket: WebSocket) -> None:
    """Read on, so that a close is noticed; what a client says after binding is not listened to."""
    while True:
        await socket.receive_text()
