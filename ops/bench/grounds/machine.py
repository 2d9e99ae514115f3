"""What a machine does in fixed exercises: figures of two machines are compared by these."""

import os
import pathlib
import platform
import statistics
import tempfile
import time
from typing import Any

_ROUNDS = 5
_STEPS = 1_000_000
_SYNCS = 50
_PAGE = b"q" * 8192


def machine() -> dict[str, Any]:
    """Return the cores, the Python, and how long the two exercises took.

    `python_ns_per_step`: one addition in a loop, the least of five rounds; `sync_us`: write of a
    page of 8 KiB and fsync in the folder for temporary files, the median of fifty.
    """
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "python_ns_per_step": round(min(_loop() for _ in range(_ROUNDS)) / _STEPS, 1),
        "sync_us": round(_sync() / 1000),
    }


def _loop() -> int:
    began = time.perf_counter_ns()
    total = 0
    for step in range(_STEPS):
        total += step
    return time.perf_counter_ns() - began


def _sync() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "page"
        seen = []
        with path.open("wb", buffering=0) as page:
            for _ in range(_SYNCS):
                began = time.perf_counter_ns()
                page.seek(0)
                page.write(_PAGE)
                os.fsync(page.fileno())
                seen.append(time.perf_counter_ns() - began)
    return statistics.median(seen)
