"""A change of FHIR stays in its message only where the message then says it."""

import copy
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from mappings.changes_back import ChangedMessage, ChangesBack
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import load
from mappings.hl7.message import parse
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import TranslatedMessage, TranslatedResource

LIBRARY = load()
CHANNEL = ChannelProfile()
HEAD = (
    "MSH|^~\\&|LIS|H1|HUB|Q|20260101120000||ORU^R01|1|P|2.5.1\r"
    "PID|1||7^^^H1^MR||Li^Lei||19900101|M\rOBR|1|O1|F1|718-7^Hb^LN\r"
)
Change = Callable[[dict[str, Any]], None]


def _resources(data: bytes) -> tuple[TranslatedResource, ...]:
    result = Translator(LIBRARY).translate(data, CHANNEL)
    assert isinstance(result, TranslatedMessage)
    return result.resources


def _after(data: bytes, kind: str, change: Change) -> dict[str, dict[str, Any]]:
    one = next(one for one in _resources(data) if one.type == kind)
    now = copy.deepcopy(dict(one.resource))
    change(now)
    return {one.key: now}


def _written(data: bytes, kind: str, change: Change) -> ChangedMessage:
    return ChangesBack(LIBRARY).write(data, _after(data, kind, change), CHANNEL)


def _result(kind: str, value: str, unit: str = "") -> bytes:
    return f"{HEAD}OBX|1|{kind}|1-8^x^LN||{value}|{unit}|||||F\rZLX|kept\r".encode()


def _number(*path: str, value: int = 9) -> Change:
    def change(resource: dict[str, Any]) -> None:
        for name in path[:-1]:
            resource = resource[name]
        resource[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("kind", "value", "change", "becomes"),
    [
        ("NM", "5", _number("valueQuantity", "value"), "9"),
        ("SN", ">^5", _number("valueQuantity", "value"), ">^9"),
        ("SN", "^5", _number("valueQuantity", "value"), "^9"),
        ("SN", "^1^-^5", _number("valueRange", "high", "value"), "^1^-^9"),
        ("SN", "^1^:^128", _number("valueRatio", "denominator", "value"), "^1^:^9"),
        ("SN", "^1^/^2", _number("valueRatio", "numerator", "value"), "^9^/^2"),
        ("NR", "1^5", _number("valueRange", "high", "value"), "1^9"),
        ("CQ", "5^mg", _number("valueQuantity", "value"), "9^mg"),
    ],
)
def test_a_number_goes_back_in_the_type_that_the_original_has(
    kind: str, value: str, change: Change, becomes: str
) -> None:
    changed = _written(_result(kind, value), "Observation", change)
    assert changed.data == _result(kind, becomes)
    assert changed.missing == ()


def test_without_the_original_a_number_with_a_comparator_is_structured() -> None:
    for value in (">^5", "^1^-^5", "^1^:^128"):
        data = _result("SN", value)
        made = PutBack(LIBRARY).rebuild(_resources(data))
        fields = next(fields for place, fields in made if place == "OBX[1]")
        assert (fields["OBX", 2], fields["OBX", 5]) == ("SN", value)


def test_a_value_of_another_type_takes_its_type_along() -> None:
    def change(resource: dict[str, Any]) -> None:
        del resource["valueQuantity"]
        resource["valueString"] = "haemolytic"

    data = _result("NM", "5")
    changed = _written(data, "Observation", change)
    assert changed.data == data.replace(b"|NM|", b"|ST|").replace(b"||5|", b"||haemolytic|")
    assert changed.missing == ()


def _reword(resource: dict[str, Any]) -> None:
    resource["valueString"] = "Roe K"


def test_a_change_that_the_message_cannot_say_is_named_and_not_written() -> None:
    data = _result("XPN", "Doe^J")
    changed = _written(data, "Observation", _reword)
    assert changed.data == data
    (one,) = changed.missing
    assert (one.resource, one.path, one.wanted, one.stays, one.row) == (
        "Observation OBX[1]", "valueString", "Roe K", "Doe J", "OBX-5st",
    )  # fmt: skip


