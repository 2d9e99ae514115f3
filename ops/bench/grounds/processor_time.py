"""Processor time of processes on Linux: what other load on the machine cannot hide."""

import contextlib
import pathlib

import psycopg

_PROCESSES = pathlib.Path("/proc")
_HERE = ("localhost", "127.0.0.1", "::1")


def seconds_of(pids: set[int]) -> float:
    """Return the processor time of the processes so far; one that has ended counts as nothing.

    The first number of `schedstat` is that of a thread, in nanoseconds
    (https://docs.kernel.org/scheduler/sched-stats.html).
    """
    spent = 0
    for pid in pids:
        for thread in _PROCESSES.glob(f"{pid}/task/*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                spent += int(thread.read_text().split()[0])
    return spent / 1e9


def database_processes(url: str) -> set[int]:
    """Return the processes of a PostgreSQL server on this machine; none where it is elsewhere."""
    with psycopg.connect(url) as connection:
        if not (connection.info.host.startswith("/") or connection.info.host in _HERE):
            return set()
        ours = connection.info.backend_pid
        server = _parent_of(ours)
        everybody = {int(one.name) for one in _PROCESSES.iterdir() if one.name.isdigit()}
        sessions = {pid for pid in everybody if _parent_of(pid) == server}
    return sessions - {ours}


def _parent_of(pid: int) -> int:
    try:
        stat = (_PROCESSES / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])
