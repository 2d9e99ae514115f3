"""Imported resources a second, against COPY of the same rows into the same tables."""

import asyncio
import concurrent.futures
import itertools
import json
import multiprocessing
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from fhir_store.store import Pool, make_pool
from ops.bench.grounds.database import fresh_database
from ops.bench.store_write import bench_resources, statements_for
from ops.importing import import_stretches, shifts, stretches_of

PATIENTS = 2_000
_TABLES = {
    "resource (rid, rkey, tid, fid, ver, op, chash, pset, body, lu)": (
        *("n_rid", "n_rkey", "n_tid", "n_fid", "n_ver", "n_op", "n_chash", "n_pset", "n_body"),
        "now",
    ),
    "ix_token (h, rid, sid)": ("gt_h", "gt_rid", "gt_sid"),
    "ix_ref (tgt, pid, rid)": ("gr_tgt", "gr_pid", "gr_rid"),
    "ix_date (h, lo, hi, rid)": ("gd_h", "gd_lo", "gd_hi", "gd_rid"),
    "ix_num (h, lo, hi, rid)": ("gn_h", "gn_lo", "gn_hi", "gn_rid"),
    "ix_str (h, v, rid, x)": ("gs_h", "gs_v", "gs_rid", "gs_x"),
    "ix_gram (rid, g)": ("gg_rid", "grams"),
    "audit (actor, trace_id, action, tid, fid, ver, at)": (
        *("a_actor", "a_trace", "a_action", "a_tid", "a_fid", "a_ver"),
        "now",
    ),
}


def _text_of(values: dict[str, Any], columns: tuple[str, ...]) -> bytes:
    """Return rows in COPY's text format."""
    if "grams" in columns:
        values = {**values, "grams": list(_gram_arrays(values))}
    length = len(values[columns[0]])
    taken = [values.get(name) or itertools.repeat("now", length) for name in columns]
    lines = ("\t".join(map(_escaped, row)) for row in zip(*taken, strict=True))
    return ("\n".join(lines) + "\n").encode()


def _gram_arrays(values: dict[str, Any]) -> Iterator[str]:
    for low, high in zip(values["gg_low"], values["gg_high"], strict=True):
        yield "{" + ",".join(map(str, values["gg_g"][low - 1 : high])) + "}"


def _escaped(value: object) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


async def _copy(pool: Pool, texts: list[dict[str, bytes]]) -> None:
    """Send the prepared rows, a commit for each thousand resources."""
    async with pool.connection() as connection:
        for tables in texts:
            async with connection.transaction():
                for table, text in tables.items():
                    async with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as to:
                        await to.write(text)


async def copy_rate(url: str) -> float:
    """Return resources a second by COPY of their rows, made beforehand, by one connection."""
    resources = bench_resources(21, PATIENTS)
    groups = [resources[n : n + 1000] for n in range(0, len(resources), 1000)]
    texts = [
        {table: _text_of(values, columns) for table, columns in _TABLES.items()}
        for _, values in await statements_for(groups, itertools.count(10**12))
    ]
    async with make_pool(url, size=1, statement_seconds=60) as pool:
        begin = time.perf_counter()
        await _copy(pool, texts)
        return len(resources) / (time.perf_counter() - begin)


def _import_rate(url: str, workers: int) -> float:
    """Import by processes that have imported a little before, as in any longer import."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="qiao-b-") as folder,
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        few = _file(pathlib.Path(folder), 23, 5)
        many = _file(pathlib.Path(folder), 22, PATIENTS)
        for path in [few] * workers:
            list(pool.map(import_stretches, [url] * workers, [list(stretches_of(path))] * workers))
        groups = shifts(list(stretches_of(many)), workers)
        begin = time.perf_counter()
        found = list(pool.map(import_stretches, [url] * len(groups), groups))
        seconds = time.perf_counter() - begin
    if sum(one.counts.written for outcomes in found for one in outcomes) != PATIENTS * 10:
        raise RuntimeError("not everything was imported")
    return PATIENTS * 10 / seconds


def _file(folder: pathlib.Path, seed: int, patients: int) -> pathlib.Path:
    path = folder / f"{seed}.ndjson"
    with path.open("w", encoding="utf-8") as file:
        for number, one in enumerate(bench_resources(seed, patients)):
            renamed = one | {"id": f"i{seed}-{number}"}
            file.write(json.dumps(renamed, ensure_ascii=False) + "\n")
    return path


async def run() -> dict[str, Any]:
    """Return resources a second: COPY by one connection, import by one to three processes."""
    figures: dict[str, Any] = {"unit": "resources a second", "resources": PATIENTS * 10}
    for workers in (1, 2, 3):
        with fresh_database() as url:
            raw = await copy_rate(url)
            ours = await asyncio.to_thread(_import_rate, url, workers)
        figures[f"import, {workers} processes"] = {
            "raw": round(raw),
            "ours": round(ours),
            "ratio": round(ours / raw, 2),
        }
    return figures
