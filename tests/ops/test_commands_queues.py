"""`qiao inbox` and `qiao outbox` on a real database."""

import asyncio
import io
import json
import os
import pathlib
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime

import psycopg
import pytest

from fhir_store.inbox import NewEntry
from fhir_store.operations import Update, WriteContext
from fhir_store.outbox import Delivery
from fhir_store.store import Store, make_pool
from ops.cli import main
from tests.partners.kept_messages import keep_entries

QIAO = pathlib.Path(sys.executable).with_name("qiao")


@pytest.fixture
def qiao_process(database_url, tmp_path):
    """The command as an operator starts it."""

    def run(*arguments):
        program = "import sys; from ops.cli import main; sys.argv = ['qiao', *sys.argv[1:]]; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env={"QIAO_DATABASE_URL": database_url, "QIAO_HOME": str(tmp_path), "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def qiao(database_url, tmp_path, monkeypatch):
    """The same without the second that a process takes to import everything."""
    for name in [name for name in os.environ if name.startswith("QIAO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QIAO_DATABASE_URL", database_url)
    monkeypatch.setenv("QIAO_HOME", str(tmp_path))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["qiao", *map(str, arguments)])
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code or 0
        return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())

    return run


def entry(number, **more):
    return NewEntry(
        **{
            "channel": "his", "sender": "A", "facility": "B", "control_id": f"M{number}",
            "content_hash": bytes([number]), "event": "ADT^A01", "order_key": "P1^B",
            "trace_id": f"t{number}", "peer": "p", "raw": b"MSH|^~\\&|\rPID|1\r", "ack": b"ACK",
            **more,
        }
    )  # fmt: skip


def test_a_parked_entry_is_listed_shown_and_replayed(qiao_process, database_url):
    keep_entries(database_url, entry(1, state="parked"), entry(2))
    with psycopg.connect(database_url) as connection:
        connection.execute("update inbox set waits_for = 1 where id = 2")
    listed = json.loads(qiao_process("inbox", "list", "--state", "parked", "--json").stdout)
    assert [(row["id"], row["control_id"]) for row in listed] == [(1, "M1")]
    assert "M1" in qiao_process("inbox", "list").stdout
    shown = json.loads(qiao_process("inbox", "show", 1, "--json").stdout)
    assert shown["raw"].startswith("MSH|")
    done = qiao_process("inbox", "replay", 1, "--reason", "table corrected")
    assert done.returncode == 0
    assert "2 will run" in done.stdout
    shown = json.loads(qiao_process("inbox", "show", 1, "--json").stdout)
    assert shown["state"] == "received"
    assert [move["reason"] for move in shown["moves"]] == ["table corrected"]


def test_skipping_needs_a_reason_and_is_audited(qiao, database_url):
    keep_entries(database_url, entry(1, state="parked"))
    assert qiao("inbox", "skip", 1).returncode == 2
    assert qiao("inbox", "skip", 1, "--reason", " ").returncode == 1
    assert qiao("inbox", "skip", 1, "--reason", "a test message").returncode == 0
    shown = qiao("inbox", "show", 1).stdout
    assert "state: skipped" in shown
    assert "a test message" in shown


def test_the_advice_of_a_refusal_leads_on(qiao, database_url):
    keep_entries(database_url, entry(1, state="translated"))
    refused = qiao("inbox", "replay", 1)
    assert refused.returncode == 1
    assert "qiao inbox show 1" in refused.stderr
    assert qiao("inbox", "show", 1).returncode == 0
    missing = qiao("inbox", "show", 99)
    assert missing.returncode == 1
    assert "qiao inbox list" in missing.stderr
    assert qiao("inbox", "list", "--state", "nonsense").returncode == 2


