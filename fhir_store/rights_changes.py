"""Rights that are remembered end with the commit that ends them, in every process.

Rights are worked out from resources (roles, organisations, teams, consents, relations) and
remembered for a moment. They carry the generation of those resources; every statement into which
they are compiled fails with `QI001` where the database knows a later one, and is done again with
new rights.
"""

import psycopg
from psycopg_pool import AsyncConnectionPool

from conformance.problem import Issue, Unavailable
from fhir_store.borrowed import Borrowed

_MOVED = "QI001"

# rights_generation: before rights are worked out, so that no change falls between
RIGHTS_GENERATION = "SELECT rights_generation()"

# prune_rights_changes: nobody remembers rights for so long. Many at once, because each time all
# rights are worked out anew; few in all, because every statement with rights looks at them.
PRUNE_RIGHTS_CHANGES = """
DELETE FROM rights_change WHERE at < now() - interval '1 minute'
   AND EXISTS (SELECT FROM rights_change WHERE at < now() - interval '2 minutes')"""


async def rights_generation(pool: AsyncConnectionPool[psycopg.AsyncConnection[object]]) -> int:
    """Return the generation of all resources that rights are worked out from."""
    async with Borrowed(pool) as connection:
        cursor = await connection.execute(RIGHTS_GENERATION, prepare=True)
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


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
