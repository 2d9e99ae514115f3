"""Name, ID card and face compared by Tencent Cloud's faceid (2018-03-01).

https://cloud.tencent.com/document/product/1007. `IdCardVerification` compares name and number with
the register, `ImageRecognition` a photo with the picture that is kept there.
"""

import base64
import datetime
import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.transport.http_post import NoReply
from adapters.transport.tc3_post import CloudAccount, Tc3Poster

SERVICE = "faceid"
VERSION = "2018-03-01"
LEAST_SIMILARITY = 80.0
"""Of 100; at 80 one in ten thousand others passes, at 70 one in a thousand, says the service."""

# Of the results that are no match, those that say nothing about the person: ask again later.
_AWAY = ("-4", "-6", "-7")
_AWAY_WORDS = ("ServiceUnavailable", "SystemError", "Timeout", "Limit", "UnKnown", "Unknown")


class Answer(enum.Enum):
    """What the service found."""

    SAME = "same"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One comparison; `code` is the service's own, `similarity` 0 to 100 where a face was seen."""

    answer: Answer
    code: str
    detail: str = ""
    similarity: float | None = None
    request_id: str = ""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class FaceidClient:
    """Asks the service; every outcome is a value."""

    def __init__(
        self,
        account: CloudAccount,
        *,
        reply_seconds: float = 10.0,
        clock: Callable[[], datetime.datetime] = _now,
    ) -> None:
        self._poster = Tc3Poster(
            account, service=SERVICE, version=VERSION, reply_seconds=reply_seconds, clock=clock
        )

    async def compare(self, name: str, number: str, photo: bytes | None = None) -> Compared:
        """Compare name and number with the register, and a photo (JPEG, PNG) where there is one."""
        asked = {"Name": name, "IdCard": number}
        if photo is None:
            return await self._ask("IdCardVerification", asked)
        asked["ImageBase64"] = base64.b64encode(photo).decode()
        return await self._ask("ImageRecognition", asked)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._poster.close()

    async def _ask(self, action: str, asked: dict[str, str]) -> Compared:
        reply = await self._poster.post(action, asked)
        if isinstance(reply, NoReply):
            return Compared(answer=Answer.UNKNOWN, code=reply.reason)
        try:
            found = json.loads(reply.body)["Response"]
            error = found.get("Error")
        except (ValueError, KeyError, TypeError, AttributeError):
            return Compared(answer=Answer.UNKNOWN, code=f"http-{reply.status}")
        if error:
            return Compared(
                answer=Answer.UNKNOWN,
                code=str(error.get("Code", "")),
                detail=str(error.get("Message", "")),
                request_id=str(found.get("RequestId", "")),
            )
        return _read(action, found)


def _read(action: str, found: dict[str, Any]) -> Compared:
    """Return what an answer says: of a number alone, or of a face."""
    code = str(found.get("Result", ""))
    similarity = None
    if action == "IdCardVerification":
        answer = Answer.SAME if code == "0" else Answer.DIFFERS
        is_away = code in _AWAY
    else:
        try:
            similarity = float(found.get("Sim") or 0)
        except (TypeError, ValueError):
            similarity = 0.0
        is_same = code == "Success" and similarity >= LEAST_SIMILARITY
        answer = Answer.SAME if is_same else Answer.DIFFERS
        is_away = any(word in code for word in _AWAY_WORDS)
    return Compared(
        answer=Answer.UNKNOWN if is_away or not code else answer,
        code=code,
        detail=str(found.get("Description", "")),
        similarity=similarity,
        request_id=str(found.get("RequestId", "")),
    )
