"""Rights that are remembered end with the commit that ends them, in every process.

Rights are worked out from resources (roles, organisations, teams, consents, relations) and
remembered for a moment. They carry the generation of what they hang on; every statement into which
they are compiled fails with `QI001` where the database knows a later one, and is done again with
new rights. A commit that touches others' rights alone leaves it.
"""

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from conformance.problem import Issue, Unavailable
from fhir_store.authorization import Grounds
from fhir_store.borrowed import Borrowed

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]
Seen = tuple[int, ...]

_MOVED = "QI001"

# rights_seen: before rights are worked out, so that no change falls between
RIGHTS_SEEN = "SELECT rights_seen()"

# rights_generation: of what the rights turned out to hang on, as it was seen beforehand
RIGHTS_GENERATION = "SELECT rights_generation(%(keys)s::text[], %(seen)s::int8[])"

_MOST_KEYS = 500
"""Rights that hang on more are compared with every change: the names would be too long."""

# prune_rights_changes: nobody remembers rights for so long. Many at once, because each time all
# rights are worked out anew; few in all, because every statement with rights looks at them.
PRUNE_RIGHTS_CHANGES = """
DELETE FROM rights_change WHERE at < now() - interval '1 minute'
   AND EXISTS (SELECT FROM rights_change WHERE at < now() - interval '2 minutes')"""


async def rights_seen(pool: Pool) -> Seen:
    """Return the changes of rights that are known before rights are worked out."""
    async with Borrowed(pool) as connection:
        cursor = await connection.execute(RIGHTS_SEEN, prepare=True)
        row = await cursor.fetchone()
    assert row is not None
    return tuple(row[0])


async def grounds_of(pool: Pool, keys: Iterable[str], seen: Seen) -> Grounds:
    """Return what rights hang on that were worked out from `keys` after `seen` was read."""
    named = tuple(dict.fromkeys(keys))
    kept = named if len(named) <= _MOST_KEYS else None
    values = {"keys": None if kept is None else list(kept), "seen": list(seen)}
    async with Borrowed(pool) as connection:
        cursor = await connection.execute(RIGHTS_GENERATION, values, prepare=True)
        row = await cursor.fetchone()
    assert row is not None
    return Grounds(int(row[0]), kept)


async def prune_rights_changes(connection: psycopg.AsyncConnection[object]) -> None:
    """Let go of changes that everybody has seen."""
    await connection.execute(PRUNE_RIGHTS_CHANGES)


def have_rights_moved(failure: BaseException) -> bool:
    """Say whether a statement failed because the rights in it are no longer the present ones."""
    return isinstance(failure, psycopg.DatabaseError) and failure.sqlstate == _MOVED


def rights_moved() -> Unavailable:
    """Return the failure of a request during which rights changed, and that cannot be repeated."""
    return Unavailable(_RIGHTS_MOVED)


_RIGHTS_MOVED = Issue(
    code="transient",
    key="rights-moved",
    text_en="Your rights were changed while this was being answered",
    text_zh="应答期间您的权限发生了变更",
    fix_en="Send the same request again.",
    fix_zh="请原样重新提交。",
)
