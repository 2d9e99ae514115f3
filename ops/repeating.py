"""Steps that are repeated as long as the hub runs, and the end of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from fhir_store.cancellation import end_if_cancelled
from ops.logs import log
from ops.worker_loop import LONGEST_WAIT_SECONDS, jitter, kind_of, place_of

Step = Callable[[], Awaitable[object]]
"""One bounded step of work; what it returns is true where there may be more to do at once."""


async def repeat(step: Step, *, failed: str, rest_seconds: float) -> None:
    """Step until cancelled; rest where there is nothing more to do.

    A step that fails is logged as `failed` and done again, after ever longer rests.
    """
    failures = 0
    while True:
        has_more = False
        try:
            has_more = bool(await step())
            failures = 0
        except Exception as away:  # noqa: BLE001 - one that ended would be missed by nobody
            failures += 1
            log.warning(failed, reason=kind_of(away), at=place_of(away))
        end_if_cancelled()
        if not has_more:
            longer = min(LONGEST_WAIT_SECONDS, 0.1 * 2 ** min(failures, 6)) if failures else 0.0
            await asyncio.sleep(max(rest_seconds, longer * jitter()))


@contextlib.asynccontextmanager
async def alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let work run beside the block; when the block ends it is cancelled, and has ended."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
