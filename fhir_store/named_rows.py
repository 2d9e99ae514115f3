"""Rows of a statement by the names of their columns, for pages that people read."""

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

Row = dict[str, Any]


async def named_rows(
    connection: AsyncConnection[Any], statement: str, values: Mapping[str, Any]
) -> list[Row]:
    """Return all rows of a statement that is not worth preparing."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, values, prepare=False)
        return await cursor.fetchall()
