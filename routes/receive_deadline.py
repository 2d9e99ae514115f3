"""A deadline for receiving a request, which uvicorn lacks (Kludex/uvicorn issue 157).

An ASGI middleware is too late for it: the application is called only when the head is complete.
"""

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from conformance.problem import Issue, to_operation_outcome
from routes.joined_writes import JoinedWrites
from routes.limits import Limits
from routes.whole_answer import OFFER, WholeAnswerCycle


def _issue(code: str, key: str, texts: tuple[str, str], fixes: tuple[str, str]) -> Issue:
    return Issue(
        code=code,
        key=key,
        text_en=texts[0],
        text_zh=texts[1],
        fix_en=fixes[0],
        fix_zh=fixes[1],
        expression="http",
    )


_LATE = _issue(
    "timeout",
    "receive-timeout",
    ("The request did not arrive in time.", "请求未在规定时间内到达。"),
    (
        "Send the head of a request at once and its body without pauses.",
        "请一次发送请求头，并连续发送请求体。",
    ),
)
_HEAD_TOO_LONG = _issue(
    "too-long",
    "head-too-long",
    ("The request line and headers are too long.", "请求行与请求头过长。"),
    ("Send a long search as POST to _search.", "较长的检索请用 POST 方式发送到 _search。"),
)
_NOT_HTTP = _issue(
    "structure",
    "not-http",
    ("This is not an HTTP/1.1 request.", "这不是有效的 HTTP/1.1 请求。"),
    ("Send a request as RFC 9112 defines it.", "请按 RFC 9112 发送请求。"),
)


# Inheritance, because uvicorn offers no other place to stand between socket and application.
class _DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol that answers 408 to a request that only trickles in."""

    limits = Limits()
    _timer: asyncio.TimerHandle | None = None
    _started_at = 0.0
    _received = 0
    _is_in_head = True
    _is_receiving = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._begin()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._received += len(data)
        if self._is_in_head and self._received > self.limits.head_bytes:
            self._refuse(b"431 Request Header Fields Too Large", _HEAD_TOO_LONG)
        elif self._received > self.limits.discarded_bytes and self._is_answered():
            self.transport.close()
        if self._is_receiving and self._timer is None:
            self._watch()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = WholeAnswerCycle  # uvicorn names its class where it makes one
        cycle.scope["extensions"] = OFFER
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request", _NOT_HTTP)

    def _begin(self) -> None:
        self._started_at, self._received = self.loop.time(), 0
        self._is_in_head = self._is_receiving = True

    def _watch(self) -> None:
        """Look again later; most requests are whole before this is needed."""
        self._timer = self.loop.call_later(self.limits.receive_seconds, self._look)

    def _end(self) -> None:
        self._is_in_head = self._is_receiving = False
        self._received = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Wait on while the bytes come fast enough, else answer and close."""
        earned = self.limits.receive_seconds
        if not self._is_in_head:
            earned += self._received / self.limits.body_bytes_per_second
        left = self._started_at + earned - self.loop.time()
        if left > 0.01:
            self._timer = self.loop.call_later(left, self._look)
        elif self._received == 0:  # an idle connection deserves no words
            self.transport.close()
        else:
            self._refuse(b"408 Request Timeout", _LATE)

    def _is_answered(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    def _refuse(self, status: bytes, issue: Issue) -> None:
        self._end()
        is_answering = self.cycle is not None and self.cycle.response_started
        if not self.transport.is_closing():
            if not is_answering or self._is_answered():
                self.transport.write(_answer(status, issue))
            self.transport.close()


def deadline_protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """Return the protocol class to give to uvicorn as `http=`."""
    return type("DeadlineProtocol", (_DeadlineProtocol,), {"limits": limits})


def _answer(status: bytes, issue: Issue) -> bytes:
    body = orjson.dumps(to_operation_outcome([issue]))
    return (
        b"HTTP/1.1 %b\r\nconnection: close\r\n"
        b"content-type: application/fhir+json; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b"
    ) % (status, len(body), body)
