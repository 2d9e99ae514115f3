"""Resources a second that come many in a request: transaction Bundles, and `$import` of NDJSON.

The raw limit of both is COPY of the same kind of rows into the same tables by one connection.
"""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

from ops.bench.bulk_import import copy_rate
from ops.bench.grounds.database import fresh_database
from ops.bench.grounds.http_load import Sender
from ops.bench.http import figure, keys_and_token, request_bytes
from ops.demo.synthetic_records import records

RESIDENTS_IN_A_BUNDLE = 1
RESIDENTS_IN_A_FILE = 50
BUNDLES = 40  # of each connection, sent again and again: each time they make other resources


async def run() -> dict[str, Any]:
    """Return resources a second, authorization and audit on."""
    with fresh_database() as url:
        raw = await copy_rate(url)
    return await asyncio.to_thread(_measure, raw)


def _measure(raw: float) -> dict[str, Any]:
    keys, token = keys_and_token()
    figures: dict[str, Any] = {"unit": "resources a second", "raw_copy": round(raw)}
    for name, requests, size, connections in (
        ("transaction", _transactions(token), RESIDENTS_IN_A_BUNDLE * 10, 16),
        ("$import", _imports(token), RESIDENTS_IN_A_FILE * 10, 4),
    ):
        with fresh_database() as url:
            found = figure(url, keys, "ours", requests, connections=connections)
        rate = found["per_second"] * size
        figures[name] = {
            "resources_in_a_request": size,
            "connections": connections,
            "ours": round(rate),
            "ratio": round(rate / raw, 2),
            "p50_ms": found["p50_ms"],
            "p99_ms": found["p99_ms"],
        }
    return figures


def _transactions(token: str) -> Sender:
    """Bundles of creates whose entries name each other by urn:uuid, made beforehand."""

    def requests(seed: int) -> Iterator[bytes]:
        made = records(10_000 + seed, 1_000_000)
        bodies = []
        for _ in range(BUNDLES):
            resources = list(itertools.chain.from_iterable(_take(made, RESIDENTS_IN_A_BUNDLE)))
            bodies.append(json.dumps(_transaction(resources)).encode())
        return itertools.cycle([request_bytes("POST", "", token, body) for body in bodies])

    return requests


def _imports(token: str) -> Sender:
    """Files of resources whose ids are new each time; the rest of them is made beforehand."""

    def requests(seed: int) -> Iterator[bytes]:
        made = records(20_000 + seed, 1_000_000)
        resources = itertools.chain.from_iterable(_take(made, RESIDENTS_IN_A_FILE))
        lines = [
            json.dumps({**one, "id": f"n{seed}-@@-{line}"}, ensure_ascii=False)
            for line, one in enumerate(resources)
        ]
        body = "\n".join(lines).encode()
        for number in itertools.count():
            own = body.replace(b"@@", b"%d" % number)
            yield request_bytes("POST", "$import", token, own, "application/fhir+ndjson")

    return requests


def _take(made: Iterator[list[dict[str, Any]]], count: int) -> list[list[dict[str, Any]]]:
    return list(itertools.islice(made, count))


def _transaction(resources: list[dict[str, Any]]) -> dict[str, Any]:
    names = {
        f"{one['resourceType']}/{one['id']}": f"urn:uuid:00000000-0000-4000-8000-{number:012d}"
        for number, one in enumerate(resources)
    }
    entries = [
        {
            "fullUrl": names[f"{one['resourceType']}/{one['id']}"],
            "resource": _renamed(one, names),
            "request": {"method": "POST", "url": one["resourceType"]},
        }
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value
