"""The register and its comparison of faces on a real socket, with a ledger and moods on a seed.

It knows the people it is given. One it does not know is taken as first shown: the name, and the
first photo, are the register's from then on.
"""

import base64
import binascii
import datetime
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.identity_proof.faceid import SERVICE, VERSION
from adapters.notify.simulators import NotifySimulator
from adapters.transport import tc3

_MOST_PHOTO_BYTES = 3 * 2**20  # of base64, as the service says
FACEID_MOODS: Mapping[str, str] = {
    "limit": "RequestLimitExceeded",
    "away": "the register's comparison is away (-4, FailedOperation.CompareLibServiceUnavailable)",
    "timeout": "never answers",
}


@dataclass(slots=True, kw_only=True)
class FaceidSimulator(NotifySimulator):
    """The register: `people` are number -> (name, SHA-256 of the photo or empty)."""

    secret_id: str = "AKIDsimulated"  # noqa: S105 - of a simulator
    secret_key: str = "simulated"  # noqa: S105 - of a simulator
    most_bytes: int = 4 * 2**20
    people: dict[str, tuple[str, str]] = field(default_factory=dict)

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        """Answer IdCardVerification and ImageRecognition."""
        wrong = tc3.check(
            headers,
            body,
            secret_id=self.secret_id,
            secret_key=self.secret_key,
            service=SERVICE,
            now=datetime.datetime.now(datetime.UTC),
        )
        if wrong is None and headers.get("x-tc-version") != VERSION:
            wrong = "NoSuchVersion"
        action = headers.get("x-tc-action", "")
        if wrong is None and action not in ("IdCardVerification", "ImageRecognition"):
            wrong = "InvalidAction"
        mood = self.mood() if wrong is None else ""
        if mood == "limit":
            wrong = "RequestLimitExceeded"
        if wrong is not None:
            return 200, _response(Error={"Code": wrong, "Message": wrong})
        if mood == "timeout":
            return 0, {}
        try:
            asked = json.loads(body)
            name, number = str(asked["Name"]), str(asked["IdCard"])
            photo = base64.b64decode(str(asked.get("ImageBase64", "")), validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error):
            return 200, _response(Error={"Code": "InvalidParameter", "Message": "bad body"})
        if action == "IdCardVerification":
            code = "-4" if mood == "away" else self._number(name, number)
            found: dict[str, Any] = {"Result": code, "Description": _WORDS.get(code, "")}
        elif mood == "away":
            found = {"Sim": 0, "Result": "FailedOperation.CompareLibServiceUnavailable"}
        else:
            found = self._face(name, number, photo, len(str(asked.get("ImageBase64", ""))))
        self.enter(
            action=action, number=number, result=found["Result"], similarity=found.get("Sim")
        )
        return 200, _response(**found)

    def _number(self, name: str, number: str) -> str:
        if len(number) != 18:
            return "-2"
        known, _ = self.people.setdefault(number, (name, ""))
        return "0" if known == name else "-1"

    def _face(self, name: str, number: str, photo: bytes, size: int) -> dict[str, Any]:
        if not photo.startswith((b"\x89PNG", b"\xff\xd8")) or size > _MOST_PHOTO_BYTES:
            return {"Sim": 0, "Result": "FailedOperation.ImageSizeTooLarge" if photo else
                    "FailedOperation.ImageBlur"}  # fmt: skip
        if self._number(name, number) != "0":
            return {"Sim": 0, "Result": "FailedOperation.IdNameMisMatch"}
        digest = hashlib.sha256(photo).hexdigest()
        known, kept = self.people[number]
        self.people[number] = (known, kept or digest)
        if kept in ("", digest):
            return {"Sim": 96.5, "Result": "Success", "Description": "成功"}
        return {"Sim": 31.2, "Result": "FailedOperation.CompareLowSimilarity"}


_WORDS = {
    "0": "姓名和身份证号一致",
    "-1": "姓名和身份证号不一致",
    "-2": "非法身份证号",
    "-4": "证件库服务异常",
}


def _response(**found: Any) -> dict[str, Any]:
    return {"Response": {**found, "RequestId": secrets.token_hex(8)}}