@pytest.mark.parametrize(
    ("charset", "codec"), [("GB18030", "gb18030"), ("UNICODE UTF-8", "utf-8"), ("", "utf-8")]
)
def test_a_message_is_shown_in_the_charset_it_declares(qiao_process, database_url, charset, codec):
    raw = f"MSH|^~\\&|A|卫生院|||1||ADT^A01|M1|P|2.5.1||||||{charset}\rPID|1||P1||张^三\r".encode(
        codec
    )
    keep_entries(database_url, entry(1, raw=raw))
    shown = qiao_process("inbox", "show", 1).stdout
    assert "    PID|1||P1||张^三\n" in shown
    if charset:  # what is not of the charset it declares is shown as far as it goes
        keep_entries(database_url, entry(2, raw=raw + b"NTE|\xff\r"))
        assert "    NTE|\ufffd\n" in qiao_process("inbox", "show", 2).stdout


@pytest.mark.parametrize("queue", ["inbox", "outbox"])
def test_a_list_without_rows_says_so_and_what_lists_more(qiao, database_url, queue):
    assert "id" in qiao(queue, "list").stdout
    choice = "--channel" if queue == "inbox" else "--destination"
    empty = qiao(queue, "list", choice, "nobody")
    assert empty.returncode == 0
    assert f"qiao {queue} list" in empty.stderr
    assert qiao(queue, "list", choice, "nobody", "--json").stdout.strip() == "[]"
    keep_entries(database_url, entry(1))
    assert "Next" not in qiao("inbox", "list").stderr


@pytest.mark.parametrize("of", ["nonsense", "patient/1", "Patient", "Patient/"])
def test_what_is_no_reference_is_refused_with_its_form(qiao, of):
    refused = qiao("outbox", "list", "--of", of)
    assert refused.returncode == 2
    assert "Type/id" in refused.stderr
    assert qiao("outbox", "list", "--of", "Patient/1").returncode == 0


@pytest.mark.parametrize("queue", ["inbox", "outbox"])
@pytest.mark.parametrize("number", ["0", "9223372036854775808"])
def test_a_number_no_row_can_have_is_refused(qiao, queue, number):
    refused = qiao(queue, "list", "--before", number)
    assert refused.returncode == 2
    assert "--before" in refused.stderr
    assert qiao(queue, "list", "--before", "9223372036854775807").returncode == 0


def test_deliveries_are_listed_requeued_and_settled(qiao, database_url):
    async def owe():
        async with make_pool(database_url, size=2) as pool:
            store = Store(pool, choose_destinations=lambda _: [Delivery(destination="province")])
            context = WriteContext(actor="t", at=datetime.now(UTC), trace_id="t1")
            for id_ in ("1", "2"):
                resource = {"resourceType": "Patient", "id": id_}
                await store.write([Update(resource=resource)], context=context)

    asyncio.run(owe())
    with psycopg.connect(database_url) as connection:
        connection.execute("update outbox set state = 'refused' where id = 1")
        connection.execute("update outbox set state = 'unknown' where id = 2")
    rows = json.loads(qiao("outbox", "list", "--trace", "t1", "--json").stdout)
    assert [row["state"] for row in rows] == ["unknown", "refused"]
    assert qiao("outbox", "requeue", 1).returncode == 0
    assert qiao("outbox", "requeue", 2).returncode == 1
    assert qiao("outbox", "settle", 2, "--reason", "seen in their list").returncode == 0
    states = json.loads(qiao("outbox", "list", "--json").stdout)
    assert [row["state"] for row in states] == ["settled", "waiting"]
    assert "order_key: Patient/1" in qiao("outbox", "show", 1).stdout


def test_a_folder_without_a_hub_is_named_and_gets_no_database(tmp_path):
    home = tmp_path / "elsewhere"
    for command in (["inbox", "list"], ["map-held", "list"]):
        done = subprocess.run(
            [QIAO, *command], env={"QIAO_HOME": str(home), "PATH": "/usr/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3
        assert f"data folder {home} yet" in done.stderr
        assert "set QIAO_HOME" in done.stderr
        assert not home.exists()


def test_an_empty_inbox_names_what_brings_a_message(qiao):
    assert "qiao demo" in qiao("inbox", "list").stderr
    assert "lists all channels" in qiao("inbox", "list", "--state", "parked").stderr
