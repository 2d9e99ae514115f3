"""Listening sockets on every address of a host."""

import asyncio
import errno
import socket


async def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Listen on one port of every address of a host; port 0 takes a free one.

    OSError where the port cannot be had on one of them; then nothing stays open.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    for family, address in dict.fromkeys((entry[0], entry[4][0]) for entry in found):
        try:
            listener = socket.create_server((str(address), port), family=family, backlog=1024)
        except OSError as broken:
            # "localhost" names ::1 too, also where the machine has no IPv6.
            if broken.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and listeners:
                continue
            for one in listeners:
                one.close()
            raise
        listener.setblocking(False)
        port = listener.getsockname()[1]
        listeners.append(listener)
    return listeners
