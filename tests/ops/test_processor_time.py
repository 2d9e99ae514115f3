"""Processor time of other processes, as benchmarks on a shared machine measure it."""

import os
import subprocess
import sys

import psycopg

from ops.bench.grounds.processor_time import database_processes, seconds_of

_BUSY = """
import time
while time.process_time() < 0.3:
    pass
print(flush=True)
input()
"""


def test_what_a_process_has_computed_is_counted_while_it_lives() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        spent = seconds_of({process.pid})
        assert spent >= 0.25
        assert seconds_of({process.pid, os.getpid()}) > spent
        process.communicate(b"\n")
    assert seconds_of({process.pid}) == 0


def test_the_sessions_of_a_database_on_this_machine_are_its_processes(database_url: str) -> None:
    with psycopg.connect(database_url) as session:
        found = database_processes(database_url)
        is_here = session.info.host.startswith("/")
        assert (session.info.backend_pid in found) or not is_here
