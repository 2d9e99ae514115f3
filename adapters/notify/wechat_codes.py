"""The mini program's own code (getwxacodeunlimit): an image that opens a page with a scene.

https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getUnlimitedQRCode.html
"""

import re
from dataclasses import dataclass

from adapters.notify.wechat_api import Refusal, WechatAccount, WechatApi

SCENE = re.compile(r"[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]{1,32}")
"""What a scene may hold, as the interface says."""
_PIXELS = 430


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeImage:
    """An image with its media type; without one, `code` and `detail` are the interface's own."""

    kind: str = ""
    data: bytes = b""
    code: str = ""
    detail: str = ""


class WechatCodes:
    """Makes codes of one mini program; every outcome is a value."""

    def __init__(self, account: WechatAccount, *, reply_seconds: float = 10.0) -> None:
        self._account = account
        self._api = WechatApi(account, reply_seconds=reply_seconds)

    async def make(self, scene: str) -> CodeImage:
        """Return the code that opens the account's page with this scene."""
        if not SCENE.fullmatch(scene):
            raise ValueError("a scene has 1 to 32 of the characters that are allowed")
        asked = {"scene": scene, "check_path": False, "width": _PIXELS}
        if self._account.page:
            asked["page"] = self._account.page
        reply = await self._api.call("/wxa/getwxacodeunlimit", asked)
        if isinstance(reply, Refusal):
            return CodeImage(code=reply.receipt.code, detail=reply.receipt.detail)
        if reply.content:
            detail = str(reply.content.get("errmsg", ""))
            return CodeImage(code=str(reply.code), detail=detail)
        return CodeImage(kind=reply.kind, data=reply.raw)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._api.close()
