"""`qiao map-held`: a held code is listed and resolved from the command line."""

import json

import psycopg
import pytest
from typer.testing import CliRunner

from conformance.problem import InvalidContent
from ops.commands.inbox import app as inbox
from ops.commands.map_held import app
from tests.partners.kept_messages import keep_messages


@pytest.fixture
def qiao(database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("QIAO_DATABASE_URL", database_url)
    monkeypatch.setenv("QIAO_HOME", str(tmp_path))
    return CliRunner()


def _states(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute("select control_id, state from inbox").fetchall())


def test_a_resolved_code_opens_the_messages_that_wait_for_nothing_else(qiao, database_url):
    keep_messages(database_url, "?", "!", "?")
    codes = json.loads(qiao.invoke(app, ["list", "--json"]).stdout)
    assert [(one["table"], one["code"]) for one in codes] == [
        ("AdministrativeSex", "?"), ("AdministrativeSex", "!"),
    ]  # fmt: skip
    assert [one["control_id"] for one in codes[0]["messages"]] == ["M1", "M3"]
    assert "unknown" in [one["code"] for one in codes[0]["targets"]]
    assert "AdministrativeSex" in qiao.invoke(app, ["list"]).stdout

    done = qiao.invoke(
        app, ["resolve", "his", "AdministrativeSex", "?", "unknown", "--reason", "asked the ward"]
    )
    assert done.exit_code == 0, done.output
    assert "2 messages are open again" in done.stdout
    # The message that another code holds stays where it is.
    assert _states(database_url) == {"M1": "received", "M2": "held", "M3": "received"}
    assert [one["code"] for one in json.loads(qiao.invoke(app, ["list", "--json"]).stdout)] == ["!"]
    with psycopg.connect(database_url) as connection:
        (row,) = connection.execute(
            "select channel, table_name, code, target, reason, actor from code_overlay"
        ).fetchall()
    assert row[:5] == ("his", "AdministrativeSex", "?", "unknown", "asked the ward")
    assert row[5].startswith("cli:")
    shown = json.loads(qiao.invoke(inbox, ["show", "1", "--json"]).stdout)
    (move,) = shown["moves"]
    assert move["reason"] == "AdministrativeSex: ? = unknown. asked the ward"
    assert move["actor"].startswith("cli:")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (("nobody", "AdministrativeSex", "?", "unknown"), "channel 'nobody'"),
        (("his", "Nothing", "?", "unknown"), "table 'Nothing'"),
        (("his", "AdministrativeSex", "?", "divers"), "target 'divers'"),
    ],
)
def test_what_the_queue_does_not_name_is_refused_and_opens_nothing(
    qiao, database_url, given, wrong
):
    keep_messages(database_url, "?")
    refused = qiao.invoke(app, ["resolve", *given])
    assert isinstance(refused.exception, InvalidContent)
    (issue,) = refused.exception.issues
    assert wrong in issue.text_en
    assert _states(database_url) == {"M1": "held"}
    # The advice names what there is.
    if given[3] == "divers":
        assert "female, male" in issue.fix_en


def test_nothing_held_is_an_empty_list(qiao, database_url):
    assert json.loads(qiao.invoke(app, ["list", "--json"]).stdout) == []
