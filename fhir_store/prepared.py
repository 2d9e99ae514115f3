"""Statements that are prepared once and sent without a cursor.

For the one statement that every message waits for: a cursor costs more processor time than the
wait for the commit of a small row (docs/performance.md). Parameters and results are PostgreSQL's
binary format (https://www.postgresql.org/docs/15/libpq-async.html tells the order of calls).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

Value = bytes | None


class PreparedConnection:
    """A connection that serves nothing but its prepared statements, one at a time.

    Each runs in a transaction of its own. The socket is watched as long as this lives, so nobody
    else may wait on the connection; `close` ends both.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection
        self.is_lost = False
        self._link = connection.pgconn
        self._socket = connection.pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] | None = None
        self._results: list[PGresult] = []
        self._loop.add_reader(self._socket, self._read)

    async def prepare(self, name: bytes, statement: str) -> None:
        """Have a statement with `$1::type` parameters ready under a name."""
        self._link.send_prepare(name, statement.encode())
        await self._finish()

    async def run(self, name: bytes, values: Sequence[Value]) -> PGresult:
        """Return the rows of a statement once it is committed; raises as a cursor does."""
        formats = (Format.BINARY,) * len(values)
        self._link.send_query_prepared(name, values, formats, Format.BINARY)
        return await self._finish()

    async def close(self) -> None:
        """Let go of the connection, also in the middle of a statement."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        await self.connection.close()

    async def _finish(self) -> PGresult:
        self._ended = self._loop.create_future()
        if self._link.flush():
            self._loop.add_writer(self._socket, self._flush)
        try:
            await self._ended
        finally:
            self._ended = None
            results, self._results = self._results, []
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        return results[-1]

    def _read(self) -> None:
        """Take what has come; a statement has ended, and is committed, after its last result."""
        try:
            self._link.consume_input()
            while not self._link.is_busy():
                result = self._link.get_result()
                if result is None:
                    self._end()
                    return
                self._results.append(result)
        except psycopg.OperationalError as lost:
            self._lose(lost)

    def _flush(self) -> None:
        try:
            if not self._link.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as lost:
            self._lose(lost)

    def _lose(self, failure: Exception) -> None:
        # A closed socket would be reported as readable for ever.
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self.is_lost = True
        self._end(failure)

    def _end(self, failure: Exception | None = None) -> None:
        if self._ended is None or self._ended.done():
            return
        if failure is not None:
            self._ended.set_exception(failure)
        else:
            self._ended.set_result(None)
