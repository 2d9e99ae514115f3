"""The code a doctor shows to be signed with: a context that is signed and soon over.

A token is `payload.signature`, both base64url without padding; the payload is JSON with `team`,
`doctor`, `packages`, `exp` (epoch seconds) and a `nonce`, the signature HMAC-SHA-256 over it.
"""

import base64
import binascii
import datetime
import hashlib
import hmac
import json
from dataclasses import dataclass

from care.effects import refuse

LIFETIME = datetime.timedelta(minutes=10)
LONGEST = datetime.timedelta(days=7)
"""A poster for a group may hang for a week."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What a code invites to: the team, who showed it, and packages if it names any."""

    team: str
    doctor: str
    packages: tuple[str, ...] = ()
    nonce: str


def issue(key: bytes, invitation: Invitation, expires: datetime.datetime) -> str:
    """Return the signed token."""
    content = {
        "team": invitation.team,
        "doctor": invitation.doctor,
        "packages": list(invitation.packages),
        "exp": int(expires.timestamp()),
        "nonce": invitation.nonce,
    }
    payload = _encode(json.dumps(content, separators=(",", ":")).encode())
    return f"{payload}.{_signature(key, payload)}"


def read(key: bytes, token: str, now: datetime.datetime) -> Invitation:
    """Return what a token invites to; refuse one that is forged, broken or over."""
    payload, _, signature = token.partition(".")
    is_ours = hmac.compare_digest(signature.encode(), _signature(key, payload).encode())
    try:
        content = json.loads(_decode(payload)) if is_ours else None
    except (ValueError, binascii.Error):
        content = None
    if content is None:
        raise refuse(
            "qr-forged",
            "The code was not issued here, or it was changed",
            "二维码不是本平台签发或已被篡改",
            "Scan the doctor's code again (CareTeam/$invitation-code).",
            "请重新扫描医生的签约二维码。",
            "Parameters.parameter.where(name = 'invitation')",
        )
    if content["exp"] <= now.timestamp():
        raise refuse(
            "qr-expired",
            "The code is over",
            "二维码已过期",
            "Let the doctor show a fresh one (CareTeam/$invitation-code).",
            "请医生重新出示签约二维码。",
            "Parameters.parameter.where(name = 'invitation')",
        )
    return Invitation(
        team=content["team"],
        doctor=content["doctor"],
        packages=tuple(content["packages"]),
        nonce=content["nonce"],
    )


def _signature(key: bytes, payload: str) -> str:
    return _encode(hmac.digest(key, b"invitation." + payload.encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
