"""The SMS cloud and WeChat on real sockets, with a ledger and moods on a seed."""

import asyncio
import contextlib
import datetime
import io
import json
import pathlib
import random
import secrets
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import qrcode

from adapters.notify.sms import SERVICE, VERSION
from adapters.notify.wechat_codes import SCENE
from adapters.transport import tc3
from adapters.transport.http_serving import Receive, Scope, Send

_MOST_BYTES = 65_536
_TOKEN_SECONDS = 7200

SMS_MOODS: Mapping[str, str] = {
    "busy": "answers 503 and sends nothing",
    "limit": "RequestLimitExceeded, sends nothing",
    "timeout": "sends and never answers",
    "internal": "InternalError, sends nothing",
    "blacklist": "FailedOperation.PhoneNumberInBlacklist",
    "daily": "LimitExceeded.PhoneNumberDailyLimit",
}
WECHAT_MOODS: Mapping[str, str] = {
    "busy": "errcode -1, sends nothing",
    "expired": "errcode 42001 once, the token has ended early",
    "invalid": "errcode 40001 once, the token was replaced",
    "refused": "errcode 43101, the person took no subscription",
    "quota": "errcode 45009, no calls left today",
    "timeout": "sends and never answers",
}


@dataclass(slots=True, kw_only=True)
class NotifySimulator:
    """What both share: the ledger of what was sent, moods, and being an ASGI application."""

    ledger: pathlib.Path
    moods: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    hang_seconds: float = 60.0
    most_bytes: int = _MOST_BYTES
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - moods, no secret
        self.ledger.parent.mkdir(parents=True, exist_ok=True)

    def entries(self) -> list[dict[str, Any]]:
        """Return what was sent, in its order."""
        if not self.ledger.exists():
            return []
        return [json.loads(line) for line in self.ledger.read_text("utf-8").splitlines()]

    def mood(self) -> str:
        """Draw how the next request is treated; empty is well."""
        drawn = self._chance.random()
        for name, share in self.moods.items():
            if drawn < share:
                return name
            drawn -= share
        return ""

    def enter(self, **entry: Any) -> None:
        """Write down what was sent before it is answered."""
        with self.ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; one that hangs answers nothing while the caller waits."""
        if scope["type"] != "http":
            return
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body") or len(body) > self.most_bytes:
                break
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        status, answer = self.answer(scope["path"], query, headers, bytes(body))
        if status == 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.hang_seconds):
                    while (await receive())["type"] != "http.disconnect":
                        pass
            return
        is_image = isinstance(answer, bytes)
        content = answer if is_image else json.dumps(answer, ensure_ascii=False).encode()
        kind = b"image/jpeg" if is_image else b"application/json; charset=utf-8"
        start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind)],
        }
        await send(start)
        await send({"type": "http.response.body", "body": content})

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        """Return HTTP status and JSON, or the bytes of an image; status 0 is silence."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class SmsSimulator(NotifySimulator):
    """The SMS cloud: checks the signature, sends, and knows what it sent."""

    secret_id: str = "AKIDsimulated"  # noqa: S105 - of a simulator
    secret_key: str = "simulated"  # noqa: S105 - of a simulator

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        """Answer SendSms and PullSmsSendStatusByPhoneNumber."""
        wrong = tc3.check(
            headers,
            body,
            secret_id=self.secret_id,
            secret_key=self.secret_key,
            service=SERVICE,
            now=datetime.datetime.now(datetime.UTC),
        )
        action = headers.get("x-tc-action")
        if wrong is None and headers.get("x-tc-version") != VERSION:
            wrong = "NoSuchVersion"
        if wrong is not None:
            return 200, _error(wrong)
        try:
            asked = json.loads(body)
        except ValueError:
            return 200, _error("InvalidParameter")
        if action == "PullSmsSendStatusByPhoneNumber":
            return 200, self._pull(asked)
        if action != "SendSms":
            return 200, _error("InvalidAction")
        return self._send(asked)

    def _pull(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = [
            {
                "SerialNo": one["serial"],
                "PhoneNumber": one["to"],
                "ReportStatus": "SUCCESS",
                "Description": "DELIVRD",
                "SessionContext": one["key"],
            }
            for one in self.entries()
            if one["to"] == asked.get("PhoneNumber")
        ]
        return {"Response": {"PullSmsSendStatusSet": found, "RequestId": secrets.token_hex(8)}}

    def _send(self, asked: Mapping[str, Any]) -> tuple[int, Any]:
        mood = self.mood()
        if mood == "busy":
            return 503, {}
        if mood in ("limit", "internal"):
            return 200, _error("RequestLimitExceeded" if mood == "limit" else "InternalError")
        number = str((asked.get("PhoneNumberSet") or [""])[0])
        code = {
            "blacklist": "FailedOperation.PhoneNumberInBlacklist",
            "daily": "LimitExceeded.PhoneNumberDailyLimit",
        }.get(mood, "Ok")
        if not (number.startswith("+86") and number[3:].isdigit() and len(number) == 14):
            code = "InvalidParameterValue.IncorrectPhoneNumber"
        if not asked.get("TemplateId"):
            code = "FailedOperation.TemplateIncorrectOrUnapproved"
        serial = secrets.token_hex(8)
        if code == "Ok":
            self.enter(
                to=number,
                template=asked["TemplateId"],
                parameters=asked.get("TemplateParamSet", []),
                key=asked.get("SessionContext", ""),
                serial=serial,
            )
        if mood == "timeout":
            return 0, {}
        status = {
            "SerialNo": serial if code == "Ok" else "",
            "PhoneNumber": number,
            "Fee": int(code == "Ok"),
            "SessionContext": asked.get("SessionContext", ""),
            "Code": code,
            "Message": "send success" if code == "Ok" else code,
            "IsoCode": "CN",
        }
        answer = {"SendStatusSet": [status], "RequestId": secrets.token_hex(8)}
        return 200, {"Response": answer}


@dataclass(slots=True, kw_only=True)
class WechatSimulator(NotifySimulator):
    """WeChat: hands out access tokens, sends subscription messages and makes codes."""

    app_id: str = "wxsimulated"
    secret: str = "simulated"  # noqa: S105 - of a simulator
    token_seconds: float = _TOKEN_SECONDS
    fetched: int = 0
    _token: str = ""
    _ends: float = 0.0

    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        """Answer stable_token, subscribe/send and getwxacodeunlimit."""
        try:
            asked = json.loads(body)
        except ValueError:
            return 200, {"errcode": 47001, "errmsg": "data format error"}
        if path == "/cgi-bin/stable_token":
            return 200, self._stable_token(asked)
        if path == "/cgi-bin/message/subscribe/send":
            return self._send(query.get("access_token", ""), asked)
        if path == "/wxa/getwxacodeunlimit":
            return self._code(query.get("access_token", ""), asked)
        return 404, {"errcode": 404, "errmsg": "no such interface"}

    def end_token(self) -> None:
        """Let the token end before its time."""
        self._ends = 0.0

    def _stable_token(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if asked.get("appid") != self.app_id:
            return {"errcode": 40013, "errmsg": "invalid appid"}
        if asked.get("secret") != self.secret:
            return {"errcode": 40125, "errmsg": "invalid appsecret"}
        self.fetched += 1
        if not self._token or asked.get("force_refresh") or time.monotonic() >= self._ends:
            self._token = secrets.token_urlsafe(24)
            self._ends = time.monotonic() + self.token_seconds
        lasts = int(self._ends - time.monotonic())
        return {"access_token": self._token, "expires_in": lasts}

    def _code(self, token: str, asked: Mapping[str, Any]) -> tuple[int, Any]:
        mood, refusal = self._let_in(token)
        if refusal is not None:
            return 200, refusal
        scene = str(asked.get("scene", ""))
        if not SCENE.fullmatch(scene):
            return 200, {"errcode": 40169, "errmsg": "invalid length for scene"}
        if str(asked.get("page", "")).startswith("/"):
            return 200, {"errcode": 41030, "errmsg": "invalid page"}
        self.enter(scene=scene, page=str(asked.get("page", "")))
        if mood == "timeout":
            return 0, {}
        image = io.BytesIO()
        qrcode.make(f"wxacode:{self.app_id}/{asked.get('page', '')}?scene={scene}").save(
            image, "JPEG"
        )
        return 200, image.getvalue()

    def _let_in(self, token: str) -> tuple[str, dict[str, Any] | None]:
        """Return the mood of a call and what it is refused with, if it is."""
        if token != self._token or not token:
            return "", {"errcode": 40001, "errmsg": "invalid credential"}
        if time.monotonic() >= self._ends:
            return "", {"errcode": 42001, "errmsg": "access_token expired"}
        mood = self.mood()
        if mood in ("expired", "invalid"):
            self._token = secrets.token_urlsafe(24)
            code = 42001 if mood == "expired" else 40001
            return mood, {"errcode": code, "errmsg": "access_token is gone"}
        codes = {"busy": -1, "refused": 43101, "quota": 45009}
        if mood in codes:
            return mood, {"errcode": codes[mood], "errmsg": WECHAT_MOODS[mood]}
        return mood, None

    def _send(self, token: str, asked: Mapping[str, Any]) -> tuple[int, Any]:
        mood, refusal = self._let_in(token)
        if refusal is not None:
            return 200, refusal
        wrong = _wrong_message(asked)
        if wrong is not None:
            return 200, wrong
        number = secrets.randbelow(2**48)
        words = [one["value"] for one in asked["data"].values()]
        self.enter(
            to=asked["touser"], template=asked["template_id"], parameters=words, serial=str(number)
        )
        if mood == "timeout":
            return 0, {}
        return 200, {"errcode": 0, "errmsg": "ok", "msgid": number}


def _wrong_message(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    if not asked.get("touser"):
        return {"errcode": 40003, "errmsg": "invalid openid"}
    if not asked.get("template_id"):
        return {"errcode": 40037, "errmsg": "invalid template_id"}
    for name, one in (asked.get("data") or {"": None}).items():
        if not isinstance(one, dict) or not 0 < len(str(one.get("value", ""))) <= 20:
            return {"errcode": 47003, "errmsg": f"argument invalid! data.{name}.value invalid"}
    return None


def _error(code: str) -> dict[str, Any]:
    error = {"Code": code, "Message": code}
    return {"Response": {"Error": error, "RequestId": secrets.token_hex(8)}}


def read_moods(text: str, known: Mapping[str, str]) -> dict[str, float]:
    """Return moods of `none` or `name=share,…`; ValueError with those there are."""
    found: dict[str, float] = {}
    for part in text.split(",") if text != "none" else ():
        name, _, share = part.partition("=")
        if name not in known:
            raise ValueError(f"no mood {name}; there are {', '.join(known)}")
        found[name] = float(share or 1)
    return found
