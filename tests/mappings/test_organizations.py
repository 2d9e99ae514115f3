"""What two fields say of one organisation is one Organization, and goes back to both."""

import copy

import pytest

from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.hl7.message import parse
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, TranslatedResource

LIBRARY = load()
TRANSLATOR = Translator(LIBRARY)
CHANNEL = ChannelProfile()
HEAD = "MSH|^~\\&|LIS|H1|HUB|Q|1||ORU^R01|1|P|2.5.1\rPID|1||7^^^H1^MR||李^雷"
OBX = "OBX|{n}|NM|718-{n}^Hb^LN||120|g/L|||||F||||||||||||{name}|{address}"
NK1 = "NK1|1|王^五|SPO||||||||||{name}" + "|" * 17 + "赵^六|13900000001|人民路2号^^苏州市"


def _translated(text: str) -> TranslatedMessage:
    result = TRANSLATOR.translate(text.encode(), CHANNEL)
    assert isinstance(result, TranslatedMessage)
    return result


def _organization(result: TranslatedMessage, name: str) -> TranslatedResource:
    (one,) = (
        one
        for one in result.resources
        if one.type == "Organization" and one.resource.get("name") == name
    )
    return one


def _results(name: str, *addresses: str) -> str:
    lines = [OBX.format(n=n, name=name, address=one) for n, one in enumerate(addresses, 1)]
    return "\r".join([HEAD, "OBR|1|O1|F1|718-7^Hb^LN|||20260101100000", *lines]) + "\r"


@pytest.mark.parametrize("name", ["市检验所", "市检验所^^^^^H1^XX^^^LAB7"])
def test_the_address_of_a_laboratory_stands_in_the_performer(name: str) -> None:
    text = _results(name, "检验路1号^^苏州市", "检验路1号^^苏州市")
    before = _translated(text)
    laboratory = _organization(before, "市检验所")
    assert laboratory.resource["address"] == [{"line": ["检验路1号"], "city": "苏州市"}]
    observations = [one.resource for one in before.resources if one.type == "Observation"]
    performer = {"reference": f"urn:uuid:{laboratory.key}"}
    assert [performer in one["performer"] for one in observations] == [True, True]
    assert not any("performing-address" in str(one) for one in observations)
    now = copy.deepcopy(dict(laboratory.resource))
    now["address"][0]["city"] = "无锡市"
    data = PutBack(LIBRARY).update(
        parse(text.encode()), before.resources, {laboratory.key: now}, CHANNEL.sender
    )
    assert data.decode() == text.replace("苏州市", "无锡市")


def test_an_address_without_a_laboratory_stays_with_the_result() -> None:
    (observation,) = (
        one.resource
        for one in _translated(_results("", "检验路1号^^苏州市")).resources
        if one.type == "Observation"
    )
    (kept,) = observation["extension"]
    assert kept["valueAddress"]["line"] == ["检验路1号"]


def test_the_contact_person_of_an_organisation_stands_in_it_and_goes_back() -> None:
    text = "\r".join([HEAD.replace("ORU^R01", "ADT^A08"), NK1.format(name="幸福公司")]) + "\r"
    before = _translated(text)
    company = _organization(before, "幸福公司")
    (contact,) = company.resource["contact"]
    assert contact["name"] == {"family": "赵", "given": ["六"]}
    assert contact["telecom"][0]["value"] == "13900000001"
    assert contact["address"]["line"] == ["人民路2号"]
    (patient,) = (one.resource for one in before.resources if one.type == "Patient")
    assert patient["contact"][0]["organization"] == {"reference": f"urn:uuid:{company.key}"}
    now = copy.deepcopy(dict(company.resource))
    now["contact"][0]["telecom"][0]["value"] = "13900000002"
    data = PutBack(LIBRARY).update(
        parse(text.encode()), before.resources, {company.key: now}, CHANNEL.sender
    )
    assert data.decode() == text.replace("13900000001", "13900000002")


def test_a_changed_note_of_a_result_goes_back_to_its_segment() -> None:
    lines = [HEAD, "OBR|1|O1|F1|718-7^Hb^LN", OBX.format(n=1, name="", address=""), "NTE|1||溶血"]
    text = "\r".join([*lines, "NTE|2||复查"]) + "\r"
    before = _translated(text)
    (observation,) = (one for one in before.resources if one.type == "Observation")
    now = copy.deepcopy(dict(observation.resource))
    now["note"][1]["text"] = "已复查"
    data = PutBack(LIBRARY).update(
        parse(text.encode()), before.resources, {observation.key: now}, CHANNEL.sender
    )
    assert data.decode() == text.replace("复查", "已复查")
    now["note"] = now["note"][:1]  # which of two went is not known: nothing is written
    data = PutBack(LIBRARY).update(
        parse(text.encode()), before.resources, {observation.key: now}, CHANNEL.sender
    )
    assert data.decode() == text
