"""`qiao doctor` names what is missing and the fix."""

import pathlib
import socket
import tempfile
import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from conformance.problem import InvalidContent
from ops import doctor
from ops.ports_file import write_port
from ops.settings import Settings, read_settings


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        finding = doctor.look_at_http_port(Settings(http_port=taken.getsockname()[1]))
    assert not finding.ok
    assert "QIAO_HTTP_PORT" in finding.fix


def test_a_port_of_a_hub_that_runs_here_is_fine(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write_port(tmp_path, "http", f"127.0.0.1:{port}")
        assert doctor.look_at_http_port(Settings(http_port=port, home=tmp_path)).ok
        write_port(tmp_path, "http", None)
        assert not doctor.look_at_http_port(Settings(http_port=port, home=tmp_path)).ok


def test_a_data_folder_that_is_a_file_is_a_finding(tmp_path: pathlib.Path) -> None:
    home = tmp_path / "file"
    home.write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(http_port=taken.getsockname()[1], home=home)
        found = {one.name: one for one in doctor.examine(settings)}
    assert not found["Data folder"].ok
    assert not found["HTTP port"].ok
    assert "set QIAO_HOME" in found["Data folder"].fix


def test_one_port_for_both_is_named() -> None:
    finding = doctor.look_at_mllp_port(Settings(http_port=18980, mllp_port=18980))
    assert not finding.ok
    assert "QIAO_MLLP_PORT" in finding.fix


def test_an_address_of_another_machine_is_named() -> None:
    finding = doctor.look_at_http_port(Settings(host="192.0.2.1", http_port=0))
    assert not finding.ok
    assert "QIAO_HOST" in finding.fix


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


@pytest.mark.parametrize(
    ("name", "value", "shape"),
    [
        ("QIAO_DATABASE_URL", "mysql://user:secret@host/x", "postgresql://"),
        ("QIAO_DATABASE_URL", "nonsense", "postgresql://"),
        ("QIAO_AMQP_URL", "amqp://user:secret@host:port/", "amqp://"),
        ("QIAO_AMQP_URL", "http://user:secret@host/", "amqp://"),
        ("QIAO_HTTP_PORT", "99999", "65535"),
    ],
)
def test_an_address_that_is_none_is_named_without_its_password(
    name: str, value: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidContent) as refused:
        read_settings()
    (issue,) = refused.value.issues
    assert name in issue.text_en
    assert shape in issue.text_en
    assert name in issue.fix_en
    assert "secret" not in issue.text_en + issue.fix_en


def test_a_data_folder_that_cannot_be_one_is_named_with_its_setting(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "file").touch()
    settings = Settings(home=tmp_path / "file")
    for finding in (doctor.look_at_disk(settings), doctor.look_at_database(settings)):
        assert not finding.ok
        assert "cannot be written" in finding.seen
    assert "QIAO_HOME" in doctor.look_at_disk(settings).fix


def test_a_role_that_may_not_create_tables_is_told_what_its_owner_must_grant(
    postgres_url: str,
) -> None:
    name = f"qiao_rights_{uuid.uuid4().hex[:8]}"
    parts = urlsplit(postgres_url)
    own = urlunsplit(parts._replace(path=f"/{name}"))
    host = f":{parts.port}" if parts.port else ""
    plain = own.replace(parts.netloc, f"{name}@{parts.hostname or ''}{host}", 1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"CREATE DATABASE {name}")
        try:
            finding = doctor.look_at_database(Settings(database_url=plain))
            assert not finding.ok
            grant = f"GRANT CREATE ON SCHEMA public TO {name}"
            assert grant in finding.fix
            with psycopg.connect(own, autocommit=True) as owner:
                owner.execute(grant)
            assert "GRANT" not in doctor.look_at_database(Settings(database_url=plain)).fix
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP ROLE {name}")


def test_everything_is_looked_at_and_every_miss_has_a_fix(postgres_url: str) -> None:
    settings = Settings(
        database_url=postgres_url, http_port=0, mllp_port=0, amqp_url="amqp://127.0.0.1:1"
    )
    findings = list(doctor.examine(settings))
    assert len(findings) == 8
    assert all(finding.fix for finding in findings if not finding.ok)
