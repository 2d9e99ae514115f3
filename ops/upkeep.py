"""What has to happen now and then in the database: audit seals, the word index, what is old."""

import asyncio
import dataclasses
import datetime
import time
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from fhir_store.audit import Seal, seal
from fhir_store.cancellation import end_if_cancelled
from fhir_store.custom_parameters import build_step, register_written
from fhir_store.idempotency import prune_replies
from fhir_store.retention import LetGo, Retention, let_go
from fhir_store.rights_changes import prune_rights_changes
from fhir_store.search.text_index import index_words
from fhir_store.store import Store
from fhir_store.subscriptions import prune_events
from ops.logs import log

SEAL_SECONDS = 1.0
HOURLY_SECONDS = 3600.0
EVENTS_KEPT = datetime.timedelta(days=30)
"""How long events that a subscriber took can be asked for again by `$events`."""
_STEPS = 10  # batches of 200 resources between two seals


async def keep_up(
    store: Store,
    retention: Retention,
    *,
    seal_seconds: float = SEAL_SECONDS,
    hourly_seconds: float = HOURLY_SECONDS,
) -> None:
    """Seal the audit and index new words every second; hourly log its head, let old rows go.

    The head in the log lies outside the database: `qiao audit verify --head` compares with it.
    Several processes may do this; one of them seals at a time.
    """
    head: Seal | None = None
    due = time.monotonic() + hourly_seconds
    while True:
        await asyncio.sleep(seal_seconds)
        try:
            async with store.pool.connection() as connection:
                while (sealed := await seal(connection)) is not None:
                    head = sealed
                await _index(store, connection)
                await prune_rights_changes(connection)
                if time.monotonic() >= due:
                    due = time.monotonic() + hourly_seconds
                    await prune_replies(connection)
                    await prune_events(connection, older=EVENTS_KEPT)
                    gone = await let_go(connection, retention)
                    if gone is not None and gone != LetGo():
                        log.info("queues let go", **dataclasses.asdict(gone))
                    if head is not None:
                        log.info("audit head", number=head.number, hash=head.hash.hex())
        except (psycopg.Error, PoolTimeout, OSError) as away:
            log.warning("audit was not sealed", reason=type(away).__name__)
        end_if_cancelled()


async def _index(store: Store, connection: AsyncConnection[Any]) -> None:
    """Bring the word index and custom search parameters on, for a bounded while."""
    for _ in range(_STEPS):
        if not await index_words(connection):
            break
    await register_written(connection)
    await store.parameters.refresh(connection)
    for _ in range(_STEPS):
        if not await build_step(connection):
            break
