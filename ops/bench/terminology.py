"""How long $expand of a 5,000-code value set takes after the first time, against a bare list."""

import datetime
import statistics
import time
from collections.abc import Callable
from typing import Any

from conformance.terminology.expansion import ExpandOptions, expand
from conformance.terminology.library import Library

CODES = 5_000
ROUNDS = 30


def _milliseconds(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begin) * 1000)
    return statistics.median(taken)


async def run() -> dict[str, Any]:
    """Return the median milliseconds of $expand and of building the bare list of its entries."""
    system = {
        "resourceType": "CodeSystem",
        "url": "urn:codes",
        "content": "complete",
        "concept": [{"code": f"C{n:05d}", "display": f"Code {n}"} for n in range(CODES)],
    }
    value_set = {
        "resourceType": "ValueSet",
        "url": "urn:all",
        "status": "active",
        "compose": {"include": [{"system": "urn:codes"}]},
    }
    library = Library([system, value_set])
    now = datetime.datetime.now(datetime.UTC)
    expand(value_set, library, ExpandOptions(), now=now)
    ours = _milliseconds(lambda: expand(value_set, library, ExpandOptions(), now=now))
    concepts: Any = system["concept"]
    bare = _milliseconds(
        lambda: [
            {"system": "urn:codes", "code": c["code"], "display": c["display"]} for c in concepts
        ]
    )
    return {
        "codes": CODES,
        "expand_ms": round(ours, 2),
        "bare_list_ms": round(bare, 2),
        "ratio": round(ours / bare, 1),
    }
