"""WeChat subscription messages (subscribeMessage.send).

https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
"""

import time
from collections.abc import Callable

from adapters.notify.notice_text import read_notice
from adapters.notify.wechat_api import TOKEN_REFUSED, Refusal, WechatAccount, WechatApi
from adapters.port import Outgoing, Receipt, Verdict

_DEFERRED = frozenset({-1, 45009, 45011, 48001}) | TOKEN_REFUSED
_LONGEST_THING = 20  # characters that the provider allows in one `thing`


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
        self._api = WechatApi(account, reply_seconds=reply_seconds, monotonic=monotonic)

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Send once."""
        try:
            notice = read_notice(outgoing.payload)
        except ValueError:
            return Receipt(verdict=Verdict.REFUSED, code="no-notice")
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
        reply = await self._api.call("/cgi-bin/message/subscribe/send", asked)
        if isinstance(reply, Refusal):
            return reply.receipt
        code, detail = reply.code, str(reply.content.get("errmsg", ""))
        if code == 0:
            reference = str(reply.content.get("msgid", ""))
            return Receipt(verdict=Verdict.ACCEPTED, code="0", reference=reference, raw=reply.raw)
        verdict = Verdict.DEFERRED if code in _DEFERRED else Verdict.REFUSED
        return Receipt(verdict=verdict, code=str(code), detail=detail, raw=reply.raw)

    async def ask(self, key: str) -> Receipt:
        """Say that nothing is known: the provider has no query."""
        return Receipt(verdict=Verdict.UNKNOWN, code="no-query", detail=key)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._api.close()
