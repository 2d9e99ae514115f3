"""All current resources of a few types, for those who keep them in memory."""

from collections.abc import Sequence

from fhir_store.resource_types import TYPE_IDS
from fhir_store.store import Pool

MOST = 20_000

# definitions_mark: changes whenever a resource of these types is written or deleted
MARK = "select count(*), coalesce(max(txid), 0) from resource where tid = any(%(tids)s)"

# definitions_of: the current resources of these types, oldest first
CURRENT = """
select body from resource
 where tid = any(%(tids)s) and not del
 order by rid limit %(most)s"""


def _numbers(types: Sequence[str]) -> list[int]:
    return [TYPE_IDS[type_] for type_ in types]


async def definitions_mark(pool: Pool, types: Sequence[str]) -> tuple[int, int]:
    """Return a value that changes with every write to these types."""
    async with pool.connection() as connection:
        cursor = await connection.execute(MARK, {"tids": _numbers(types)})
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def definitions_of(pool: Pool, types: Sequence[str]) -> list[bytes]:
    """Return the bodies of all current resources of these types, 20,000 at most."""
    async with pool.connection() as connection:
        cursor = await connection.execute(CURRENT, {"tids": _numbers(types), "most": MOST})
        return [body.encode() async for (body,) in cursor]
