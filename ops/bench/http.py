"""FHIR over HTTP with authorization and audit on, against bare Starlette with one select each.

Three processes: the server, the load (16 connections, requests made beforehand) and PostgreSQL.
"""

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import random
import statistics
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import uvicorn
import uvloop
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from care.fulfilment.schedule import tasks_for
from fhir_store.audit import AccessLog
from fhir_store.door import choose_none
from fhir_store.operations import Update, WriteContext, Written
from fhir_store.outbox import Delivery
from fhir_store.store import make_pool
from ops.bench.grounds.database import fresh_database
from ops.bench.grounds.http_load import Sender, all_paced, load
from ops.demo.synthetic_records import records
from ops.garbage import collect_less_often
from ops.laws import lawful_store
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import TokenVerifier
from routes.hub import Hub
from routes.limits import Limits
from routes.operations.bulk_import import import_operation
from routes.operations.contract_writing import Following
from routes.operations.contracts import ContractOperations
from routes.receive_deadline import deadline_protocol

ROUNDS = 5
CONNECTIONS = 16
RESIDENTS = 300
ISSUER, AUDIENCE = "https://login.example", "https://hub.example/fhir"
SELECT = "SELECT body FROM bench_body WHERE id = %s"


async def run() -> dict[str, Any]:
    """Return requests a second and milliseconds of each kind of load."""
    keys, token = keys_and_token()
    loop = asyncio.get_running_loop()
    with fresh_database() as url:
        residents = await _fill(url)
        return await loop.run_in_executor(None, _measure, url, keys, token, residents)


def _measure(url: str, keys: Any, token: str, residents: list[str]) -> dict[str, Any]:
    reads = _requests_of_reads(residents, token)
    ours, bare = in_turns(url, {"ours": reads, "bare": reads}, keys)
    return {
        "connections": CONNECTIONS,
        "read": {**ours, "raw_starlette_select": bare, "ratio": ratio(ours, bare)},
        "create": figure(url, keys, "ours", _requests_of_creates(token)),
        "mixed_crud": figure(url, keys, "ours", _requests_of_crud(token)),
    }


def ratio(ours: Mapping[str, Any], bare: Mapping[str, Any]) -> float:
    """Return the middle of the rounds' ratios, each of two neighbouring measurements."""
    pairs = zip(ours["rounds"], bare["rounds"], strict=True)
    return round(float(statistics.median(one / other for one, other in pairs)), 2)


def keys_and_token() -> tuple[Any, str]:
    """Return a JWKS and the token of a caller who may do everything, signed by it."""
    key = RSAKey.generate_key(2048, parameters={"kid": "bench"})
    token = jwt.encode({"alg": "RS256", "kid": "bench"}, _claims(), key)
    return KeySet([key]).as_dict(private=False), token


def _claims() -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "bench",
        "client_id": "bench",
        "exp": int(time.time()) + 3600,
        "scope": "system/*.cruds",
    }


async def _fill(url: str) -> list[str]:
    """Write the residents' records; return the references of all resources."""
    written: list[str] = []
    async with make_pool(url, size=2) as pool:
        store = lawful_store(pool)
        context = WriteContext(actor="bench", at=datetime.now(UTC), deliveries=False)
        for record in records(1, RESIDENTS):
            await store.write([Update(resource=one) for one in record], context=context)
            written += [f"{one['resourceType']}/{one['id']}" for one in record]
        async with pool.connection() as connection:
            await connection.execute(
                "CREATE TABLE bench_body AS SELECT t.name || '/' || r.fid AS id, r.body"
                " FROM resource r JOIN rtype t ON t.tid = r.tid"
            )
            await connection.execute("ALTER TABLE bench_body ADD PRIMARY KEY (id)")
            await connection.execute("VACUUM ANALYZE bench_body")
    return written


def figure(
    url: str, keys: Any, kind: str, requests: Sender, *, connections: int = CONNECTIONS
) -> dict[str, Any]:
    """Return requests a second, milliseconds, and the server's processor time for a request.

    Kind is "ours", "bare" for the raw limit, or "contracts": ours, owing each to a partner.
    """
    return in_turns(url, {kind: requests}, keys, connections=connections)[0]


def in_turns(
    url: str,
    loads: Mapping[str, Sender],
    keys: Any,
    *,
    connections: int = CONNECTIONS,
    paces: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """Return `figure` of each kind, measured in turns: other work on the machine meets all alike.

    For each of `paces` (requests a second) the first one has the times where so many arrive,
    whoever waits, too.
    """
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_server(url, keys, kind)) for kind in loads]
        measured: list[list[_Round]] = [[] for _ in servers]
        for number in range(ROUNDS + 1):
            for rounds, server, requests in zip(measured, servers, loads.values(), strict=True):
                rounds.append(_round(server, requests, number, connections))
        found = [_middle(rounds[1:]) for rounds in measured]  # the first one warms up
        if paces:
            requests = next(iter(loads.values()))
            found[0]["paced"] = all_paced(servers[0].port, requests, paces)
        return found


@dataclass(frozen=True, slots=True)
class _Server:
    """A server in a process of its own; `pipe` tells its processor time when asked."""

    port: int
    pipe: Any

    def processor_seconds(self) -> float:
        self.pipe.send("time")
        return float(self.pipe.recv())


