"""Channels are declared in YAML and refused whole when one is wrong."""

import pathlib

import pytest

from mappings.channels.loader import load_channels
from mappings.channels.profile import NATIONAL_ID
from mappings.engine.library import load
from mappings.engine.rows import FaultyMaps
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

CHANNEL = """
channel: his-a
transport: {kind: mllp, port: 2601, senders: ["HIS^H1"]}
charset: gb18030
zone: Asia/Urumqi
order: [PID-3]
acknowledge: applied
answers: {retry_on: [AR], give_up_on: [AE]}
reused_id: hold
authorities: {H1: "https://h1.example/mrn"}
identifier_types: {NI: "urn:oid:2.16.156.10011.1.3"}
codes: {AdministrativeSex: {"1": male, "2": female}}
events: {"ADT^A99": "ADT^A08"}
destinations: [province]
limits: {max_bytes: 1048576}
"""


def test_a_channel_is_read_and_used(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text(CHANNEL, encoding="utf-8")
    channel = load_channels(tmp_path)["his-a"]
    assert channel.port == 2601
    assert channel.acknowledge == "applied"
    assert channel.retry_on == ("AR", "CE")
    assert channel.give_up_on == ("AE", "CR")
    assert channel.max_bytes == 1048576
    message = (
        "MSH|^~\\&|HIS|H1|HUB|Q|1||ADT^A99|1|P|2.5\r"
        "PID|1||7^^^H1^MR~999001199001011239^^^^NI||李^雷||199001010830|2\r"
    ).encode("gb18030")
    result = Translator(load()).translate(message, channel)
    assert isinstance(result, TranslatedMessage)
    patient = next(made for made in result.resources if made.type == "Patient")
    assert patient.identity[0] == ("https://h1.example/mrn", "7")
    assert patient.identity[1] == (NATIONAL_ID, "999001199001011239")
    assert patient.resource["gender"] == "female"
    born = patient.resource["_birthDate"]["extension"][0]["valueDateTime"]
    assert born == "1990-01-01T08:30:00+06:00"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("channel: his-a", "chanel: his-a", "unknown key"),
        ("gb18030", "klingon", "charset"),
        ("Asia/Urumqi", "Mars/Base", "zone"),
        ("[PID-3]", "[PID3]", "order"),
        ("applied", "maybe", "acknowledge"),
        ("[AR]", "[XX]", "retry_on"),
        ("[AR]", "[AE]", "two meanings"),
        ("2601", "0", "port"),
        ("1048576", "1", "max_bytes"),
        ("{H1:", "H1 #{", "authorities"),
        ("[PID-3]", "PID-3", "row order: is no list"),
        ("port: 2601", "port: true", "port: is not a number"),
        ("Asia/Urumqi", "Asia", "zone"),
        ("channel:", "zone: UTC\nchannel:", "stands twice"),
        (
            "{AdministrativeSex: {",
            "{AdministrativeSex: x, B: {",
            "no mapping for 'AdministrativeSex'",
        ),
    ],
)
def test_a_wrong_channel_is_refused_with_its_key(
    tmp_path: pathlib.Path, old: str, new: str, says: str
) -> None:
    (tmp_path / "a.yaml").write_text(CHANNEL.replace(old, new), encoding="utf-8")
    with pytest.raises(FaultyMaps) as refused:
        load_channels(tmp_path)
    assert says in str(refused.value)
    assert "a.yaml:" in str(refused.value)


def test_two_channels_share_neither_name_nor_port(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text(CHANNEL, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(CHANNEL, encoding="utf-8")
    with pytest.raises(FaultyMaps) as refused:
        load_channels(tmp_path)
    assert "declared twice" in str(refused.value)
    assert "takes port 2601" in str(refused.value)


def test_a_file_that_cannot_be_read_is_a_fault_with_its_line(tmp_path: pathlib.Path) -> None:
    """An editor in a Chinese Windows saves GBK."""
    (tmp_path / "a.yaml").write_bytes(f"# ok\n# 内科\n{CHANNEL}".encode("gb18030"))
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "c.yaml").write_text("- channel: c\n", encoding="utf-8")
    with pytest.raises(FaultyMaps) as refused:
        load_channels(tmp_path)
    found = [str(fault) for fault in refused.value.faults]
    assert "a.yaml:2" in found[0]
    assert "Save the file as UTF-8" in found[0]
    assert "b.yaml:1: row -: cannot be read" in found[1]
    assert "c.yaml:1: row -: holds no mapping" in found[2]


def test_a_key_left_blank_is_its_default(tmp_path: pathlib.Path) -> None:
    text = "channel: a\ntransport: {port: 2601, senders: }\norder:\ndestinations:\nlimits:\n"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    assert load_channels(tmp_path)["a"].order == ()
