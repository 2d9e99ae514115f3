"""Results (OBX-5) of every type, also those that are not what OBX-2 says."""

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.hl7.message import parse
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import TranslatedMessage

LIBRARY = load()


@pytest.mark.parametrize(
    ("sent", "value", "unit"),
    [
        ("NM|1-8^x^LN||positive|mg^milligram^UCUM", "positive", "mg"),
        ("NM|1-8^x^LN||<5", "<5", None),
        ("TS|1-8^x^LN||20261301", "20261301", None),
        ("TM|1-8^x^LN||99", "99", None),
        ("SN|1-8^x^LN||>^abc|mg", "> abc", "mg"),
        ("SN|1-8^x^LN||^1^x^2", "1 x 2", None),
    ],
)
def test_a_result_that_is_not_of_its_type_stays_as_text_both_ways(
    sent: str, value: str, unit: str | None
) -> None:
    data = _result(sent)
    result = Translator(LIBRARY).translate(data, ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    (found,) = (one.resource for one in result.resources if one.type == "Observation")
    assert [name for name in found if name.startswith("value")] == ["valueString"]
    assert found["valueString"] == value
    units = [
        one["valueCodeableConcept"]["coding"][0]["code"]
        for one in found.get("extension", ())
        if one["url"].endswith("/unit")
    ]
    assert units == ([unit] if unit else [])
    assert "kept it as text" in result.notes[0].text_en
    made = dict(PutBack(LIBRARY).rebuild(result.resources))["OBX[1]"]
    assert (made["OBX", 2], made["OBX", 5]) == ("ST", value)
    assert PutBack(LIBRARY).update(parse(data), result.resources, {}) == data


def test_a_result_of_its_type_is_no_text() -> None:
    """The twin: what can be read as OBX-2 says is not kept as text, nor noted."""
    for sent in (
        "NM|1-8^x^LN||5.0|mg",
        "TS|1-8^x^LN||20260101",
        "SN|1-8^x^LN||>^5",
        "TM|1^x^L||12",
    ):
        result = Translator(LIBRARY).translate(_result(sent), ChannelProfile())
        assert isinstance(result, TranslatedMessage)
        (found,) = (one.resource for one in result.resources if one.type == "Observation")
        assert "valueString" not in found
        assert result.notes == ()


def test_one_of_several_results_that_is_no_number_stays_beside_the_others() -> None:
    result = Translator(LIBRARY).translate(_result("NM|1-8^x^LN||5~abc"), ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    (found,) = (one.resource for one in result.resources if one.type == "Observation")
    first, second = found["component"]
    assert first["valueQuantity"]["value"] == 5
    assert second["valueString"] == "abc"


def test_an_address_with_an_unescaped_ampersand_stays_whole() -> None:
    data = _result("RP|1-8^x^LN||http://pacs/view?a=1&b=2^TEXT^PDF")
    result = Translator(LIBRARY).translate(data, ChannelProfile())
    assert isinstance(result, TranslatedMessage)
    (found,) = (one.resource for one in result.resources if one.type == "DocumentReference")
    assert found["content"][0]["attachment"]["url"] == "http://pacs/view?a=1&b=2"


def _result(sent: str) -> bytes:
    return (
        "MSH|^~\\&|LIS|H1|HUB|Q|20260101||ORU^R01|1|P|2.5\rPID|1||7^^^H1\r"
        f"OBR|1|P|F|1^x^L\rOBX|1|{sent}\r"
    ).encode()