@contextlib.contextmanager
def _server(url: str, keys: Any, kind: str) -> Iterator[_Server]:
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(url, keys, kind, far), daemon=True)
    process.start()
    try:
        yield _Server(near.recv(), near)
    finally:
        near.send("stop")
        process.join(20)
        process.kill()


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round gave: requests a second, seconds of each, processor seconds of each."""

    rate: float
    times: list[float]
    processor: float


def _round(server: _Server, requests: Sender, number: int, connections: int) -> _Round:
    used = server.processor_seconds()
    rate, times = uvloop.run(load(server.port, requests, number, connections))
    return _Round(rate, times, (server.processor_seconds() - used) / len(times))


def _middle(rounds: list[_Round]) -> dict[str, Any]:
    rates = [one.rate for one in rounds]
    times = sorted(itertools.chain.from_iterable(one.times for one in rounds))
    return {
        "per_second": round(statistics.median(rates), 1),
        "p50_ms": round(times[len(times) // 2] * 1e3, 2),
        "p99_ms": round(times[len(times) * 99 // 100] * 1e3, 2),
        "server_us": round(statistics.median(one.processor for one in rounds) * 1e6, 1),
        "rounds": [round(rate, 1) for rate in rates],
    }


def _requests_of_reads(residents: list[str], token: str) -> Sender:
    def requests(seed: int) -> Iterator[bytes]:
        chosen = random.Random(seed)  # noqa: S311  nothing secret hangs on it
        made = [request_bytes("GET", one, token) for one in chosen.sample(residents, 500)]
        return itertools.cycle(made)

    return requests


def _requests_of_creates(token: str) -> Sender:
    def requests(seed: int) -> Iterator[bytes]:
        for record in records(1_000 + seed, 1_000_000):
            for one in record:
                yield request_bytes("POST", one["resourceType"], token, json.dumps(one).encode())

    return requests


def _requests_of_crud(token: str) -> Sender:
    """Create, read, update, read, delete: each resource goes through its whole life."""

    def requests(seed: int) -> Iterator[bytes]:
        numbers = itertools.count()
        for record in records(5_000 + seed, 1_000_000):
            for one in record:
                id_ = f"b{seed}-{next(numbers)}"
                path = f"{one['resourceType']}/{id_}"
                first = {**one, "id": id_}
                changed = {**first, "language": "zh"}
                yield request_bytes("PUT", path, token, json.dumps(first).encode())
                yield request_bytes("GET", path, token)
                yield request_bytes("PUT", path, token, json.dumps(changed).encode())
                yield request_bytes("GET", path, token)
                yield request_bytes("DELETE", path, token)

    return requests


def request_bytes(
    method: str, path: str, token: str, body: bytes = b"", kind: str = "application/fhir+json"
) -> bytes:
    """Return a whole HTTP request; `path` is below /fhir/, a query in it is encoded already."""
    head = (
        f"{method} /fhir/{urllib.parse.quote(path, safe='/?&=%+')} HTTP/1.1\r\nHost: bench\r\n"
        f"Authorization: Bearer {token}\r\n"
    )
    if body:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _serve(url: str, keys: Any, kind: str, pipe: Connection) -> None:
    collect_less_often()
    uvloop.run(_serving(url, keys, kind, pipe))


async def _serving(url: str, keys: Any, kind: str, pipe: Connection) -> None:
    opened = _bare(url) if kind == "bare" else _ours(url, keys, owes=kind == "contracts")
    async with opened as (app, protocol):
        config = uvicorn.Config(
            app,
            http=protocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            port=0,
        )
        listener = config.bind_socket()
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        pipe.send(listener.getsockname()[1])
        while await asyncio.get_running_loop().run_in_executor(None, pipe.recv) != "stop":
            pipe.send(time.process_time())
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _ours(url: str, keys: Any, *, owes: bool = False) -> AsyncIterator[tuple[ASGIApp, Any]]:
    async def fetch() -> Mapping[str, Any]:
        return dict(keys)

    verifier = TokenVerifier(issuer=ISSUER, audience=AUDIENCE, fetch_jwks=fetch)
    async with make_pool(url, size=8) as pool, AccessLog(pool).running() as accesses:
        store = lawful_store(pool, choose_destinations=_one_delivery if owes else choose_none)
        hub = Hub(
            store=store,
            identify=verifier.caller_of,
            authorize=Authorizer(store).authorize,
            note=accesses.note,
        )
        contracts = ContractOperations(following=Following(store.searcher, tasks_for=tasks_for))
        operations = (import_operation(), *contracts.promises())
        yield create_app(hub, operations=operations), deadline_protocol(Limits())


def _one_delivery(written: Written) -> Sequence[Delivery]:
    """Owe a partner every contract, as a province is owed them."""
    return (Delivery(destination="bench"),) if written.version.type == "Contract" else ()


@contextlib.asynccontextmanager
async def _bare(url: str) -> AsyncIterator[tuple[ASGIApp, Any]]:
    async with AsyncConnectionPool(url, min_size=8, max_size=8, open=False) as pool:

        async def read(request: Request) -> Response:
            async with pool.connection() as connection:
                cursor = await connection.execute(SELECT, [request.path_params["id"]])
                row = await cursor.fetchone()
            return Response(row[0] if row else b"", media_type="application/fhir+json")

        yield Starlette(routes=[Route("/fhir/{id:path}", read)]), "httptools"
