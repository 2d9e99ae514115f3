"""Secrets that all processes of a site share and nobody has to configure: made once, kept."""

import os
from typing import Any

from psycopg import AsyncConnection

_OFFER = (
    b"INSERT INTO site_secret (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT DO NOTHING"
)
_SECRET = b"SELECT value FROM site_secret WHERE name = %(name)s"


async def site_secret(connection: AsyncConnection[Any], name: str) -> bytes:
    """Return the 32 bytes of a name; the first who asks makes them."""
    row = await (await connection.execute(_SECRET, {"name": name})).fetchone()
    if row is None:
        await connection.execute(_OFFER, {"name": name, "value": os.urandom(32)})
        row = await (await connection.execute(_SECRET, {"name": name})).fetchone()
    assert row is not None
    return bytes(row[0])
