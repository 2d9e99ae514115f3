"""`qiao send` with what it cannot send, and where no answer comes."""

import asyncio
import os
import pathlib
import subprocess
import sys

import pytest

from adapters.port import Received
from adapters.transport.mllp_server import MllpServer

QIAO = [sys.executable, "-c", "from ops.cli import main; main()"]
MESSAGE = "MSH|^~\\&|Q|卫生院|HIS|H|1||ADT^A01|id-7|P|2.5.1||||||GB18030\rPID|1\r".encode("gb18030")


def send(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*QIAO, "send", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "QIAO_HOST": "127.0.0.1"},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("port", ["0", "65536", "-1"])
def test_a_port_there_is_none_of_is_refused(tmp_path: pathlib.Path, port: str) -> None:
    file = tmp_path / "a.hl7"
    file.write_bytes(MESSAGE)
    refused = send(str(file), "--port", port)
    assert refused.returncode == 2
    assert "--port" in refused.stderr


def test_a_folder_is_no_message(tmp_path: pathlib.Path) -> None:
    refused = send(str(tmp_path))
    assert refused.returncode == 2
    assert "is a directory" in refused.stderr


def answered_by(reply: bytes | None, file: pathlib.Path) -> subprocess.CompletedProcess[str]:
    async def accept(received: Received) -> bytes:
        if reply is None:
            raise OSError
        return reply

    async def run() -> subprocess.CompletedProcess[str]:
        listener = MllpServer(channel="his", accept=accept)
        await listener.start("127.0.0.1", 0)
        done = await asyncio.to_thread(send, str(file), "--port", str(listener.port))
        await listener.stop()
        return done

    return asyncio.run(run())


def test_an_answer_is_shown_in_its_charset_and_a_missing_one_says_what_to_do(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "a.hl7"
    file.write_bytes(MESSAGE)
    head = "MSH|^~\\&|H|H|Q|卫生院|||ACK|1|P|2.5.1||||||GB18030\r"
    good = answered_by(f"{head}MSA|AA|id-7\r".encode("gb18030"), file)
    assert good.returncode == 0, good.stderr
    assert "卫生院" in good.stdout
    assert not good.stderr
    doubtful = answered_by(None, file)
    assert doubtful.returncode == 1
    assert "send it again" in doubtful.stderr
