"""WeChat's server interface: calls with the access token that they need.

The token is the stable one (stable_token): asking for it in one process leaves those of others
valid. One that is refused (40001, 40014, 42001) is fetched anew, once for each call.
https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getStableAccessToken.html
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from adapters.port import Receipt, Verdict

TOKEN_REFUSED = frozenset({40001, 40014, 42001})
_EARLY_SECONDS = 300.0  # a token that is about to end is not begun with


@dataclass(frozen=True, slots=True, kw_only=True)
class WechatAccount:
    """The mini program; `endpoint` is `https://api.weixin.qq.com`."""

    endpoint: str
    app_id: str
    secret: str
    page: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What stands for an answer that gave nothing."""

    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: a JSON object, or a file (`kind` is its media type, `content` empty)."""

    raw: bytes
    content: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "application/json"

    @property
    def code(self) -> int:
        """Return `errcode`; 0 of a file, -1 where an object has none."""
        return int(self.content.get("errcode", -1)) if self.content else 0


class WechatApi:
    """Calls the interface for one mini program; every outcome is a value."""

    def __init__(
        self,
        account: WechatAccount,
        *,
        reply_seconds: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._monotonic = monotonic
        self._client = httpx.AsyncClient(
            base_url=account.endpoint, timeout=reply_seconds, trust_env=False
        )
        self._token = ""
        self._token_ends = 0.0
        self._fetching = asyncio.Lock()

    async def call(self, path: str, asked: Mapping[str, Any]) -> Reply | Refusal:
        """Post once; a token that is refused is fetched anew before it counts as an answer."""
        refused = ""
        for attempt in range(2):
            token = await self._fresh_token(refused)
            if isinstance(token, Refusal):
                return token
            reply = await self._post(f"{path}?access_token={token}", asked)
            if isinstance(reply, Refusal) or reply.code not in TOKEN_REFUSED or attempt:
                return reply
            refused = token
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._client.aclose()

    async def _fresh_token(self, refused: str) -> str | Refusal:
        """Return a token that is not the refused one; several calls at once fetch it once."""
        async with self._fetching:
            if self._token and self._token != refused and self._monotonic() < self._token_ends:
                return self._token
            asked = {
                "grant_type": "client_credential",
                "appid": self._account.app_id,
                "secret": self._account.secret,
                "force_refresh": bool(refused),
            }
            reply = await self._post("/cgi-bin/stable_token", asked)
            if isinstance(reply, Refusal):
                # Without a token nothing was sent, whatever became of this request.
                return Refusal(receipt=Receipt(verdict=Verdict.DEFERRED, code=reply.receipt.code))
            token = reply.content.get("access_token")
            if not isinstance(token, str) or not token:
                code = str(reply.content.get("errcode", ""))
                detail = str(reply.content.get("errmsg", ""))
                receipt = Receipt(verdict=Verdict.DEFERRED, code=code, detail=detail, raw=reply.raw)
                return Refusal(receipt=receipt)
            self._token = token
            lasts = float(reply.content.get("expires_in", 0))
            self._token_ends = self._monotonic() + max(0.0, lasts - min(_EARLY_SECONDS, lasts / 2))
            return token

    async def _post(self, path: str, asked: Mapping[str, Any]) -> Reply | Refusal:
        body = json.dumps(asked, ensure_ascii=False).encode()
        try:
            reply = await self._client.post(
                path, content=body, headers={"content-type": "application/json"}
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Refusal(receipt=Receipt(verdict=Verdict.DEFERRED, code="connect"))
        except httpx.HTTPError as failure:
            code = type(failure).__name__
            return Refusal(receipt=Receipt(verdict=Verdict.UNKNOWN, code=code))
        if reply.status_code in (429, 502, 503):
            code = f"http-{reply.status_code}"
            return Refusal(receipt=Receipt(verdict=Verdict.DEFERRED, code=code))
        kind = reply.headers.get("content-type", "").partition(";")[0].strip()
        if kind.startswith("image/"):
            return Reply(raw=reply.content, kind=kind)
        try:
            found = json.loads(reply.content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not found:
            receipt = Receipt(verdict=Verdict.UNKNOWN, code="unreadable", raw=reply.content)
            return Refusal(receipt=receipt)
        return Reply(content=found, raw=reply.content)
