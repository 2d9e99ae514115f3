"""The loop of a worker: do something, wait for the bell, and outlive whatever goes wrong."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from ops.bell import Bell
from ops.logs import log

Step = Callable[[asyncio.Event], Awaitable[bool]]
"""One step of work; the event ends a wait. Returns whether there may be more to do at once."""

_CHANCE = random.Random()  # noqa: S311 - spreads retries, guards nothing

LONGEST_WAIT_SECONDS = 5.0
"""Between two tries while steps fail: a database that is back is noticed this soon."""


class WorkerLoop:
    """Repeats a step until it is stopped; `queue` and `names` stand in its log lines."""

    def __init__(self, bell: Bell, *, poll_seconds: float, queue: str) -> None:
        self._bell = bell
        self._poll_seconds = poll_seconds
        self._queue = queue
        self._stopping = False

    def start(self) -> None:
        """Let steps begin (again)."""
        self._stopping = False

    def stop(self) -> None:
        """Let no further step begin."""
        self._stopping = True
        self._bell.ring()

    async def run(self, step: Step, **names: str) -> None:
        """Step on and on; a failing step is tried again after ever longer waits."""
        failures = 0
        with self._bell.hearing() as rung:
            while not self._stopping:
                rung.clear()
                try:
                    is_busy = await step(rung)
                except Exception as away:  # noqa: BLE001 - a worker that ends stops its queue
                    failures += 1
                    if failures == 1:
                        told = {"reason": kind_of(away), "at": place_of(away), **names}
                        log.warning(f"{self._queue} cannot be worked on", **told)
                    seconds = min(LONGEST_WAIT_SECONDS, 0.1 * 2 ** min(failures, 6)) * jitter()
                else:
                    if failures:
                        log.warning(
                            f"{self._queue} is worked on again", after_failures=failures, **names
                        )
                        failures = 0
                    if is_busy:
                        continue
                    seconds = self._poll_seconds
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rung.wait(), seconds)


def jitter() -> float:
    """Return a factor for waits, so that those who failed together do not return together."""
    return _CHANCE.uniform(0.5, 1.5)


def kind_of(failure: Exception) -> str:
    """Return the name of its class: the text may hold a patient's value."""
    return type(failure).__name__


def place_of(failure: Exception) -> str:
    """Return file and line of the innermost frame, without any value."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    name = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{name}:{trace.tb_lineno}"
