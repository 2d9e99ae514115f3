"""The HTTP server over a real socket: how long a connection may rest."""

import asyncio
import time

import pytest
from starlette.responses import PlainTextResponse

from ops.http_server import serving
from routes.limits import Limits

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize(("idle", "is_closed"), [(1, True), (75, False)])
def test_a_connection_rests_as_long_as_the_limit_says(idle: int, is_closed: bool) -> None:
    async def look() -> bool:
        limits = Limits(idle_seconds=idle)
        async with serving(
            PlainTextResponse("ok"), host="127.0.0.1", port=0, limits=limits
        ) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            started = time.monotonic()
            try:
                ended = await asyncio.wait_for(reader.read(), 1.8) == b""
            except TimeoutError:
                ended = False
            assert not ended or time.monotonic() - started > 0.8
            writer.close()
            return ended

    assert asyncio.run(look()) is is_closed


def test_a_taken_port_is_named_with_its_setting() -> None:
    async def bind_twice() -> None:
        app, limits = PlainTextResponse("ok"), Limits()
        async with serving(app, host="127.0.0.1", port=0, limits=limits) as port:
            with pytest.raises(OSError, match=rf"127.0.0.1:{port} \(QIAO_HTTP_PORT\): Address"):
                async with serving(app, host="127.0.0.1", port=port, limits=limits):
                    pass

    asyncio.run(bind_twice())
