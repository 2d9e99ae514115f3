"""Codes of senders that people have resolved: they lie over the tables of the maps."""

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]

# read: every resolved code, in the order of resolving
READ = """
select channel, table_name, code, target from code_overlay order by at"""

# resolve: one code of one sender; a later word replaces an earlier one
RESOLVE = """
insert into code_overlay (channel, table_name, code, target, actor, reason)
select %(channel)s, %(table)s, %(code)s, %(target)s, %(actor)s, %(reason)s
    on conflict (channel, table_name, code) do update
   set target = excluded.target, actor = excluded.actor, reason = excluded.reason, at = now()"""

# list: what was resolved, newest first
LIST = """
select channel, table_name as table, code, target, actor, reason, at
  from code_overlay order by at desc limit %(limit)s"""


async def read(connection: Connection) -> dict[str, dict[str, dict[str, str]]]:
    """Return channel -> table -> the sender's code -> ours."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    cursor = await connection.execute(READ)
    for channel, table, code, target in await cursor.fetchall():
        found.setdefault(channel, {}).setdefault(table, {})[code] = target
    return found


async def resolve(
    connection: Connection,
    *,
    channel: str,
    table: str,
    code: str,
    target: str,
    actor: str,
    reason: str,
) -> None:
    """Say what a sender's code means, for this sender."""
    await connection.execute(
        RESOLVE,
        {
            "channel": channel,
            "table": table,
            "code": code,
            "target": target,
            "actor": actor,
            "reason": reason,
        },
    )


async def list_resolved(connection: Connection, limit: int = 200) -> Sequence[tuple[Any, ...]]:
    """Return the resolved codes, newest first."""
    cursor = await connection.execute(LIST, {"limit": limit})
    return await cursor.fetchall()
