"""A store on a fresh database, and short ways to write test resources."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from fhir_store.operations import WriteContext
from fhir_store.store import Store, make_pool

OpenStore = Callable[..., "asynccontextmanager[Store]"]


@pytest.fixture
def open_store(database_url: str) -> Callable[..., object]:
    """A function for `async with`: a store on this test's database."""

    @asynccontextmanager
    async def opened(**choices: object) -> AsyncIterator[Store]:
        size = choices.pop("size", 8)
        async with make_pool(database_url, size=size) as pool:
            yield Store(pool, **choices)

    return opened


@pytest.fixture
def context() -> WriteContext:
    """Somebody who writes now."""
    return WriteContext(actor="Practitioner/test", at=datetime.now(UTC), trace_id="trace-1")
