"""The SMS by which both sides confirm a relation: built from the settings, handed to the operation.

A code is told to nobody else: it is no Communication, and no row of the outbox keeps it.
"""

import contextlib

from adapters.notify.notice_text import NoticeText
from adapters.port import Outgoing, Verdict
from ops.notice_channels import sms_sender, template_ids
from ops.settings import Settings
from routes.operations.relation import Relations

KIND = "verification"
_GONE = frozenset({Verdict.ACCEPTED, Verdict.UNKNOWN})


def relations(settings: Settings, stack: contextlib.AsyncExitStack) -> Relations:
    """Return the operations with the SMS that is set up; the stack closes its sockets."""
    sender = sms_sender(settings)
    if sender is None:
        return Relations()
    stack.push_async_callback(sender.close)
    templates = template_ids(settings.sms_templates)

    async def send_code(phone: str, code: str, key: str) -> str | None:
        notice = NoticeText(
            to=phone,
            template=templates.get(KIND, templates.get("*", "")),
            parameters=(code,),
            text=code,
        )
        receipt = await sender.send(Outgoing(key=key, payload=notice.to_bytes()))
        return None if receipt.verdict in _GONE else receipt.code or str(receipt.verdict)

    return Relations(send_code=send_code)
