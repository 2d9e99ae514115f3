"""`qiao simulate province` serves until it is told to stop."""

import asyncio
import importlib.resources
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from adapters.notify.notice_text import NoticeText
from adapters.notify.sms import SmsAccount, SmsSender
from adapters.notify.wechat import WechatSender
from adapters.notify.wechat_api import WechatAccount
from adapters.port import Outgoing, Receipt, Verdict
from adapters.province.client import Account, ProvinceSender
from adapters.province.ledger import read_ledger
from ops.ports_file import province_key, read_ports, write_port

QIAO = [sys.executable, "-c", "from ops.cli import main; main()"]


def test_the_command_writes_its_address_registers_and_takes_its_address_back(
    tmp_path: pathlib.Path,
) -> None:
    environment = {**os.environ, "QIAO_HOME": str(tmp_path)}
    command = [*QIAO, "simulate", "province", "--seed", "3", "--faults", "twice=1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        while "province" not in read_ports(tmp_path):
            assert process.poll() is None
            time.sleep(0.05)
        receipt = asyncio.run(send_one(read_ports(tmp_path)["province"], province_key(tmp_path)))
        assert receipt.verdict is Verdict.ACCEPTED
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "twice 1" in output
    assert read_ports(tmp_path) == {}
    [entry] = read_ledger(tmp_path / "province-ledger.jsonl")
    assert entry.msg_id == "m-1"


async def send_one(endpoint: str, key: bytes) -> Receipt:
    document = importlib.resources.files("adapters.province").joinpath("resident_registration.xml")
    account = Account(endpoint=endpoint, key=key, org_code="H", org_name="医院")
    sender = ProvinceSender(account=account)
    try:
        return await sender.send(Outgoing(key="m-1", payload=document.read_bytes()))
    finally:
        await sender.close()


@pytest.mark.parametrize("name", ["sms", "wechat"])
def test_a_simulated_channel_serves_what_it_prints_keeps_a_ledger_and_stops(
    name: str, tmp_path: pathlib.Path
) -> None:
    environment = {**os.environ, "QIAO_HOME": str(tmp_path)}
    command = [*QIAO, "simulate", name, "--seed", "3"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        told = {line[:10].strip(): line[10:].strip() for line in lines}
        assert read_ports(tmp_path) == {name: told[name]}
        assert asyncio.run(notify(name, told)).verdict is Verdict.ACCEPTED
        wrong = {**told, "secret key": "x", "secret": "x"}
        assert asyncio.run(notify(name, wrong)).verdict is not Verdict.ACCEPTED
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert read_ports(tmp_path) == {}
    entries = pathlib.Path(told["ledger"]).read_text("utf-8").splitlines()
    assert len(entries) == 1, "what was not signed with its key was not taken"
    assert "person-1" in entries[0] or "13800000000" in entries[0]


async def notify(name: str, told: dict[str, str]) -> Receipt:
    """Send one notice through the real client, with the address and keys that were printed."""
    if name == "sms":
        account = SmsAccount(
            endpoint=told["sms"],
            secret_id=told["secret id"],
            secret_key=told["secret key"],
            app_id="1400",
            sign_name="桥南社区",
        )
        sender: SmsSender | WechatSender = SmsSender(account)
        notice = NoticeText(to="13800000000", template="1001", parameters=("王秀英",))
    else:
        app = WechatAccount(endpoint=told["wechat"], app_id=told["app id"], secret=told["secret"])
        sender = WechatSender(app)
        notice = NoticeText(to="person-1", template="t-1", parameters=("协议即将到期",))
    try:
        return await sender.send(Outgoing(key="n-1", payload=notice.to_bytes()))
    finally:
        await sender.close()


@pytest.mark.parametrize("name", ["sms", "wechat"])
def test_a_mood_that_does_not_exist_is_named_with_those_that_do(
    name: str, tmp_path: pathlib.Path
) -> None:
    environment = {**os.environ, "QIAO_HOME": str(tmp_path), "COLUMNS": "300"}
    command = [*QIAO, "simulate", name, "--moods", "sulk=1"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "no mood sulk; there are" in found.stderr


def test_a_fault_that_does_not_exist_is_named_with_those_that_do(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "QIAO_HOME": str(tmp_path), "COLUMNS": "300"}
    command = [*QIAO, "simulate", "province", "--faults", "sulk=1"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "no fault 'sulk'; there are delay, timeout" in found.stderr


def test_ports_are_set_and_taken_out_by_name(tmp_path: pathlib.Path) -> None:
    write_port(tmp_path, "province", "http://a")
    write_port(tmp_path, "mllp", "b")
    write_port(tmp_path, "province", None)
    assert read_ports(tmp_path) == {"mllp": "b"}
    assert province_key(tmp_path) == province_key(tmp_path)
    assert (tmp_path / "province.key").stat().st_mode & 0o077 == 0
