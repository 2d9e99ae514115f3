"""An ASGI application on a real socket, read and written by a protocol of ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def served(application: Any, protocol: Any, **settings: Any) -> AsyncIterator[int]:
    """Serve until the block ends and give the port; `settings` are uvicorn's."""
    config = uvicorn.Config(
        application, port=0, http=protocol, log_config=None, lifespan="off", **settings
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
