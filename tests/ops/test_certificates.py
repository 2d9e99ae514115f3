"""MLLP over TLS as it is set and as `qiao send` speaks it."""

import asyncio
import os
import pathlib
import subprocess
import sys

import pytest
from certificates import SERVER, issue

from adapters.port import Received
from adapters.transport.hl7_header import control_id_of
from adapters.transport.mllp_server import MllpServer
from conformance.problem import InvalidContent
from ops.certificates import mllp_listener_tls, province_tls
from ops.settings import Settings

QIAO = [sys.executable, "-c", "from ops.cli import main; main()"]
MESSAGE = b"MSH|^~\\&|Q|Q|HIS|H|20260102||ADT^A01|id-7|P|2.5.1\rPID|1\r"


async def accept(received: Received) -> bytes:
    control_id = control_id_of(received.payload)
    return f"MSH|^~\\&|H|H|Q|Q|||ACK|1|P|2.5.1\rMSA|AA|{control_id}\r".encode()


def test_send_is_served_with_its_certificate_and_turned_away_without(
    tmp_path: pathlib.Path,
) -> None:
    authority = issue(tmp_path, "authority", is_authority=True)
    server = issue(tmp_path, "server", issuer=authority, usage=SERVER)
    client = issue(tmp_path, "client", issuer=authority)
    settings = Settings(
        mllp_certificate=server.certificate_file,
        mllp_key=server.key_file,
        mllp_client_authorities=authority.certificate_file,
    )
    file = tmp_path / "a.hl7"
    file.write_bytes(MESSAGE)

    async def send(port: int, *options: str) -> subprocess.CompletedProcess[str]:
        command = [*QIAO, "send", str(file), "--port", str(port), *options]
        environment = {**os.environ, "QIAO_HOST": "127.0.0.1"}
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=environment, timeout=60
        )

    async def scenario() -> None:
        listener = MllpServer(channel="his", accept=accept, tls=mllp_listener_tls(settings))
        await listener.start("127.0.0.1", 0)
        trust = ["--authorities", str(authority.certificate_file)]
        ours = ["--certificate", str(client.certificate_file), "--key", str(client.key_file)]
        good = await send(listener.port, *trust, *ours)
        assert good.returncode == 0, good.stderr
        assert "accepted AA" in good.stdout
        assert (await send(listener.port, *trust)).returncode == 1
        assert (await send(listener.port)).returncode == 1
        assert listener.counts["frames"] == 1
        await listener.stop()

    asyncio.run(scenario())


def test_without_a_certificate_mllp_speaks_plainly() -> None:
    assert mllp_listener_tls(Settings()) is None
    assert province_tls(Settings()) is None


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_file_that_cannot_be_used_is_named_by_its_setting(
    content: str | None, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "a.pem"
    if content is not None:
        file.write_text(content)
    for settings, name in (
        (Settings(mllp_certificate=file, mllp_key=file), "QIAO_MLLP_CERTIFICATE"),
        (Settings(mllp_certificate=file), "QIAO_MLLP_KEY"),
    ):
        with pytest.raises(InvalidContent, match=name):
            mllp_listener_tls(settings)
    with pytest.raises(InvalidContent, match="QIAO_PROVINCE_AUTHORITIES"):
        province_tls(Settings(province_authorities=file))
