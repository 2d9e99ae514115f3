"""`qiao doctor` names what is missing and the fix."""

import pathlib
import socket
import tempfile

from ops import doctor
from ops.settings import Settings


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finding = doctor.look_at_http_port(Settings(http_port=taken.getsockname()[1]))
    assert not finding.ok
    assert "QIAO_HTTP_PORT" in finding.fix


def test_a_free_port_is_fine() -> None:
    assert doctor.look_at_mllp_port(Settings(mllp_port=0)).ok


def test_the_embedded_server_is_good_enough() -> None:
    with tempfile.TemporaryDirectory(prefix="qiao-doctor-") as folder:
        pathlib.Path(folder).chmod(0o711)
        finding = doctor.look_at_database(Settings(home=pathlib.Path(folder)))
    assert finding.ok, finding
    assert finding.seen.startswith("18.")


def test_a_server_that_would_lose_commits_is_refused(postgres_url: str) -> None:
    """The tests' own embedded server runs with fsync off; doctor must say so."""
    finding = doctor.look_at_database(Settings(database_url=postgres_url))
    if "fsync" in finding.seen:
        assert not finding.ok
    else:  # a real server was given for the tests
        assert finding.ok


def test_an_unreachable_server_is_named_with_its_setting() -> None:
    finding = doctor.look_at_database(Settings(database_url="postgresql://127.0.0.1:1/none"))
    assert not finding.ok
    assert "QIAO_DATABASE_URL" in finding.fix


def test_everything_is_looked_at_and_every_miss_has_a_fix(postgres_url: str) -> None:
    settings = Settings(
        database_url=postgres_url, http_port=0, mllp_port=0, amqp_url="amqp://127.0.0.1:1"
    )
    findings = list(doctor.examine(settings))
    assert len(findings) == 8
    assert all(finding.fix for finding in findings if not finding.ok)
