"""One partner's envelope rule, read from YAML: fields, payload, digest, signature, clock."""

import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One plain field; the partner refuses values that do not match `pattern` as a whole."""

    name: str
    required: bool
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Where the payload stands, how its bytes become text (`base64`, `text`) and how long it is."""

    field: str
    encoding: str = "base64"
    most_bytes: int = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Where the digest of the payload's bytes stands; `text` is `hex` or `base64`."""

    field: str
    text: str = "hex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How the signed text is made.

    `algorithm` is `hmac-sm3`, or `sm3` where the key stands in the text through `suffix`
    (`&key={key}`). `escape: percent` writes `%`, `&` and `=` inside values as %25, %26 and %3D, so
    that no two sets of fields give the same text.
    """

    field: str
    algorithm: str = "hmac-sm3"
    text: str = "hex"
    leave_out: tuple[str, ...] = ()
    drop_empty: bool = True
    escape: str = "percent"
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Which field carries the time of sending, its strptime format and how far it may be off."""

    field: str
    format: str = "%Y-%m-%dT%H:%M:%S%z"
    zone: str = "+08:00"
    skew_seconds: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeProfile:
    """The whole rule of one partner's envelope."""

    name: str
    source: str
    fields: Mapping[str, Field]
    signature: Signature
    clock: Clock
    payload: Payload | None = None
    digest: Digest | None = None
    names: tuple[str, ...] = field(default=())


class InvalidProfile(ValueError):
    """A profile contradicts itself; the text names the file's part."""


_ALLOWED = {
    "payload.encoding": {"base64", "text"},
    "digest.text": {"hex", "base64"},
    "signature.text": {"hex", "base64"},
    "signature.algorithm": {"hmac-sm3", "sm3"},
    "signature.escape": {"percent", "none"},
}


def profile_of(name: str) -> EnvelopeProfile:
    """Return a packaged profile by its name."""
    folder = importlib.resources.files("adapters.envelope").joinpath("profiles")
    return parse_profile(folder.joinpath(f"{name}.yaml").read_text("utf-8"))


def parse_profile(text: str) -> EnvelopeProfile:
    """Read one profile from YAML; InvalidProfile says what is wrong with it."""
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        raise InvalidProfile("the profile is not a mapping")
    try:
        return _profile_from(raw)
    except (KeyError, TypeError, AttributeError, re.error) as broken:
        raise InvalidProfile(f"cannot read the profile: {broken}") from broken


def _profile_from(raw: dict[str, Any]) -> EnvelopeProfile:
    for path, allowed in _ALLOWED.items():
        part, name = path.split(".")
        value = (raw.get(part) or {}).get(name)
        if value is not None and value not in allowed:
            raise InvalidProfile(f"{path} is {value!r}; it may be {', '.join(sorted(allowed))}")
    fields = {
        name: Field(
            name=name,
            required=bool(rule.get("required", False)),
            pattern=re.compile(rule.get("pattern", ".{0,200}")),
        )
        for name, rule in raw["fields"].items()
    }
    payload = Payload(**raw["payload"]) if raw.get("payload") else None
    digest = Digest(**raw["digest"]) if raw.get("digest") else None
    signing = dict(raw["signature"])
    signature = Signature(**{**signing, "leave_out": tuple(signing.get("leave_out", ()))})
    if signature.algorithm == "sm3" and "{key}" not in signature.suffix:
        raise InvalidProfile("signature.suffix must hold {key}: plain sm3 is no signature")
    clock = Clock(**raw["clock"])
    if clock.field not in fields:
        raise InvalidProfile(f"clock.field {clock.field!r} is not among the fields")
    names = [*fields]
    names += [payload.field] if payload else []
    names += [digest.field] if digest else []
    names.append(signature.field)
    if len(set(names)) != len(names):
        raise InvalidProfile("a field is named twice")
    return EnvelopeProfile(
        name=raw["name"],
        source=raw["source"],
        fields=fields,
        payload=payload,
        digest=digest,
        signature=signature,
        clock=clock,
        names=tuple(names),
    )
