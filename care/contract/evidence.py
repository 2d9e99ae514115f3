"""Signatures and what proves them: images, photo, place, agreement, time."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from care.contract import content
from care.contract.surroundings import Surroundings
from care.effects import Put, Resource, refuse

CLOCK_SKEW = datetime.timedelta(minutes=5)
OLDEST = datetime.timedelta(days=30)
"""How long a signature made offline may be on its way."""

ASKED: Mapping[str, frozenset[str]] = {
    "consulting-room": frozenset(),  # printed and signed on paper beside the doctor
    "home": frozenset({"image", "photo", "place"}),
    "mobile": frozenset({"image", "photo", "place"}),
    "resident-app": frozenset({"image"}),
    "qr": frozenset({"image"}),
}
"""What each way of signing must leave as proof."""

_MISSING = {
    "image": ("an image in residentSignature.data", "居民签名图像（residentSignature.data）"),
    "photo": ("photo as valueAttachment", "现场照片（photo，valueAttachment）"),
    "place": ("place with latitude and longitude", "现场定位（place，含经纬度）"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was signed; `system` is GCJ-02 or WGS-84, `accuracy` in metres."""

    latitude: Decimal
    longitude: Decimal
    system: str = "WGS-84"
    accuracy: Decimal | None = None
    is_mocked: bool = False

    def text(self) -> str:
        """Return it as one text: `lat,lon system ±m`."""
        parts = [f"{self.latitude},{self.longitude}", self.system]
        if self.accuracy is not None:
            parts.append(f"±{self.accuracy}m")
        if self.is_mocked:
            parts.append("mock")
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Both signatures: parties as references, each with its FHIR Signature.

    `photo` is an Attachment; `is_offline` says that the device could not ask before it signed.
    """

    resident: str
    doctor: str
    signatures: Mapping[str, Mapping[str, Any]]
    agreement_hash: str
    photo: Mapping[str, Any] | None = None
    place: Place | None = None
    is_offline: bool = False


def require_mode(mode: str) -> None:
    """Refuse a way of signing that no rule of proof covers."""
    if mode not in ASKED:
        ways = ", ".join(ASKED)
        raise refuse(
            "sign-mode",
            "There is no such way of signing",
            "没有这种签约方式",
            f"Give {ways} as mode.",
            f"mode 请给出 {ways} 之一。",
            "Contract.extension",
        )


def require_evidence(around: Surroundings, mode: str, signing: Signing) -> None:
    """Refuse signatures of others, of the future, or without the proof that the mode asks."""
    given = set[str]()
    if signing.signatures["resident"].get("data"):
        given.add("image")
    if signing.photo is not None:
        _require_image(signing.photo)
        given.add("photo")
    if signing.place is not None:
        given.add("place")
    missing = sorted(ASKED.get(mode, frozenset()) - given)
    if missing:
        raise refuse(
            "evidence-missing",
            f"Signing by {mode} leaves too little proof: {', '.join(missing)}",
            f"签约方式 {mode} 的凭证不全",
            f"Send {', '.join(_MISSING[one][0] for one in missing)}.",
            f"请补充{'、'.join(_MISSING[one][1] for one in missing)}。",
            "Provenance.signature",
        )
    for side, party in (("resident", signing.resident), ("doctor", signing.doctor)):
        _require_own(around, side, party, signing.signatures[side])


def _require_image(photo: Mapping[str, Any]) -> None:
    is_image = str(photo.get("contentType", "")).lower().startswith("image/")
    if not is_image or not (photo.get("data") or photo.get("url")):
        raise refuse(
            "evidence-photo",
            "The photo is no image, or empty",
            "现场照片不是图像或内容为空",
            "Send photo as valueAttachment with contentType image/jpeg or image/png, and data.",
            "请以 valueAttachment 发送照片，contentType 为 image/jpeg 或 image/png，并带 data。",
            "Parameters.parameter.where(name = 'photo')",
        )


def _require_own(around: Surroundings, side: str, party: str, signature: Mapping[str, Any]) -> None:
    who = signature.get("who", {})
    if not isinstance(who, Mapping) or who.get("reference") != party:
        raise refuse(
            "signature-of-another",
            f"The {side}'s signature is not by the party who signs",
            "签名人与签约方不一致",
            f"Let {side}Signature.who be {side}Party.",
            f"{side}Signature.who 应与 {side}Party 一致。",
            "Contract.signer.signature.who",
        )
    when = signed_at(signature)
    if when is None or not around.now - OLDEST <= when <= around.now + CLOCK_SKEW:
        raise refuse(
            "signature-time",
            f"The time of the {side}'s signature is not a time of the last {OLDEST.days} days",
            f"签名时间不在最近 {OLDEST.days} 天内",
            "Set the clock of the device, and send Signature.when with its time zone.",
            "请校准设备时钟，并在 Signature.when 中带时区发送。",
            "Contract.signer.signature.when",
        )


def signed_at(signature: Mapping[str, Any]) -> datetime.datetime | None:
    """Return when a signature was made; None where it does not say so with a time zone."""
    try:
        when = datetime.datetime.fromisoformat(str(signature.get("when", "")))
    except ValueError:
        return None
    return when if when.tzinfo else None


def signers_of(signing: Signing) -> list[dict[str, Any]]:
    """Return `Contract.signer` of both sides."""
    system = "http://terminology.hl7.org/CodeSystem/contractsignertypecodes"
    sides = (("resident", "CONSENTER", signing.resident), ("doctor", "HPROV", signing.doctor))
    return [
        {
            "type": {"system": system, "code": code},
            "party": {"reference": party},
            "signature": [dict(signing.signatures[side])],
        }
        for side, code, party in sides
    ]


def kept(
    around: Surroundings, contract: Resource, signing: Signing
) -> tuple[list[Put], dict[str, Any]]:
    """Return the resources that keep the proof, and what the Provenance says of it."""
    puts: list[Put] = []
    extensions: list[dict[str, Any]] = []
    if signing.photo is not None:
        document = {
            "resourceType": "DocumentReference",
            "id": around.new_id(),
            "status": "current",
            "type": {"text": "签约现场照片 (photo of the signing)"},
            "subject": {"reference": content.resident_of(contract)},
            "date": around.now.isoformat(),
            "content": [{"attachment": dict(signing.photo)}],
            "context": {"related": [{"reference": content.reference_to(contract)}]},
        }
        puts.append(Put(document, is_new=True))
        reference = {"reference": content.reference_to(document)}
        extensions.append(content.extension("sign-evidence", "valueReference", reference))
    if signing.place is not None:
        extensions.append(content.extension("geolocation", "valueString", signing.place.text()))
    when = max(
        (t for t in map(signed_at, signing.signatures.values()) if t is not None),
        default=around.now,
    )
    said: dict[str, Any] = {
        "occurredDateTime": when.isoformat(),
        "signature": [dict(one) for one in signing.signatures.values()],
        "entity": [
            {
                "role": "source",
                "what": {
                    "identifier": {"system": content.SM3, "value": signing.agreement_hash},
                    "display": "签约协议 (agreement)",
                },
            }
        ],
    }
    if extensions:
        said["extension"] = extensions
    return puts, said
