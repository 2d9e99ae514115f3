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
