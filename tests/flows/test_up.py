"""`make run`'s command, as a newcomer and an unlucky operator meet it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from adapters.province.ledger import read_ledger
from ops.console_build import ConsolePages

ROOT = pathlib.Path(__file__).resolve().parents[2]
QIAO = pathlib.Path(sys.executable).with_name("qiao")
PATIENCE = 90


@pytest.fixture
def home() -> Iterator[pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qiao-up-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home_with_pages(home: pathlib.Path) -> pathlib.Path:
    """A folder whose console was built: building it beside a start costs what the start costs.

    The first test below starts and stops without pages, while they are being built.
    """
    folder = ConsolePages(home=home).folder
    folder.mkdir(parents=True)
    (folder / "index.html").touch()
    return home


def environment(home: pathlib.Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QIAO_")}
    return kept | {"QIAO_HOME": str(home), "QIAO_HTTP_PORT": "0", "QIAO_MLLP_PORT": "0"}


@contextlib.contextmanager
def up(
    home: pathlib.Path, *options: str, killed_at: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`qiao up` in a session of its own, once it says that it is ready; gives what it printed.

    Where it has printed `killed_at`, its PostgreSQL is killed.
    """
    printed = home / "printed"
    with printed.open("w") as output:
        process = subprocess.Popen(
            [str(QIAO), "up", "--residents", "20", *options],
            cwd=ROOT, env=environment(home), stdout=output, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while "ready; Ctrl-C" not in (text := printed.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            if killed_at and killed_at in text:
                kill_postgresql(home)
                killed_at = ""
            time.sleep(0.05)
        yield process, text
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


def kill_postgresql(home: pathlib.Path) -> int:
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    postmaster = int(pid_file.read_text().split("\n", 1)[0])
    os.kill(postmaster, signal.SIGKILL)
    return postmaster


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the workers: forked, so they have their parent's command line."""
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    command = pathlib.Path("/proc", str(process.pid), "cmdline").read_bytes()
    workers = [
        int(pid)
        for pid in found.stdout.split()
        if pathlib.Path("/proc", pid, "cmdline").read_bytes() == command
    ]
    assert len(workers) == 2
    return workers


def refused_up(home: pathlib.Path, **settings: str) -> str:
    done = subprocess.run(
        [str(QIAO), "up"], env=environment(home) | settings, capture_output=True, text=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode in {1, 3}
    assert "Traceback" not in done.stderr
    return done.stderr


def is_over(pid: int) -> bool:
    try:
        return pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def get(home: pathlib.Path, path: str) -> dict:
    ports = json.loads((home / "ports.json").read_text())
    with urllib.request.urlopen(f"http://{ports['http']}{path}", timeout=10) as answer:
        return json.load(answer)


def test_a_message_travels_from_the_socket_to_the_provinces_receipt(home: pathlib.Path) -> None:
    with up(home, "--demo") as (_, printed):
        rooms = ["frame", "inbox row", "ACK", "resources", "outbox row", "SOAP call", "receipt"]
        places = [printed.index(f"  {room} ") for room in rooms]
        assert places == sorted(places)
        patient = re.search(r"(/fhir/Patient/\S+)", printed)
        assert patient
        resource = get(home, patient[1])
        number = re.search(r"registration (P\d+)", printed)
        assert number
        (entry,) = read_ledger(home / "province-ledger.jsonl")
        assert entry.registration_no == number[1]
        assert resource["name"][0]["family"] in printed
        refusal = refused_up(home)
        assert "runs in the data folder" in refusal
        assert "Next: use that one" in refusal
    assert json.loads((home / "ports.json").read_text()) == {}


def test_it_comes_back_after_kill_9_with_everything_it_had(home_with_pages: pathlib.Path) -> None:
    home = home_with_pages
    with up(home) as (process, _):
        before = get(home, "/fhir/Patient/resident-1")
        workers = workers_of(process)
        process.kill()
        process.wait()
        deadline = time.monotonic() + PATIENCE
        while not all(map(is_over, workers)):  # they end by themselves when nobody is beside them
            assert time.monotonic() < deadline
            time.sleep(0.05)
    # The start, too, survives the end of its server.
    with up(home, "--demo", killed_at="PostgreSQL is up") as (_, printed):
        assert get(home, "/fhir/Patient/resident-1") == before
        assert "synthetic district was written" not in printed
        assert "registration P" in printed


def test_a_killed_postgresql_is_started_again_under_the_hub(home_with_pages: pathlib.Path) -> None:
    home = home_with_pages
    with up(home) as (process, _):
        before = get(home, "/fhir/Patient/resident-1")
        postmaster = kill_postgresql(home)
        pid_file = home / "postgres" / "data" / "postmaster.pid"
        deadline = time.monotonic() + PATIENCE
        after = None
        while after is None:
            assert time.monotonic() < deadline
            with contextlib.suppress(urllib.error.HTTPError, OSError):
                assert get(home, "/health/ready")["status"] == "up"
                after = get(home, "/fhir/Patient/resident-1")
            time.sleep(0.2)
        assert after == before
        assert process.poll() is None
        assert int(pid_file.read_text().split("\n", 1)[0]) != postmaster
    assert not pid_file.exists()  # it is stopped with the hub, whoever started it


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_hub_that_has_lost_workers_ends(home: pathlib.Path, which: int) -> None:
    """It would keep messages and do no more with them."""
    with up(home) as (process, _):
        os.kill(sorted(workers_of(process))[which], signal.SIGKILL)
        assert process.wait(PATIENCE) == 1
    assert "ended by itself" in (home / "printed").read_text()


def test_no_hub_is_named_with_the_command_to_start_one(home: pathlib.Path) -> None:
    done = subprocess.run(
        [str(QIAO), "demo"], env=environment(home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "Next: make run" in done.stderr


def test_an_open_door_to_other_machines_is_refused(home: pathlib.Path) -> None:
    done = subprocess.run(
        [str(QIAO), "serve"],
        env=environment(home) | {"QIAO_AUTH": "off", "QIAO_HOST": "0.0.0.0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "loopback only" in done.stderr
    assert "Traceback" not in done.stderr
