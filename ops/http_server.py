"""The HTTP server: uvicorn on uvloop, with a deadline for receiving a request."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.types import ASGIApp

from routes.limits import Limits
from routes.receive_deadline import deadline_protocol

_BACKLOG = 1024
_SOCKET_BYTES = 65_536  # what a client says on a WebSocket is a token


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, *, host: str, port: int, limits: Limits) -> AsyncIterator[int]:
    """Serve the application and give the port; OSError where the port is taken."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=deadline_protocol(limits),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=_SOCKET_BYTES,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=limits.idle_seconds,
        backlog=_BACKLOG,
    )
    listener = _listener(host, port)
    server = uvicorn.Server(config)
    # Signals belong to the command that runs us.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


def _listener(host: str, port: int) -> socket.socket:
    """Take the port; uvicorn's own way of it would end the process without naming the port."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[4][:2], family=address[0], backlog=_BACKLOG)
    except OSError as refusal:
        number = refusal.errno or 0
        reason = os.strerror(number) if number > 0 else str(refusal)
        message = f"HTTP cannot listen on {host}:{port} (QIAO_HTTP_PORT): {reason}"
        raise OSError(message) from None
