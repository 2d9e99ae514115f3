"""What tests are given: a real PostgreSQL, fresh databases, and the shared inputs."""

import asyncio
import contextlib
import functools
import importlib
import os
import pathlib
import queue
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from fhir_store.store import Store, make_pool
from ops.embedded_postgres import temporary
from ops.http_server import serving
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller
from routes.hub import Hub
from routes.limits import Limits

ROOT = pathlib.Path(__file__).resolve().parents[1]

LONG_FIRST = ("apps", "clients", "oracle", "story", "flows", "requirements", "routes", "ops")
"""Folders with long files: what many short files follow leaves no process alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders with long files first; `make test` hands out files in this order."""
    rank = {name: place for place, name in enumerate(LONG_FIRST)}
    folder = len(ROOT.parts) + 1
    items.sort(key=lambda item: rank.get(item.path.parts[folder], len(rank)))


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of inputs that others wrote; tests that need it skip where it is absent."""
    named = os.environ.get("QIAO_SHARED")
    places = [pathlib.Path(named)] if named else [p / "shared" for p in list(ROOT.parents)[:2]]
    for place in places:
        if (place / "data" / "README.md").exists():
            return place / "data"
    pytest.skip("the shared test inputs are not beside this checkout (set QIAO_SHARED)")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server to make databases on: QIAO_TEST_DATABASE_URL, or an embedded one of its own."""
    if given := os.environ.get("QIAO_TEST_DATABASE_URL"):
        yield given
        return
    with temporary("qiao-test-", durable=False) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that `database_url` copies."""
    with _database(postgres_url, "template", template=None) as (name, url):
        importlib.import_module("fhir_store.migrate").upgrade(url)
        yield name


@pytest.fixture
def fresh_database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A fresh migrated database for one test."""
    with _database(postgres_url, "test", template=template_database) as (_, url):
        yield url


@pytest.fixture
def database_url(fresh_database_url: str) -> str:
    """The database of one test; folders of tests that start whole hubs give one used before."""
    return fresh_database_url


@pytest.fixture(scope="session")
def used_template(postgres_url: str, template_database: str) -> Iterator[str]:
    """The name of a database that holds the package, as after the first start of a hub."""
    with _database(postgres_url, "used", template=template_database) as (name, url):
        with ThreadPoolExecutor(1) as apart:  # a test may have a loop in this thread
            apart.submit(lambda: asyncio.run(_load_package(url))).result()
        yield name


async def _load_package(url: str) -> None:
    lawful_store = importlib.import_module("ops.laws").lawful_store
    async with make_pool(url, size=2) as pool:
        assert await importlib.import_module("ops.package").load_package(lawful_store(pool)) > 0


@pytest.fixture
def used_database_url(postgres_url: str, used_template: str) -> Iterator[str]:
    """A database for one test on which a hub starts without having to load the package."""
    with _database(postgres_url, "test", template=used_template) as (_, url):
        yield url


@pytest.fixture
def hub_url(database_url: str) -> Iterator[str]:
    """The FHIR address of a hub in a thread of its own, for clients that block; all may do all."""
    ready: queue.Queue[int] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(database_url, ready, stop)))
    thread.start()
    try:
        yield f"http://127.0.0.1:{ready.get(timeout=30)}/fhir"
    finally:
        stop.set()
        thread.join()


async def _serve(url: str, ready: "queue.Queue[int]", stop: threading.Event) -> None:
    async with make_pool(url, size=4) as pool:
        store = Store(pool)
        rights = Authorizer(store).authorize
        hub = Hub(store=store, identify=_anybody, authorize=rights, note=lambda _: None)
        async with serving(create_app(hub), host="127.0.0.1", port=0, limits=Limits()) as port:
            ready.put(port)
            await asyncio.to_thread(stop.wait)


async def _anybody(_authorization: str | None) -> Caller:
    return ANYBODY


@contextlib.contextmanager
def _database(server: str, prefix: str, *, template: str | None) -> Iterator[tuple[str, str]]:
    """Make a database for a `with` block; gives its name and URL.

    A template's files are copied as they are where the server does not wait for its disk:
    PostgreSQL's own choice writes every page of them into its log too, which costs twice as much.
    Where it waits, the checkpoints around such a copy cost more.
    """
    name = f"qiao_{prefix}_{uuid.uuid4().hex[:12]}"
    copied = f' template "{template}" strategy {_cheapest_copy(server)}' if template else ""
    _run(server, f'create database "{name}"{copied}')
    try:
        yield name, urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        _run(server, f'drop database if exists "{name}" with (force)')


@functools.cache
def _cheapest_copy(server: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        row = connection.execute("show fsync").fetchone()
    return "file_copy" if row == ("off",) else "wal_log"


def _run(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)
