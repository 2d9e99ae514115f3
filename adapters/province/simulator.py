"""A province on a real socket: SOAP over HTTP with its own WSDL, checks, ledger and moods."""

import asyncio
import contextlib
import datetime
import importlib.resources
import json
import pathlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from adapters.envelope.profile import profile_of
from adapters.envelope.seal import Refusal, open_envelope
from adapters.province.document_checks import SCHEMAS, all_checks
from adapters.province.error_table import read_error_table
from adapters.province.ledger import Entry, Ledger
from adapters.province.mischief import Mischief
from adapters.province.registration import Check, FieldError
from adapters.transport.http_serving import Receive, Scope, Send, serving_on_socket
from adapters.transport.soap import (
    CONTENT_TYPE,
    Fault,
    read_body,
    texts_of,
    to_element,
    to_fault,
    to_message,
)

PROVINCE = "urn:qiao:province:1"
PATH = "/registration"
MOST_BYTES = 2 * 2**20
_LOCAL = datetime.timezone(datetime.timedelta(hours=8))

_ENVELOPE_CODES = {
    "field-missing": "E1001",
    "field-format": "E1002",
    "field-unknown": "E1003",
    "sender-unknown": "E1004",
    "signature": "E1005",
    "clock": "E1006",
    "digest": "E1007",
    "payload-encoding": "E1008",
    "payload-size": "E1008",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer; `hang` answers nothing for as long as the caller waits."""

    status: int = 200
    body: bytes = b""
    content_type: str = CONTENT_TYPE
    hang: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receipt:
    msg_id: str
    status: str
    code: str
    registration_no: str = ""
    registered_at: str = ""
    errors: tuple[FieldError, ...] = ()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class ProvinceSimulator:
    """One simulated province. As an ASGI application it answers SOAP on `/registration`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        key: bytes,
        mischief: Mischief | None = None,
        checks: Mapping[str, Check] | None = None,
        clock: Callable[[], datetime.datetime] = _now,
        delay_seconds: float = 2.0,
        hang_seconds: float = 120.0,
    ) -> None:
        self.ledger = ledger
        self._key = key
        self._mischief = mischief or Mischief({}, 0)
        self._checks = checks or all_checks()
        self._clock = clock
        self._delay_seconds = delay_seconds
        self._hang_seconds = hang_seconds
        self._upload = profile_of("province_upload")
        self._query = profile_of("province_query")
        self._meanings = read_error_table()
        self._refused: dict[str, _Receipt] = {}
        wsdl = importlib.resources.files("adapters.province").joinpath("province.wsdl")
        self._wsdl = wsdl.read_text("utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        answer = await self._respond(scope, receive)
        if answer.hang:
            await self._hang(receive)
        headers = [(b"content-type", answer.content_type.encode())]
        if answer.status == 503:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _respond(self, scope: Scope, receive: Receive) -> Answer:
        method, path = scope["method"], scope["path"]
        if method == "GET" and path == PATH:
            wanted = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("xsd")
            return _schema(wanted[0]) if wanted else Answer(body=self._wsdl_for(scope).encode())
        if method == "GET" and path == "/health":
            state = json.dumps({"status": "up", "registered": len(self.ledger)})
            return Answer(body=state.encode(), content_type="application/json")
        if path != PATH:
            return Answer(status=404)
        if method != "POST":
            return Answer(status=405)
        headers = {name.lower(): value.lower() for name, value in scope["headers"]}
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip()
        if kind != b"text/xml" or headers.get(b"content-encoding", b"identity") != b"identity":
            text = "send text/xml without compression"
            return _fault(Fault(code="Client", text=text, reason="content-type"), status=415)
        body = await _body_of(receive)
        if body is None:
            text = f"the request is over {MOST_BYTES} bytes"
            return _fault(Fault(code="Client", text=text, reason="too-large"), status=413)
        return await self._soap(body)

    async def _soap(self, body: bytes) -> Answer:
        found = read_body(body, most_bytes=MOST_BYTES)
        if isinstance(found, Fault):
            return _fault(found)
        texts = texts_of(found, PROVINCE)
        if isinstance(texts, Fault):
            return _fault(texts)
        if found.tag == f"{{{PROVINCE}}}UploadRequest":
            return await self._take(texts)
        if found.tag == f"{{{PROVINCE}}}QueryReceiptRequest":
            return await self._tell(texts)
        if found.tag == f"{{{PROVINCE}}}HeartbeatRequest":
            return self._beat()
        return _fault(Fault(code="Client", text="no such operation", reason="operation"))

    async def _take(self, texts: Mapping[str, str]) -> Answer:
        opened = open_envelope(self._upload, texts, key_of=lambda _: self._key, at=self._clock())
        msg_id = texts.get("msgId", "")
        if isinstance(opened, Refusal):
            return self._receipts("Upload", _refused_envelope(msg_id, opened))
        mood = self._mischief.draw(msg_id)
        if mood == "busy":
            return Answer(status=503, body=b"busy", content_type="text/plain")
        if mood == "fault":
            text = "the service failed; nothing was taken"
            return _fault(Fault(code="Server", text=text, reason="E9001"))
        if mood == "refuse":
            error = FieldError(field="Phone", code="E2002", message="refused on purpose")
            receipt = _Receipt(msg_id=msg_id, status="refused", code="E2002", errors=(error,))
            self._refused[msg_id] = receipt
            return self._receipts("Upload", receipt)
        receipt = await self._register(opened.fields, opened.payload, texts["digest"])
        return await self._answer(receipt, mood)

    async def _answer(self, receipt: _Receipt, mood: str) -> Answer:
        if mood == "delay":
            await asyncio.sleep(self._delay_seconds)
        if mood == "timeout":
            return Answer(status=504, hang=True)
        if mood == "garbage":
            return Answer(body=b"<s:Envelope><s:Body><Receipt>\xff\xfe")
        if mood == "pending" and receipt.status == "accepted":
            receipt = _Receipt(msg_id=receipt.msg_id, status="pending", code="0002")
        return self._receipts("Upload", *([receipt] * (2 if mood == "twice" else 1)))

    async def _register(self, fields: Mapping[str, str], payload: bytes, digest: str) -> _Receipt:
        msg_id = fields["msgId"]
        known = self.ledger.find(msg_id)
        if known is not None:
            await self.ledger.settled(msg_id)
            if known.digest != digest:
                return _Receipt(msg_id=msg_id, status="refused", code="E3001")
            return _accepted(known, "0001")
        check = self._checks.get(fields["bizType"])
        if check is None:
            return _Receipt(msg_id=msg_id, status="refused", code="E3002")
        found = check(payload, self._clock().astimezone(_LOCAL).date(), self.ledger)
        if isinstance(found, list):
            receipt = _Receipt(
                msg_id=msg_id, status="refused", code=found[0].code, errors=tuple(found)
            )
            self._refused[msg_id] = receipt
            return receipt
        entry = Entry(
            msg_id=msg_id,
            registration_no=self.ledger.number_of(found.subject),
            org_code=fields["orgCode"],
            business_type=fields["bizType"],
            operation=fields["opType"],
            data_version=fields.get("dataVersion", ""),
            digest=digest,
            subject=found.subject,
            registered_at=self._clock().isoformat(timespec="milliseconds"),
            number=found.number,
            step=found.step,
        )
        self._refused.pop(msg_id, None)
        await self.ledger.enter(entry)
        return _accepted(entry, "0000")

    async def _tell(self, texts: Mapping[str, str]) -> Answer:
        opened = open_envelope(self._query, texts, key_of=lambda _: self._key, at=self._clock())
        msg_id = texts.get("msgId", "")
        if isinstance(opened, Refusal):
            return self._receipts("QueryReceipt", _refused_envelope(msg_id, opened))
        entry = self.ledger.find(msg_id)
        if entry is not None:
            await self.ledger.settled(msg_id)
            return self._receipts("QueryReceipt", _accepted(entry, "0000"))
        unknown = _Receipt(msg_id=msg_id, status="unknown", code="E4001")
        return self._receipts("QueryReceipt", self._refused.get(msg_id, unknown))

    def _beat(self) -> Answer:
        moment = self._clock().isoformat(timespec="seconds")
        content = to_element("status", "up") + to_element("serverTime", moment)
        return Answer(body=to_message(PROVINCE, "HeartbeatResponse", content))

    def _receipts(self, operation: str, *receipts: _Receipt) -> Answer:
        content = "".join(self._receipt_xml(receipt) for receipt in receipts)
        return Answer(body=to_message(PROVINCE, f"{operation}Response", content))

    def _receipt_xml(self, receipt: _Receipt) -> str:
        meaning = self._meanings[receipt.code]
        parts = [
            to_element("msgId", receipt.msg_id),
            to_element("status", receipt.status),
            to_element("code", receipt.code),
            to_element("message", f"{meaning.meaning_zh} / {meaning.meaning_en}"),
        ]
        if receipt.registration_no:
            parts.append(to_element("registrationNo", receipt.registration_no))
            parts.append(to_element("registeredAt", receipt.registered_at))
        for error in receipt.errors:
            texts = {"field": error.field, "code": error.code, "message": error.message}
            inside = "".join(to_element(name, text) for name, text in texts.items())
            parts.append(f"<FieldError>{inside}</FieldError>")
        return f"<Receipt>{''.join(parts)}</Receipt>"

    def _wsdl_for(self, scope: Scope) -> str:
        host, port = scope.get("server") or ("127.0.0.1", 80)
        return self._wsdl.replace("http://127.0.0.1/registration", f"http://{host}:{port}{PATH}")

    async def _hang(self, receive: Receive) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._hang_seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass


@contextlib.asynccontextmanager
async def running(
    simulator: ProvinceSimulator, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve the simulator and yield the address of its SOAP endpoint; port 0 takes a free one."""
    async with serving_on_socket(simulator, host=host, port=port) as address:
        yield f"{address}{PATH}"


def simulator_at(
    folder: pathlib.Path, *, key: bytes, faults: Mapping[str, float] | None = None, seed: int = 0
) -> ProvinceSimulator:
    """Return a simulator whose ledger stands in `folder/province-ledger.jsonl`."""
    ledger = Ledger(folder / "province-ledger.jsonl")
    return ProvinceSimulator(ledger=ledger, key=key, mischief=Mischief(faults or {}, seed))


def _accepted(entry: Entry, code: str) -> _Receipt:
    return _Receipt(
        msg_id=entry.msg_id,
        status="accepted",
        code=code,
        registration_no=entry.registration_no,
        registered_at=entry.registered_at,
    )


def _refused_envelope(msg_id: str, refusal: Refusal) -> _Receipt:
    code = _ENVELOPE_CODES[refusal.reason]
    error = FieldError(field=refusal.field, code=code, message=refusal.reason)
    return _Receipt(msg_id=msg_id, status="refused", code=code, errors=(error,))


def _fault(fault: Fault, status: int = 500) -> Answer:
    return Answer(status=status, body=to_fault(fault))


def _schema(name: str) -> Answer:
    """Answer the schema of a document, as the WSDL's words name it."""
    if name not in SCHEMAS:
        return Answer(status=404, body=b"there are " + ", ".join(SCHEMAS).encode())
    folder = importlib.resources.files("adapters.province")
    return Answer(body=folder.joinpath(SCHEMAS[name]).read_bytes())


async def _body_of(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)
