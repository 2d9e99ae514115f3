"""Hold a durable embedded PostgreSQL until stdin ends; print its URL and the postmaster's pid."""

import pathlib
import sys

from ops.embedded_postgres import running

with running(pathlib.Path(sys.argv[1])) as server:
    pid = (server.data / "postmaster.pid").read_text().split("\n", 1)[0]
    sys.stdout.write(f"{server.url} {pid}\n")
    sys.stdout.flush()
    sys.stdin.read()
