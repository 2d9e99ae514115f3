"""The HTTP server: uvicorn on uvloop, with a deadline for receiving a request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn
from starlette.types import ASGIApp

from routes.limits import Limits
from routes.receive_deadline import deadline_protocol

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
        backlog=1024,
    )
    listener = config.bind_socket()
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