def test_unread_again_the_same_change_would_have_spoilt_the_field() -> None:
    data = _result("XPN", "Doe^J")
    spoilt = PutBack(LIBRARY).update(
        parse(data), _resources(data), _after(data, "Observation", _reword)
    )
    assert b"|Roe K^J|" in spoilt


def test_what_can_be_said_is_written_beside_what_cannot() -> None:
    def change(resource: dict[str, Any]) -> None:
        resource["gender"] = "female"
        resource["photo"] = [{"title": "new"}]

    data = _result("NM", "5")
    changed = _written(data, "Patient", change)
    assert changed.data == data.replace(b"|19900101|M", b"|19900101|F")
    assert [(one.path, one.stays) for one in changed.missing] == [("photo[0].title", None)]


def test_a_constant_of_the_row_does_not_keep_a_new_number_out() -> None:
    def change(resource: dict[str, Any]) -> None:
        resource["telecom"] = [{"system": "phone", "value": "139"}]

    changed = _written(_result("NM", "5"), "Patient", change)
    assert b"|M|||||139^^PH\r" in changed.data
    assert [(one.path, one.stays) for one in changed.missing] == [("telecom[0].use", "home")]


def test_a_person_whom_a_field_names_is_corrected_in_that_field() -> None:
    data = _result("NM", "5").replace(b"OBR|", b"PV1|1|I|||||D1^Wang^Wu^^^^^^H1\rOBR|")

    def change(resource: dict[str, Any]) -> None:
        resource["name"][0]["family"] = "Zhao"

    changed = _written(data, "Practitioner", change)
    assert changed.data == data.replace(b"Wang", b"Zhao")
    assert changed.missing == ()


def test_a_letter_that_the_charset_does_not_have_is_refused() -> None:
    data = _result("ST", "x").replace(b"|2.5.1\r", b"|2.5.1||||||ASCII\r")

    def change(resource: dict[str, Any]) -> None:
        resource["valueString"] = "阳性"

    changed = _written(data, "Observation", change)
    assert changed.data == data
    assert [one.stays for one in changed.missing] == ["x"]


def test_a_resource_that_the_message_never_made_is_named() -> None:
    data = _result("NM", "5")
    new = {"no-such-key": {"resourceType": "Device", "status": "active"}}
    changed = ChangesBack(LIBRARY).write(data, new, CHANNEL)
    assert changed.data == data
    assert [one.resource for one in changed.missing] == ["Device urn:uuid:no-such-key"]


def test_every_change_of_the_shared_messages_is_said_or_named(shared_data: pathlib.Path) -> None:
    files = sorted((shared_data / "hl7v2-messages" / "messages").glob("*.hl7"))[::45]
    changes = ChangesBack(LIBRARY)
    written = 0
    for file in files:
        data = file.read_bytes()
        if not isinstance(Translator(LIBRARY).translate(data, CHANNEL), TranslatedMessage):
            continue
        before = {one.key: one.resource for one in _resources(data)}
        after = {key: _with_other_texts(one) for key, one in before.items()}
        changed = changes.write(data, after, CHANNEL)
        written += changed.data != data
        named = {(one.resource, one.path.partition("[")[0]) for one in changed.missing}
        again = {(one.map_name, one.origin): one.resource for one in _resources(changed.data)}
        for was in _resources(data):
            now = again[was.map_name, was.origin]
            for path in ("name", "address", "description"):
                if now.get(path) != after[was.key].get(path):
                    assert (f"{was.type} {was.origin}", path) in named
    assert written > len(files) // 2


def _with_other_texts(resource: Any) -> Any:
    """Change the family names, cities and descriptions of a resource."""
    if isinstance(resource, list):
        return [_with_other_texts(one) for one in resource]
    if not isinstance(resource, dict):
        return resource
    changed = {name: _with_other_texts(value) for name, value in resource.items()}
    for name in ("family", "city", "description"):
        if isinstance(changed.get(name), str):
            changed[name] = f"Other{changed[name]}"
    return changed
