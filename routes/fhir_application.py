"""The ASGI application below the FHIR base: request in, answer out, every failure named."""

import logging
import os
import re
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from starlette.types import Receive, Scope, Send

from conformance.problem import NotAuthenticated, Problem
from fhir_store.failures import outage_of
from routes.address import address_of
from routes.answer import Answer, outcome
from routes.auditing import answer_audited, note_stranger
from routes.bearer import ANYBODY
from routes.dispatch import handler_of
from routes.emergency import require_emergency_kept, with_purpose
from routes.hub import Hub
from routes.limits import Limits
from routes.native_binary import BINARY
from routes.negotiation import takes_gzip
from routes.receive_body import ClientGone, receive_body
from routes.registry import Handler, Registry
from routes.render import Rendered, render
from routes.request import (
    Address,
    Request,
    Shape,
    parse_query,
    preferences_of,
    request_id_of,
    take_shape,
)
from routes.statuses import headers_of, status_of, unexpected
from routes.whole_answer import EXTENSION

_HOST = re.compile(rb"[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?|\[[0-9a-fA-F:]{2,45}\](?::[0-9]{1,5})?")
# Operations that answer with the file itself where Accept names its media type.
_FILES = {"agreement-pdf": "application/pdf"}
# Where a Binary goes in or out in its native form.
_NATIVE = frozenset({"type/id", "type/id/_history/version"})
# Whoever may not come in may still learn how to.
_OPEN = frozenset({"metadata"})
_log = logging.getLogger("qiao.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirApplication:
    """Answers every request below the base; pure ASGI."""

    hub: Hub
    registry: Registry
    root: str = "/fhir"
    _numbers: Iterator[int] = field(default_factory=count)
    _process: str = field(default_factory=lambda: os.urandom(6).hex())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers, f"{self._process}-{next(self._numbers):x}")
        shape, name = Shape(), "unknown"
        try:
            try:
                request, name, handler = await self._read(scope, headers, receive, request_id)
                shape = request.shape
                answer = await answer_audited(self.hub, request, name, handler)
                rendered = self._render(answer, shape, scope, headers)
            except Problem as problem:
                rendered = self._render(
                    _refusal(problem), _shape_of(scope, headers), scope, headers
                )
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  the last place where a fault can get an answer
            _log_fault(error, request_id)
            away = outage_of(error)
            answer = outcome(500, [unexpected()]) if away is None else _refusal(away)
            rendered = self._render(answer, _shape_of(scope, headers), scope, headers)
        await send_rendered(rendered, request_id, scope, send)
        self.hub.observe(name, rendered.status, time.perf_counter() - started)

    async def _read(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, request_id: str
    ) -> tuple[Request, str, Handler]:
        method = scope["method"]
        address = address_of(scope["path"][len(self.root) :])
        name, handler = handler_of(self.registry, method, address)
        caller = ANYBODY
        if address.shape not in _OPEN:
            try:
                caller = await self.hub.identify(_text(headers.get(b"authorization")))
            except NotAuthenticated:
                note_stranger(self.hub, name, address, request_id)
                raise
        caller = with_purpose(caller, headers)
        if caller.emergency is not None:
            await require_emergency_kept(self.hub, caller, caller.emergency, request_id)
        prefer = preferences_of(headers)
        asked = parse_query(scope["query_string"], self.hub.limits)
        shape, query = take_shape(
            asked,
            _accepted(headers, method, address),
            address.member or address.type,
            is_lenient=prefer.is_lenient,
        )
        body = b""
        if method in {"POST", "PUT", "PATCH"}:
            body = await receive_body(
                receive,
                content_length=headers.get(b"content-length"),
                encoding=headers.get(b"content-encoding"),
                limits=self.hub.limits,
            )
        request = Request(
            method=method,
            address=address,
            query=query,
            asked=asked,
            headers=headers,
            body=body,
            shape=shape,
            prefer=prefer,
            caller=caller,
            base=self._base_of(scope, headers),
            request_id=request_id,
        )
        return request, name, handler

    def _base_of(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Return the base as the client knows it; a Host that is no host is not repeated."""
        if self.hub.base is not None:
            return self.hub.base
        host = headers.get(b"host", b"")
        if not _HOST.fullmatch(host):
            host = b"localhost"
        return f"{scope['scheme']}://{host.decode()}{self.root}"

    def _render(
        self, answer: Answer, shape: Shape, scope: Scope, headers: dict[bytes, bytes]
    ) -> Rendered:
        return render(
            answer,
            shape,
            is_head=scope["method"] == "HEAD",
            takes_gzip=takes_gzip(headers.get(b"accept-encoding", b"")),
            gzip_from=self.hub.limits.gzip_from_bytes,
        )


def _accepted(headers: dict[bytes, bytes], method: str, address: Address) -> str:
    """Return Accept; where the answer may be a file, what it may be besides is not judged here."""
    accept = _text(headers.get(b"accept")) or ""
    if address.operation in _FILES:
        return accept.replace(_FILES[address.operation], "*/*")
    is_native = address.shape in _NATIVE or (method, address.shape) == ("POST", "type")
    if address.type == BINARY and is_native and accept:
        return f"{accept},*/*;q=0.001"
    return accept


def _refusal(problem: Problem) -> Answer:
    return outcome(status_of(problem), problem.issues, tuple(headers_of(problem)))


def _shape_of(scope: Scope, headers: dict[bytes, bytes]) -> Shape:
    """Return the representation for a refusal; what is itself wrong with it gives JSON."""
    try:
        query = parse_query(scope["query_string"], Limits())
        accept = _text(headers.get(b"accept")) or ""
        shape, _ = take_shape(query, accept, "", is_lenient=True)
    except Problem:
        return Shape()
    return Shape(format=shape.format, is_pretty=shape.is_pretty)


def _log_fault(error: Exception, request_id: str) -> None:
    """Log where it failed; the message of an exception may hold a patient's data."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    _log.error("request %s failed: %s at %s", request_id, type(error).__name__, places)


async def send_rendered(rendered: Rendered, request_id: str, scope: Scope, send: Send) -> None:
    """Send the answer: in one message where the server takes that, else in ASGI's two."""
    rendered.headers.append((b"x-request-id", request_id.encode()))
    if EXTENSION in scope.get("extensions", ()):
        await send(
            {
                "type": EXTENSION,
                "status": rendered.status,
                "headers": rendered.headers,
                "body": rendered.body,
            }
        )
        return
    await send(
        {
            "type": "http.response.start",
            "status": rendered.status,
            "headers": rendered.headers,
        }
    )
    await send({"type": "http.response.body", "body": rendered.body})


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
