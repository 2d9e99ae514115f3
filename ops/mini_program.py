"""The mini program's codes: built from the settings, handed to the operation that invites."""

import contextlib

from adapters.notify.wechat_codes import WechatCodes
from ops.notice_channels import wechat_account
from ops.settings import Settings
from routes.operations.invitations import Invitations


def invitations(settings: Settings, stack: contextlib.AsyncExitStack) -> Invitations:
    """Return the operation with the mini program that is set up; the stack closes its sockets."""
    account = wechat_account(settings)
    if account is None:
        return Invitations()
    codes = WechatCodes(account)
    stack.push_async_callback(codes.close)

    async def draw(scene: str) -> tuple[str, bytes] | str:
        made = await codes.make(scene)
        return (made.kind, made.data) if made.data else f"{made.code} {made.detail}".strip()

    return Invitations(draw=draw)
