"""Importing residents from an XLSX: rows a second, against plain INSERTs of the same rows."""

import datetime
import hashlib
import time
from typing import Any

import orjson

from care.identity.residents import COLUMNS, answer_sheet
from care.identity.sheets import XLSX, write_sheet
from conformance.identity_numbers import TEST_REGION
from fhir_store.import_reading import import_context
from fhir_store.store import Store, make_pool
from ops.bench.grounds.database import fresh_database
from ops.demo.synthetic_district import people
from routes.operations.resident_import import import_reads, read_file

ROWS = 10_000


async def run() -> dict[str, Any]:
    """Read, check, deduplicate and write 10,000 rows; again, when all are known; and raw."""
    with fresh_database() as url:
        return await _measured(url, _sheet())


async def _measured(url: str, data: bytes) -> dict[str, Any]:
    async with make_pool(url, size=2, statement_seconds=60) as pool:
        store = Store(pool)

        async def silent(_done: int, _all: int) -> None:
            return None

        began = time.perf_counter()
        sheet, reads = read_file(data, XLSX, [TEST_REGION])
        read = time.perf_counter() - began
        context = import_context(hashlib.sha256(data).digest())
        began = time.perf_counter()
        first = await import_reads(store, reads, context, on_progress=silent)
        written = time.perf_counter() - began
        began = time.perf_counter()
        await import_reads(store, reads, context, on_progress=silent)
        again = time.perf_counter() - began
        began = time.perf_counter()
        answer_sheet(sheet, {row.number: ("x", ["y"]) for row in sheet.rows})
        told = time.perf_counter() - began
        raw = await _raw(pool, reads)
    assert first.created == ROWS
    total = read + written
    return {
        "rows": ROWS,
        "seconds": round(total, 2),
        "reading_seconds": round(read, 2),
        "writing_seconds": round(written, 2),
        "again_seconds": round(again, 2),
        "red_sheet_seconds": round(told, 2),
        "raw_insert_seconds": round(raw, 2),
        "ratio_to_raw": round(total / raw, 1),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _sheet() -> bytes:
    headings = [name for name, _, _ in COLUMNS]
    rows = []
    for one in people(5, ROWS):
        known = {"姓名": one.name, "证件号码": one.id_card, "联系电话": one.phone,
                 "现住址": one.address, "民族": "汉族", "健康卡号": one.health_card}  # fmt: skip
        rows.append(([known.get(name, "") for name in headings], False))
    return write_sheet(headings, rows)


async def _raw(pool: Any, reads: Any) -> float:
    """Return the seconds of one INSERT a row, in the same commits, of the same JSON."""
    bodies = [orjson.dumps(read.patient).decode() for read in reads]
    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE raw_rows (id bigserial PRIMARY KEY, body text)")
        began = time.perf_counter()
        for start in range(0, len(bodies), 500):
            async with connection.transaction():
                for body in bodies[start : start + 500]:
                    await connection.execute("INSERT INTO raw_rows (body) VALUES (%s)", (body,))
        return time.perf_counter() - began
