"""SMS by Tencent Cloud's signed REST interface (SendSms, 2021-01-11).

https://cloud.tencent.com/document/product/382/55981. `SessionContext` carries our key, by which
PullSmsSendStatusByPhoneNumber finds what became of a message whose answer was lost.
"""

import datetime
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.notify.notice_text import read_notice
from adapters.port import Outgoing, Receipt, Verdict
from adapters.transport.http_post import NoReply
from adapters.transport.tc3_post import CloudAccount, Tc3Poster

SERVICE = "sms"
VERSION = "2021-01-11"
_REMEMBERED = 10_000
_ASK_BACK = datetime.timedelta(hours=12)

# Certainly not taken and not the notice's fault: it may go again.
_DEFERRED = (
    "RequestLimitExceeded",
    "LimitExceeded.DeliveryFrequencyLimit",
    "AuthFailure",
    "FailedOperation.InsufficientBalanceInSmsPackage",
    "ResourceUnavailable",
)
_UNKNOWN = ("InternalError",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsAccount(CloudAccount):
    """The account for SMS: which application sends, under which signature."""

    app_id: str
    sign_name: str


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class SmsSender:
    """Sends notices as SMS to numbers of mainland China."""

    def __init__(
        self,
        account: SmsAccount,
        *,
        reply_seconds: float = 10.0,
        clock: Callable[[], datetime.datetime] = _now,
    ) -> None:
        self._account = account
        self._clock = clock
        self._poster = Tc3Poster(
            account, service=SERVICE, version=VERSION, reply_seconds=reply_seconds, clock=clock
        )
        # Where to ask for a key; after a restart an unknown one waits for a person.
        self._numbers: OrderedDict[str, str] = OrderedDict()

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Send once."""
        try:
            notice = read_notice(outgoing.payload)
        except ValueError:
            return Receipt(verdict=Verdict.REFUSED, code="no-notice")
        number = notice.to if notice.to.startswith("+") else f"+86{notice.to}"
        self._numbers[outgoing.key] = number
        while len(self._numbers) > _REMEMBERED:
            self._numbers.popitem(last=False)
        asked = {
            "PhoneNumberSet": [number],
            "SmsSdkAppId": self._account.app_id,
            "SignName": self._account.sign_name,
            "TemplateId": notice.template,
            "TemplateParamSet": list(notice.parameters),
            "SessionContext": outgoing.key,
        }
        reply = await self._call("SendSms", asked)
        if isinstance(reply, Receipt):
            return reply
        found, raw = reply
        statuses = found.get("SendStatusSet") or [{}]
        status = statuses[0]
        if status.get("Code") == "Ok":
            return Receipt(
                verdict=Verdict.ACCEPTED,
                code="Ok",
                reference=str(status.get("SerialNo", "")),
                raw=raw,
            )
        return _failed(str(status.get("Code", "")), str(status.get("Message", "")), raw)

    async def ask(self, key: str) -> Receipt:
        """Ask what became of a message by its number and our key."""
        number = self._numbers.get(key)
        if number is None:
            return Receipt(verdict=Verdict.UNKNOWN, code="number-forgotten")
        asked = {
            "BeginTime": int((self._clock() - _ASK_BACK).timestamp()),
            "Offset": 0,
            "Limit": 100,
            "PhoneNumber": number,
            "SmsSdkAppId": self._account.app_id,
        }
        reply = await self._call("PullSmsSendStatusByPhoneNumber", asked)
        if isinstance(reply, Receipt):
            return Receipt(verdict=Verdict.UNKNOWN, code=reply.code, detail=reply.detail)
        found, raw = reply
        for one in found.get("PullSmsSendStatusSet") or ():
            if one.get("SessionContext") == key:
                is_done = one.get("ReportStatus") == "SUCCESS"
                return Receipt(
                    verdict=Verdict.ACCEPTED if is_done else Verdict.REFUSED,
                    code=str(one.get("ReportStatus", "")),
                    detail=str(one.get("Description", "")),
                    reference=str(one.get("SerialNo", "")),
                    raw=raw,
                )
        return Receipt(verdict=Verdict.DEFERRED, code="not-sent", raw=raw)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._poster.close()

    async def _call(
        self, action: str, asked: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes] | Receipt:
        reply = await self._poster.post(action, asked)
        if isinstance(reply, NoReply):
            verdict = Verdict.DEFERRED if reply.reason == "connect" else Verdict.UNKNOWN
            return Receipt(verdict=verdict, code=reply.reason)
        if reply.status in (429, 503):
            return Receipt(verdict=Verdict.DEFERRED, code=f"http-{reply.status}", raw=reply.body)
        try:
            found = json.loads(reply.body)["Response"]
            error = found.get("Error")
        except (ValueError, KeyError, TypeError, AttributeError):
            return Receipt(verdict=Verdict.UNKNOWN, code="unreadable", raw=reply.body)
        if error:
            return _failed(str(error.get("Code", "")), str(error.get("Message", "")), reply.body)
        return found, reply.body


def _failed(code: str, message: str, raw: bytes) -> Receipt:
    verdict = Verdict.REFUSED
    if code.startswith(_UNKNOWN) or not code:
        verdict = Verdict.UNKNOWN
    elif code.startswith(_DEFERRED):
        verdict = Verdict.DEFERRED
    return Receipt(verdict=verdict, code=code, detail=message, raw=raw)
