"""An envelope opens only as it was sealed."""

import base64
import datetime
import importlib.resources
import json
import pathlib
from collections.abc import Mapping

import pytest

from adapters.envelope.profile import InvalidProfile, parse_profile, profile_of
from adapters.envelope.seal import Opened, Refusal, canonical, open_envelope, seal

VECTORS = json.loads(
    (pathlib.Path(__file__).parents[2] / "inputs/envelope/vectors.json").read_text("utf-8")
)
KEY = b"shared key"
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
UPLOAD = profile_of("province_upload")
FIELDS = {
    "orgCode": "HOSP-A",
    "sysCode": "QIAO",
    "bizType": "resident",
    "opType": "A",
    "batchNo": "B1",
    "msgId": "m-1",
}


def opened(
    wire: Mapping[str, str],
    key: bytes | None = KEY,
    at: datetime.datetime = AT,
) -> Opened | Refusal:
    return open_envelope(UPLOAD, wire, key_of=lambda _: key, at=at)


def sealed(payload: bytes = b"<a>1</a>", **fields: str) -> dict[str, str]:
    return seal(UPLOAD, {**FIELDS, **fields}, payload=payload, key=KEY, at=AT)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["why"])
def test_golden_vectors(vector: dict[str, str]) -> None:
    profile = profile_of(vector["profile"])
    payload = base64.b64decode(vector["payload"])
    at = datetime.datetime.fromisoformat(vector["at"])
    fields = vector["fields"]
    assert isinstance(fields, dict)
    wire = seal(profile, fields, payload=payload, key=vector["key"].encode(), at=at)
    assert canonical(profile, wire) == vector["canonical"]
    assert wire[profile.signature.field] == vector["sign"]
    if profile.digest is not None:
        assert wire[profile.digest.field] == vector["digest"]
    found = open_envelope(profile, wire, key_of=lambda _: vector["key"].encode(), at=at)
    assert isinstance(found, Opened)
    assert found.payload == payload
    assert found.sent_at == at


def test_nested_objects_are_signed_sorted_and_without_nulls() -> None:
    profile = profile_of("sorted_key_suffix")
    wire = {"data": {"b": [{"d": 2, "c": "甲", "x": None}], "a": 1}, "appId": "A1", "extra": "no"}
    assert canonical(profile, wire) == 'appId=A1&data={"a":1,"b":[{"c":"甲","d":2}]}'


@pytest.mark.parametrize("name", [*UPLOAD.names])
def test_no_field_can_be_changed_or_taken_away(name: str) -> None:
    wire = sealed(orgName="演示医院", dataVersion="1")
    changes = {"opType": "D", "bizType": "team", "sendTime": "2026-01-02T11:04:06+0800"}
    other = changes.get(name, wire[name][:-1] + ("1" if wire[name][-1] != "1" else "2"))
    assert isinstance(opened({**wire, name: other}), Refusal)
    assert isinstance(opened({key: value for key, value in wire.items() if key != name}), Refusal)


def test_without_the_signature_check_a_changed_field_would_pass() -> None:
    wire = {**sealed(), "opType": "D"}
    assert opened(wire) == Refusal(reason="signature", field="sign")
    signed_again = seal(UPLOAD, {**FIELDS, "opType": "D"}, payload=b"<a>1</a>", key=KEY, at=AT)
    assert isinstance(opened(signed_again), Opened)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"payload": "PGE+MjwvYT4="}, "digest", "digest"),
        ({"payload": "no base64!"}, "payload-encoding", "payload"),
        ({"msgId": ""}, "field-missing", "msgId"),
        ({"opType": "X"}, "field-format", "opType"),
        ({"opType": "A\n"}, "field-format", "opType"),
        ({"more": "1"}, "field-unknown", "more"),
        ({"sign": "甲"}, "signature", "sign"),
    ],
)
def test_each_refusal_names_its_field(change: dict[str, str], reason: str, field: str) -> None:
    assert opened({**sealed(), **change}) == Refusal(reason=reason, field=field)


@pytest.mark.parametrize(("seconds", "taken"), [(0, True), (300, True), (-300, True), (301, False)])
def test_the_clock_may_be_off_by_five_minutes(seconds: int, taken: bool) -> None:
    found = opened(sealed(), at=AT + datetime.timedelta(seconds=seconds))
    assert isinstance(found, Opened) is taken


def test_an_unknown_sender_is_refused() -> None:
    assert opened(sealed(), key=None) == Refusal(reason="sender-unknown", field="sign")
    assert opened(sealed(), key=b"another") == Refusal(reason="signature", field="sign")


def test_a_payload_over_the_limit_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="over 1048576 bytes"):
        sealed(payload=b"x" * 1_048_577)


@pytest.mark.parametrize("fields", [{"opType": "X"}, {"msgId": ""}, {"colour": "red"}])
def test_wrong_fields_are_not_sealed(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        sealed(**fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("algorithm: hmac-sm3", "algorithm: md5"), "signature.algorithm"),
        (("algorithm: hmac-sm3", "algorithm: sm3"), "suffix"),
        (("field: sendTime,", "field: sentAt,"), "sentAt"),
        (("field: digest", "field: msgId"), "named twice"),
        (("signature:", "signs:"), "signature"),
        (("leave_out:", "colour:"), "colour"),
        (("[AUD]", "[AUD"), "cannot read"),
    ],
)
def test_a_wrong_profile_is_not_read(change: tuple[str, str], words: str) -> None:
    profiles = importlib.resources.files("adapters.envelope").joinpath("profiles")
    text = profiles.joinpath("province_upload.yaml").read_text("utf-8")
    with pytest.raises(InvalidProfile, match=words):
        parse_profile(text.replace(*change))
