"""The store of one process: where transactions begin and versions are read."""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, DatabaseError
from psycopg_pool import AsyncConnectionPool

from fhir_store import arrays
from fhir_store.authorization import EVERYTHING, Authorization
from fhir_store.borrowed import Borrowed
from fhir_store.changes import Index
from fhir_store.conditional import Match
from fhir_store.door import NO_LAWS, ChooseDestinations, Door, Judge, choose_none
from fhir_store.failures import history_too_long, not_found, translated_failures
from fhir_store.grouped_writes import GroupedWrites
from fhir_store.histories import HistoryPage, HistoryQuery, history
from fhir_store.operations import Operation, Version, WriteContext, WriteRequest, Written
from fhir_store.resource_types import TYPE_IDS, TYPES
from fhir_store.rights_changes import have_rights_moved, rights_moved
from fhir_store.search.query import SearchQuery
from fhir_store.search.searcher import Page, Searcher
from fhir_store.transaction import Transaction
from fhir_store.versions import PointReads, vread

# session: a time limit for every statement. A prepared statement may get its plan while the tables
# are still empty and keep it for good; without sequential scans that plan uses the indexes, too.
_SESSION = """
SELECT set_config('statement_timeout', %s, false), set_config('application_name', %s, false),
       set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
       set_config('max_parallel_workers_per_gather', '0', false),
       set_config('plan_cache_mode', 'force_generic_plan', false)"""

# Of the same text: what is asked again gets a plan that is kept.
_ASKED_BEFORE_PREPARED = 1

WAIT_SECONDS = 10.0
"""How long a connection is waited for: most clients give up after 30 seconds, without a word."""

# Rights that change faster than they are worked out are an attack or a mistake.
_ATTEMPTS = 5

# What the present task has committed: it is not to be done again.
_commits: ContextVar[int] = ContextVar("commits", default=0)

_Result = TypeVar("_Result")
Pool = AsyncConnectionPool[AsyncConnection[Any]]


def make_pool(
    database_url: str,
    *,
    size: int = 8,
    statement_seconds: float = 5.0,
    name: str = "qiao",
    connection_class: type[AsyncConnection[Any]] = AsyncConnection[Any],
) -> Pool:
    """Return an unopened pool whose every connection has a time limit and our array types.

    Who waits for one longer than `WAIT_SECONDS` gets psycopg_pool's PoolTimeout.
    """

    async def configure(connection: AsyncConnection[Any]) -> None:
        await connection.set_autocommit(True)
        connection.prepare_threshold = _ASKED_BEFORE_PREPARED
        arrays.register(connection)
        await connection.execute(_SESSION, (str(int(statement_seconds * 1000)), name))

    return AsyncConnectionPool(
        database_url,
        connection_class=connection_class,
        min_size=min(2, size),
        max_size=size,
        configure=configure,
        timeout=WAIT_SECONDS,
        open=False,
    )


class Store:
    """Resources, versions and what is owed for them, in one PostgreSQL database.

    `laws` say by resource type what a change claims or gives up, whoever writes it.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        choose_destinations: ChooseDestinations = choose_none,
        laws: Mapping[str, Judge] = NO_LAWS,
        match: Match | None = None,
        index: Index | None = None,
        searcher: Searcher | None = None,
    ) -> None:
        self.pool = pool
        self.searcher = searcher or Searcher()
        self.parameters = self.searcher.parameters
        index = index or self.parameters.index
        match = match or self.searcher.match
        self._door = Door(
            choose_destinations=choose_destinations, match=match, index=index, laws=laws
        )
        self._reads = PointReads(pool)
        self._writes = GroupedWrites(pool, self._door)
        self._forget_rights: list[Callable[[Hashable], None]] = []

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """Open a transaction; it commits when the block ends and rolls back when it raises."""
        async with self.pool.connection() as connection:
            transaction = Transaction(connection, self._door)
            with translated_failures():
                async with connection.transaction():
                    yield transaction
            transaction.note_committed()
            _commits.set(_commits.get() + 1)

    async def write(
        self,
        operations: Sequence[Operation],
        *,
        context: WriteContext,
        link: bool = False,
        distinct: bool = False,
    ) -> list[Written]:
        """Apply the operations in a commit of their own, or of all who write at this moment.

        Collisions with other writers are tried again; `link` and `distinct` are those of
        `WriteRequest`.
        """
        request = WriteRequest(operations=operations, context=context, link=link, distinct=distinct)
        written = await self._writes.write(request)
        _commits.set(_commits.get() + 1)
        return written

    def when_rights_move(self, forget: Callable[[Hashable], None]) -> None:
        """Have remembered rights forgotten as soon as a statement finds them outdated.

        `forget` is told whose they are, None where that is not known.
        """
        self._forget_rights.append(forget)

    async def at_present_rights(
        self, work: Callable[[], Awaitable[_Result]], *, whose: Hashable = None
    ) -> _Result:
        """Do work that asks for rights itself (those of `whose`); again if they were outdated.

        Work that has committed something by then is not done twice, but raises Unavailable.
        """
        before = _commits.get()
        for _ in range(_ATTEMPTS):
            try:
                return await work()
            except DatabaseError as failure:
                if not have_rights_moved(failure):
                    raise
                for forget in self._forget_rights:
                    forget(whose)
                if _commits.get() != before:
                    break
        raise rights_moved()

    async def read(self, type_: str, id_: str) -> Version:
        """Return the current version; NotFound, or Gone when it was deleted."""
        return await self._reads.read(type_, id_)

    async def vread(self, type_: str, id_: str, version: int) -> Version:
        """Return one version; NotFound, or Gone for a tombstone."""
        async with self.pool.connection() as connection:
            return await vread(connection, type_, id_, version)

    async def search(
        self, query: SearchQuery, *, authorization: Authorization = EVERYTHING
    ) -> Page:
        """Return a page of what matches and the caller may see, with what it includes."""
        async with Borrowed(self.pool) as connection:
            return await self.searcher.search(connection, query, authorization=authorization)

    async def history(
        self, query: HistoryQuery, *, authorization: Authorization = EVERYTHING
    ) -> HistoryPage:
        """Return a page of versions, newest first, of resources the caller may see.

        The rights are judged on what a resource is now; one that is deleted is seen only by those
        who may see everything of its type.
        """
        if query.type is not None and query.type not in TYPE_IDS:
            raise not_found(query.type, query.id or "")
        types = TYPES if query.type is None else (query.type,)
        async with self.pool.connection() as connection:
            visible = await self.searcher.visible(connection, types, authorization)
            try:
                return await history(connection, query, visible)
            except psycopg.errors.QueryCanceled as failure:
                raise history_too_long() from failure
