"""What has to happen now and then in the database: audit seals, the word index, what is old."""

import asyncio
import dataclasses
import datetime
import time

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
from ops.repeating import repeat
from ops.worker_loop import kind_of, place_of

SEAL_SECONDS = 1.0
HOURLY_SECONDS = 3600.0
EVENTS_KEPT = datetime.timedelta(days=30)
"""How long events that a subscriber took can be asked for again by `$events`."""
INDEX_SECONDS = 1.0
_STEPS = 10  # batches of 200 resources between two rests, so that others have the processor too


async def keep_up(
    store: Store,
    retention: Retention,
    *,
    seal_seconds: float = SEAL_SECONDS,
    hourly_seconds: float = HOURLY_SECONDS,
) -> None:
    """Seal the audit every second; hourly log its head and let old rows go.

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
        except Exception as away:  # noqa: BLE001 - if it ended, nothing would be sealed any more
            log.warning("audit was not sealed", reason=kind_of(away), at=place_of(away))
        end_if_cancelled()


async def index_words_on(store: Store) -> None:
    """Let the word index follow the writes, for ever."""

    async def step() -> None:
        async with store.pool.connection() as connection:
            for _ in range(_STEPS):
                if not await index_words(connection):
                    break

    await repeat(step, failed="words were not indexed", rest_seconds=INDEX_SECONDS)


async def build_parameters(store: Store) -> None:
    """Register and build custom search parameters, for ever.

    Apart from words and seals, so that a parameter that cannot be built holds up neither.
    """

    async def step() -> None:
        async with store.pool.connection() as connection:
            await register_written(connection)
            await store.parameters.refresh(connection)
            for _ in range(_STEPS):
                if not await build_step(connection):
                    break

    await repeat(step, failed="search parameters were not built", rest_seconds=INDEX_SECONDS)
