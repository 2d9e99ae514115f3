"""What the dictionary of codes in use answers: which codes, texts and uris really occur.

A search by value set, system or text becomes a search by the few codes that are stored.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

from psycopg import AsyncConnection

from conformance.problem import Issue, TooCostly
from fhir_store.arrays import Int4s, Texts
from fhir_store.keys import TEXT_SID
from fhir_store.search.nodes import TARGETS_LIMIT

Connection = AsyncConnection[Any]

# codes_of_system: every code in use of some systems
_OF_SYSTEM = """
SELECT pid, sid, code FROM code_dict
 WHERE pid = ANY(%(pids)b::int4[]) AND sid = ANY(%(sids)b::int4[]) LIMIT %(limit)s"""
# codes_among: which of many codes are in use
_AMONG = """
SELECT d.pid, d.sid, d.code
  FROM unnest(%(pids)b::int4[]) AS p (pid)
 CROSS JOIN unnest(%(sids)b::int4[], %(codes)b::text[]) AS c (sid, code)
  JOIN code_dict d ON d.pid = p.pid AND d.sid = c.sid AND d.code = c.code LIMIT %(limit)s"""
# words_from: texts or uris that begin with a prefix
_FROM = """
SELECT pid, sid, code FROM code_dict
 WHERE pid = ANY(%(pids)b::int4[]) AND sid = %(sid)s::int4
   AND code >= %(low)s AND (%(high)s::text IS NULL OR code < %(high)s) LIMIT %(limit)s"""
# systems_of: in which systems a code is in use
_SYSTEMS = """
SELECT pid, sid, code FROM code_dict
 WHERE pid = ANY(%(pids)b::int4[]) AND code = ANY(%(codes)b::text[]) AND sid >= 0
 LIMIT %(limit)s"""
# every_code: the codes of a parameter, to sort by
_EVERY = """
SELECT pid, sid, code FROM code_dict
 WHERE pid = ANY(%(pids)b::int4[]) AND sid >= 0 LIMIT %(limit)s"""

Found = list[tuple[int, int, str]]  # (pid, sid, code)


class CodeDictionary:
    """The dictionary as seen through one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_systems(self, pids: Sequence[int], sids: Sequence[int]) -> Found:
        """Return the codes in use of the systems."""
        return await self.ask(_OF_SYSTEM, pids=Int4s(pids), sids=Int4s(sids))

    async def among(self, pids: Sequence[int], codes: Sequence[tuple[int, str]]) -> Found:
        """Return which (sid, code) are in use."""
        sids, words = Int4s(sid for sid, _ in codes), Texts(code for _, code in codes)
        return await self.ask(_AMONG, pids=Int4s(pids), sids=sids, codes=words)

    async def from_prefix(self, pids: Sequence[int], sid: int, low: str, high: str | None) -> Found:
        """Return texts (`sid` TEXT_SID) or uris (0) from `low` up to `high`, exclusive."""
        return await self.ask(_FROM, pids=Int4s(pids), sid=sid, low=low, high=high)

    async def systems_of(self, pids: Sequence[int], codes: Sequence[str]) -> Found:
        """Return in which systems the codes are in use."""
        return await self.ask(_SYSTEMS, pids=Int4s(pids), codes=Texts(codes))

    async def every_code(self, pids: Sequence[int]) -> Found:
        """Return all codes of the parameters."""
        return await self.ask(_EVERY, pids=Int4s(pids))

    async def ask(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement with a `limit`; TooCostly where there are more."""
        query = statement.encode()
        cursor = await self._connection.execute(query, {**values, "limit": TARGETS_LIMIT + 1})
        rows = await cursor.fetchall()
        if len(rows) > TARGETS_LIMIT:
            _refuse()
        return rows


def _refuse() -> NoReturn:
    raise TooCostly(
        Issue(
            code="too-costly",
            key="search-too-many-codes",
            text_en=f"The search stands for more than {TARGETS_LIMIT} different codes",
            text_zh=f"该查询对应的代码超过 {TARGETS_LIMIT} 个",
            fix_en="Search by fewer or more specific codes.",
            fix_zh="请使用更少或更具体的代码查询。",
        )
    )


__all__ = ["TEXT_SID", "CodeDictionary", "Found"]
