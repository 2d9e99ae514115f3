"""The province's sender: SOAP by prepared templates over HTTP; every outcome is a verdict.

zeep is the oracle in the tests: it reads the packaged WSDL and must make and understand the same
messages (docs/decisions: SOAP by template).
"""

import datetime
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapters.envelope.profile import EnvelopeProfile, profile_of
from adapters.envelope.seal import seal
from adapters.port import Outgoing, Receipt, Verdict
from adapters.province.error_table import read_error_table
from adapters.safe_xml import Element
from adapters.transport.http_post import HttpPoster, NoReply
from adapters.transport.soap import CONTENT_TYPE, Fault, read_body, to_element, to_message

PROVINCE = "urn:qiao:province:1"
MOST_REPLY_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who we are at the province: endpoint, codes and the shared key."""

    endpoint: str
    key: bytes
    org_code: str
    org_name: str
    system_code: str = "QIAO"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    code: str  # "" where a body came back to be read
    body: bytes = b""


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class ProvinceSender:
    """A destination that speaks the province's SOAP. Never raises."""

    def __init__(
        self,
        *,
        account: Account,
        connect_seconds: float = 5.0,
        reply_seconds: float = 30.0,
        connections: int = 16,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], datetime.datetime] = _now,
    ) -> None:
        self._account = account
        self._clock = clock
        self._upload = profile_of("province_upload")
        self._query = profile_of("province_query")
        self._meanings = read_error_table()
        self._http = HttpPoster(
            account.endpoint,
            connect_seconds=connect_seconds,
            reply_seconds=reply_seconds,
            connections=connections,
            most_bytes=MOST_REPLY_BYTES,
            tls=tls,
        )

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Upload one document; facts may say bizType, opType, batchNo and dataVersion."""
        facts = outgoing.facts
        now = self._clock()
        fields = {
            "orgCode": self._account.org_code,
            "orgName": self._account.org_name,
            "sysCode": self._account.system_code,
            "bizType": facts.get("bizType", "resident"),
            "opType": facts.get("opType", "A"),
            "batchNo": facts.get("batchNo", now.strftime("%Y%m%d")),
            "msgId": outgoing.key,
            "dataVersion": facts.get("dataVersion", ""),
        }
        request = self._sealed("Upload", self._upload, fields, outgoing.payload, now)
        if isinstance(request, Receipt):
            return request
        return self._judge(await self._post("Upload", request), outgoing.key)

    async def ask(self, key: str) -> Receipt:
        """Query the receipt of a message id; a query that fails tells nothing."""
        fields = {
            "orgCode": self._account.org_code,
            "sysCode": self._account.system_code,
            "msgId": key,
        }
        request = self._sealed("QueryReceipt", self._query, fields, b"", self._clock())
        receipt = (
            request
            if isinstance(request, Receipt)
            else self._judge(await self._post("QueryReceipt", request), key)
        )
        if receipt.code not in self._meanings or self._meanings[receipt.code].settles:
            return receipt
        return Receipt(
            verdict=Verdict.UNKNOWN, code=receipt.code, detail=receipt.detail, raw=receipt.raw
        )

    async def heartbeat(self) -> Receipt:
        """Ask whether the province answers at all."""
        content = to_element("sysCode", self._account.system_code)
        reply = await self._post("Heartbeat", to_message(PROVINCE, "HeartbeatRequest", content))
        found = self._read(reply)
        if isinstance(found, Receipt):
            return found
        status = found.findtext(f"{{{PROVINCE}}}status") or ""
        verdict = Verdict.ACCEPTED if status == "up" else Verdict.DEFERRED
        return Receipt(verdict=verdict, code="heartbeat", detail=status, raw=reply.body)

    async def close(self) -> None:
        """Let go of the sockets."""
        await self._http.close()

    def _sealed(
        self,
        operation: str,
        profile: EnvelopeProfile,
        fields: Mapping[str, str],
        payload: bytes,
        now: datetime.datetime,
    ) -> bytes | Receipt:
        try:
            wire = seal(profile, fields, payload=payload, key=self._account.key, at=now)
        except ValueError as broken:
            return self._receipt("envelope", words=str(broken))
        content = "".join(to_element(name, text) for name, text in wire.items() if text)
        return to_message(PROVINCE, f"{operation}Request", content)

    async def _post(self, operation: str, request: bytes) -> _Reply:
        headers = {
            "content-type": CONTENT_TYPE,
            "soapaction": f'"{PROVINCE}/{operation}"',
            "accept-encoding": "identity",
        }
        found = await self._http.post(request, headers)
        if isinstance(found, NoReply):
            return _Reply(code="unreadable" if found.reason == "too-large" else found.reason)
        is_soap = found.headers.get("content-type", "").startswith("text/xml")
        if found.status == 200 or (found.status == 500 and is_soap):
            return _Reply(code="", body=found.body)
        return _Reply(code=f"http-{found.status}", body=found.body)

    def _read(self, reply: _Reply) -> Element | Receipt:
        if reply.code:
            return self._receipt(reply.code, raw=reply.body)
        found = read_body(reply.body, most_bytes=MOST_REPLY_BYTES)
        if not isinstance(found, Fault):
            return found
        code = f"fault-{found.code}" if found.is_received else "unreadable"
        if found.is_received and found.reason in self._meanings:
            code = found.reason
        return self._receipt(code, raw=reply.body)

    def _judge(self, reply: _Reply, msg_id: str) -> Receipt:
        found = self._read(reply)
        if isinstance(found, Receipt):
            return found
        receipts = [
            receipt
            for receipt in found.iterfind(f"{{{PROVINCE}}}Receipt")
            if _text(receipt, "msgId") == msg_id
        ]
        if not receipts:
            return self._receipt("wrong-receipt", raw=reply.body)
        # The same receipt may come twice.
        if len({(_text(one, "status"), _text(one, "code")) for one in receipts}) > 1:
            return self._receipt("contradiction", raw=reply.body)
        fields = [
            f"{_text(error, 'field')} {_text(error, 'code')}"
            for error in receipts[0].iterfind(f"{{{PROVINCE}}}FieldError")
        ]
        return self._receipt(
            _text(receipts[0], "code"),
            status=_text(receipts[0], "status"),
            words=", ".join(fields),
            reference=_text(receipts[0], "registrationNo"),
            raw=reply.body,
        )

    def _receipt(
        self,
        code: str,
        *,
        status: str = "",
        words: str = "",
        reference: str = "",
        raw: bytes = b"",
    ) -> Receipt:
        meaning = self._meanings.get(code)
        by_status = {"accepted": Verdict.ACCEPTED, "refused": Verdict.REFUSED}
        verdict = meaning.verdict if meaning else by_status.get(status, Verdict.UNKNOWN)
        texts = [words, meaning.text if meaning else f"no row in errors.csv for code {code}"]
        return Receipt(
            verdict=verdict,
            code=code,
            detail="; ".join(filter(None, texts)),
            reference=reference,
            raw=raw,
        )


def _text(element: Element, name: str) -> str:
    return (element.findtext(f"{{{PROVINCE}}}{name}") or "").strip()
