"""A hub on a fresh database, served over a real socket, and a client for it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from serving import served

from fhir_store.audit import Access
from fhir_store.store import Store, make_pool
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller
from routes.hub import Hub
from routes.limits import Limits
from routes.receive_deadline import deadline_protocol

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def anybody(_authorization: str | None) -> Caller:
    return ANYBODY


@pytest.fixture
def notes() -> list[Access]:
    """The accesses that the hub of this test has noted for the audit."""
    return []


@pytest.fixture
def serve(database_url: str, notes: list[Access]) -> Serve:
    """A function for `async with`: a client of a hub on this test's database."""

    @asynccontextmanager
    async def hub_served(**choices: Any) -> AsyncIterator[httpx.AsyncClient]:
        limits = choices.pop("limits", Limits())
        operations = choices.pop("operations", ())
        async with make_pool(database_url, size=8) as pool:
            store = Store(pool)
            usual = Hub(
                store=store,
                identify=anybody,
                authorize=Authorizer(store).authorize,
                note=notes.append,
                limits=limits,
            )
            hub = replace(usual, **choices)
            async with (
                served(
                    create_app(hub, operations=operations),
                    deadline_protocol(limits),
                    timeout_keep_alive=limits.idle_seconds,
                ) as port,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/fhir", timeout=30) as client,
            ):
                yield client

    return hub_served
