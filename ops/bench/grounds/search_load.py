"""A database of a synthetic district for the search benchmark, copied straight into its tables."""

import asyncio
import time
import uuid
from array import array
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import psycopg

from conformance.search_parameters import type_number
from fhir_store import migrate
from fhir_store.index_rows import IndexRows, rows_of
from fhir_store.keys import resource_key
from ops.bench.grounds.search_world import world


@asynccontextmanager
async def loaded(server: str, patients: int) -> AsyncIterator[tuple[str, float]]:
    """Make a database of so many patients for a block; gives its URL and the loading rate."""
    name = f"qiao_bench_{uuid.uuid4().hex[:8]}"
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as admin:
        await admin.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            await asyncio.to_thread(migrate.upgrade, url)
            rate = await _load(url, patients)
            yield url, rate
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (force)'.encode())


_COPIES = {
    "resource": "rid, rkey, tid, fid, ver, lu, op, chash, pset, body",
    "ix_token": "h, sid, rid",
    "ix_ref": "tgt, pid, rid",
    "ix_date": "h, lo, hi, rid",
    "ix_num": "h, lo, hi, rid",
    "ix_str": "h, v, x, rid",
    "ix_gram": "rid, g",
}


async def _load(url: str, patients: int) -> float:
    """Copy the world into the tables; returns resources per second."""
    begin, count = time.perf_counter(), 0
    codes: dict[tuple[int, int, str], str] = {}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        batch: list[tuple[int, dict[str, Any]]] = []
        for rid, resource in enumerate(world(patients), start=1):
            batch.append((rid, resource))
            count += 1
            if len(batch) == 5000:
                await _copy(connection, batch, codes)
                batch = []
        await _copy(connection, batch, codes)
        rows = [(*place, display) for place, display in codes.items()]
        await _copy_rows(connection, "code_dict", "pid, sid, code, display", rows)
        await connection.execute("SELECT setval('rid_seq', %s)", (count + 64,))
        await connection.execute("VACUUM ANALYZE")
        await _warm(connection)
    return count / (time.perf_counter() - begin)


async def _warm(connection: psycopg.AsyncConnection[Any]) -> None:
    """Read every page once, so that times tell of work and not of the first visit."""
    await connection.execute(b"SELECT sum(length(body)) FROM resource")
    await connection.execute(b"SET enable_seqscan = off; SET enable_bitmapscan = off")
    for statement in _READ_INDEXES:
        await connection.execute(statement)
    await connection.execute(b"RESET ALL")


_READ_INDEXES = (
    b"SELECT count(*) FROM (SELECT h, rid FROM ix_token ORDER BY h, rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT tgt, pid, rid FROM ix_ref ORDER BY tgt, pid, rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT rid, pid FROM ix_ref ORDER BY rid, pid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, lo FROM ix_date ORDER BY h, lo OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, hi FROM ix_date ORDER BY h, hi OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, rid FROM ix_date ORDER BY h, rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, lo FROM ix_num ORDER BY h, lo OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, hi FROM ix_num ORDER BY h, hi OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, rid FROM ix_num ORDER BY h, rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT h, v FROM ix_str ORDER BY h, v OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT rid FROM ix_str ORDER BY rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT rid FROM ix_gram ORDER BY rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT rid FROM resource ORDER BY rid OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT rkey FROM resource ORDER BY rkey OFFSET 0) x",
    b"SELECT count(*) FROM (SELECT tid, fid FROM resource ORDER BY tid, fid OFFSET 0) x",
)


async def _copy(
    connection: psycopg.AsyncConnection[Any],
    batch: list[tuple[int, dict[str, Any]]],
    codes: dict[tuple[int, int, str], str],
) -> None:
    tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _COPIES}
    for rid, resource in batch:
        rows: IndexRows = rows_of(resource)
        type_, id_ = resource["resourceType"], resource["id"]
        pset = "{" + ",".join(map(str, rows.present)) + "}"
        body = orjson.dumps(resource).decode()
        moment = "2026-01-01T00:00:00Z"
        key = resource_key(type_, id_)
        values = (rid, key, type_number(type_), id_, 1, moment, "u", 0, pset, body)
        tables["resource"].append(values)
        tables["ix_token"].extend((*row, rid) for row in rows.tokens)
        tables["ix_ref"].extend((*row, rid) for row in rows.references)
        tables["ix_date"].extend((*row, rid) for row in rows.dates)
        tables["ix_num"].extend((*row, rid) for row in rows.numbers)
        tables["ix_str"].extend((*row, rid) for row in rows.strings)
        if rows.grams:
            tables["ix_gram"].append((rid, array("i", b"".join(rows.grams)).tolist()))
        codes.update(((pid, sid, code), display) for pid, sid, code, display in rows.codes)
    for name, columns in _COPIES.items():
        await _copy_rows(connection, name, columns, tables[name])


async def _copy_rows(
    connection: psycopg.AsyncConnection[Any],
    table: str,
    columns: str,
    rows: Iterable[tuple[Any, ...]],
) -> None:
    statement = f"COPY {table} ({columns}) FROM STDIN".encode()
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row)
