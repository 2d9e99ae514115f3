"""A cancellation that was lost on its way must still end a loop.

On Python 3.11 `asyncio.wait_for` prefers a result that is ready
(https://github.com/python/cpython/issues/86296), and a statement that is cut off may answer with
the database's own error. Who bears errors and goes on asks here before going on.
"""

import asyncio


def end_if_cancelled() -> None:
    """Raise CancelledError where the running task has been told to end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
