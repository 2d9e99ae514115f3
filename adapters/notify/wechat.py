"""WeChat subscription messages (subscribeMessage.send) with the access token that they need.

https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
The token is the stable one (stable_token): asking for it in one process leaves those of others
valid. One that is refused (40001, 40014, 42001) is fetched anew, once for each send.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from adapters.notify.notice_text import NoticeText, read_notice
from adapters.port import Outgoing, Receipt, Verdict

_TOKEN_REFUSED = frozenset({40001, 40014, 42001})
_DEFERRED = frozenset({-1, 45009, 45011, 48001})
_EARLY_SECONDS = 300.0  # a token that is about to end is not begun with
_LONGEST_THING = 20  # characters that the provider allows in one `thing`


@dataclass(frozen=True, slots=True, kw_only=True)
class WechatAccount:
    """The mini program; `endpoint` is `https://api.weixin.qq.com`."""

    endpoint: str
    app_id: str
    secret: str
    page: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """What stands for an answer that gave nothing."""

    receipt: Receipt


class WechatSender:
    """Sends notices as subscription messages to an openid."""

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

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Send once; a token that is refused is fetched anew before it counts as an answer."""
        try:
            notice = read_notice(outgoing.payload)
        except ValueError:
            return Receipt(verdict=Verdict.REFUSED, code="no-notice")
        refused = ""
        for _ in range(2):
            token = await self._fresh_token(refused)
            if isinstance(token, _Refusal):
                return token.receipt
            receipt, code = await self._send_with(token, notice)
            if code not in _TOKEN_REFUSED:
                return receipt
            refused = token
        return Receipt(verdict=Verdict.DEFERRED, code=receipt.code, detail=receipt.detail)

    async def ask(self, key: str) -> Receipt:
        """Say that nothing is known: the provider has no query."""
        return Receipt(verdict=Verdict.UNKNOWN, code="no-query", detail=key)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._client.aclose()

    async def _send_with(self, token: str, notice: NoticeText) -> tuple[Receipt, int]:
        words = notice.parameters or (notice.text,)
        asked = {
            "touser": notice.to,
            "template_id": notice.template,
            "page": self._account.page,
            "data": {
                f"thing{n}": {"value": word[:_LONGEST_THING]} for n, word in enumerate(words, 1)
            },
            "lang": "zh_CN",
        }
        path = f"/cgi-bin/message/subscribe/send?access_token={token}"
        found = await self._post(path, asked)
        if isinstance(found, _Refusal):
            return found.receipt, 0
        answer, raw = found
        code = int(answer.get("errcode", -1))
        detail = str(answer.get("errmsg", ""))
        if code == 0:
            reference = str(answer.get("msgid", ""))
            return Receipt(verdict=Verdict.ACCEPTED, code="0", reference=reference, raw=raw), 0
        verdict = Verdict.DEFERRED if code in _DEFERRED | _TOKEN_REFUSED else Verdict.REFUSED
        return Receipt(verdict=verdict, code=str(code), detail=detail, raw=raw), code

    async def _fresh_token(self, refused: str) -> str | _Refusal:
        """Return a token that is not the refused one; several sends at once fetch it once."""
        async with self._fetching:
            if self._token and self._token != refused and self._monotonic() < self._token_ends:
                return self._token
            asked = {
                "grant_type": "client_credential",
                "appid": self._account.app_id,
                "secret": self._account.secret,
                "force_refresh": bool(refused),
            }
            found = await self._post("/cgi-bin/stable_token", asked)
            if isinstance(found, _Refusal):
                # Without a token nothing was sent, whatever became of this request.
                return _Refusal(receipt=Receipt(verdict=Verdict.DEFERRED, code=found.receipt.code))
            answer, raw = found
            token = answer.get("access_token")
            if not isinstance(token, str) or not token:
                code, detail = str(answer.get("errcode", "")), str(answer.get("errmsg", ""))
                return _Refusal(
                    receipt=Receipt(verdict=Verdict.DEFERRED, code=code, detail=detail, raw=raw)
                )
            self._token = token
            lasts = float(answer.get("expires_in", 0))
            self._token_ends = self._monotonic() + max(0.0, lasts - min(_EARLY_SECONDS, lasts / 2))
            return token

    async def _post(
        self, path: str, asked: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes] | _Refusal:
        body = json.dumps(asked, ensure_ascii=False).encode()
        try:
            reply = await self._client.post(
                path, content=body, headers={"content-type": "application/json"}
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return _Refusal(receipt=Receipt(verdict=Verdict.DEFERRED, code="connect"))
        except httpx.HTTPError as failure:
            code = type(failure).__name__
            return _Refusal(receipt=Receipt(verdict=Verdict.UNKNOWN, code=code))
        if reply.status_code in (429, 502, 503):
            code = f"http-{reply.status_code}"
            return _Refusal(receipt=Receipt(verdict=Verdict.DEFERRED, code=code))
        try:
            found = json.loads(reply.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            receipt = Receipt(verdict=Verdict.UNKNOWN, code="unreadable", raw=reply.content)
            return _Refusal(receipt=receipt)
        return found, reply.content
