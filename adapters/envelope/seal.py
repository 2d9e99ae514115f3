"""Making and opening a signed envelope by a partner's profile."""

import base64
import binascii
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.envelope.profile import EnvelopeProfile
from adapters.envelope.sm3 import hmac_sm3, is_same, sm3


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An envelope whose signature, digest and time are right."""

    fields: Mapping[str, str]
    payload: bytes
    sent_at: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an envelope is not taken: a stable `reason` and the field it is about."""

    reason: str
    field: str


def seal(
    profile: EnvelopeProfile,
    fields: Mapping[str, str],
    *,
    payload: bytes = b"",
    key: bytes,
    at: datetime.datetime,
) -> dict[str, str]:
    """Return all fields in the profile's order, with time, payload, digest and signature.

    ValueError names the field that the profile does not allow, never its value.
    """
    wire: dict[str, str] = {}
    given = {**fields, profile.clock.field: _time_text(profile, at)}
    for name, rule in profile.fields.items():
        value = given.pop(name, "")
        if (rule.required and not value) or (value and not rule.pattern.fullmatch(value)):
            raise ValueError(f"envelope field {name} is missing or not in its format")
        wire[name] = value
    if given:
        raise ValueError(f"envelope {profile.name} has no field {sorted(given)[0]}")
    if profile.payload is not None:
        if len(payload) > profile.payload.most_bytes:
            raise ValueError(f"the payload is over {profile.payload.most_bytes} bytes")
        wire[profile.payload.field] = _payload_text(profile.payload.encoding, payload)
    if profile.digest is not None:
        wire[profile.digest.field] = _octets_text(profile.digest.text, sm3(payload))
    wire[profile.signature.field] = _signature_text(profile, wire, key)
    return wire


def open_envelope(
    profile: EnvelopeProfile,
    wire: Mapping[str, str],
    *,
    key_of: Callable[[Mapping[str, str]], bytes | None],
    at: datetime.datetime,
) -> Opened | Refusal:
    """Check fields, signature, time and digest, in this order, and return the payload.

    `key_of` finds the sender's key from the fields; None where the sender is not known.
    """
    refusal = _field_refusal(profile, wire)
    if refusal is not None:
        return refusal
    sign = profile.signature.field
    key = key_of(wire)
    if key is None:
        return Refusal(reason="sender-unknown", field=sign)
    expected = _signature_text(profile, wire, key)
    if not is_same(expected.encode(), wire.get(sign, "").encode()):
        return Refusal(reason="signature", field=sign)
    sent_at = _time_of(profile, wire[profile.clock.field])
    if sent_at is None:
        return Refusal(reason="field-format", field=profile.clock.field)
    if abs((at - sent_at).total_seconds()) > profile.clock.skew_seconds:
        return Refusal(reason="clock", field=profile.clock.field)
    payload = _payload_of(profile, wire)
    if isinstance(payload, Refusal):
        return payload
    return Opened(
        fields={name: wire[name] for name in profile.fields if wire.get(name)},
        payload=payload,
        sent_at=sent_at,
    )


def canonical(profile: EnvelopeProfile, wire: Mapping[str, Any]) -> str:
    """Return the text that is signed: the fields as name=value, sorted by name, joined by &.

    A value that is itself an object or list becomes JSON with sorted names and without nulls.
    """
    rule = profile.signature
    left_out = {rule.field, *rule.leave_out}
    pairs = []
    for name in sorted(set(wire) - left_out):
        value = _value_text(wire[name])
        if value or not rule.drop_empty:
            pairs.append(f"{name}={_escaped(value) if rule.escape == 'percent' else value}")
    return "&".join(pairs)


def _signature_text(profile: EnvelopeProfile, wire: Mapping[str, str], key: bytes) -> str:
    rule = profile.signature
    text = canonical(profile, wire)
    if rule.algorithm == "hmac-sm3":
        return _octets_text(rule.text, hmac_sm3(key, (text + rule.suffix).encode()))
    suffix = rule.suffix.encode().replace(b"{key}", key)
    return _octets_text(rule.text, sm3(text.encode() + suffix))


def _field_refusal(profile: EnvelopeProfile, wire: Mapping[str, str]) -> Refusal | None:
    for name in wire:
        if name not in profile.names:
            return Refusal(reason="field-unknown", field=name)
    for name in profile.names:
        rule = profile.fields.get(name)
        value = wire.get(name, "")
        if not value and (rule is None or rule.required):
            return Refusal(reason="field-missing", field=name)
        if value and rule is not None and not rule.pattern.fullmatch(value):
            return Refusal(reason="field-format", field=name)
    return None


def _payload_of(profile: EnvelopeProfile, wire: Mapping[str, str]) -> bytes | Refusal:
    rule = profile.payload
    if rule is None:
        return b""
    text = wire[rule.field]
    try:
        octets = text.encode()
        payload = octets if rule.encoding == "text" else base64.b64decode(octets, validate=True)
    except (binascii.Error, ValueError):
        return Refusal(reason="payload-encoding", field=rule.field)
    if len(payload) > rule.most_bytes:
        return Refusal(reason="payload-size", field=rule.field)
    if profile.digest is not None:
        expected = _octets_text(profile.digest.text, sm3(payload))
        if not is_same(expected.encode(), wire[profile.digest.field].encode()):
            return Refusal(reason="digest", field=profile.digest.field)
    return payload


def _payload_text(encoding: str, payload: bytes) -> str:
    return payload.decode() if encoding == "text" else base64.b64encode(payload).decode()


def _octets_text(text: str, octets: bytes) -> str:
    return octets.hex() if text == "hex" else base64.b64encode(octets).decode()


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("&", "%26").replace("=", "%3D")


def _value_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(
        _without_nulls(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(part) for part in value if part is not None]
    return value


def _zone(profile: EnvelopeProfile) -> datetime.tzinfo:
    moment = datetime.datetime.strptime(profile.clock.zone, "%z")
    return moment.tzinfo or datetime.UTC


def _time_text(profile: EnvelopeProfile, at: datetime.datetime) -> str:
    return at.astimezone(_zone(profile)).strftime(profile.clock.format)


def _time_of(profile: EnvelopeProfile, text: str) -> datetime.datetime | None:
    form = profile.clock.format
    if "%z" not in form:
        text, form = text + profile.clock.zone, form + "%z"
    try:
        return datetime.datetime.strptime(text, form)  # noqa: DTZ007 (form holds %z)
    except ValueError:
        return None
