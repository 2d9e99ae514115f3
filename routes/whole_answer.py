"""A whole answer as one ASGI message: an extension of ours that our HTTP protocol offers.

ASGI sends head and body as two messages, and uvicorn looks at each header with two regular
expressions: a noticeable part of what a read costs. A server with `EXTENSION` in
`scope["extensions"]` takes one message of `type` `EXTENSION`, `status`, `headers` (with the
content-length of an answer that has a body) and `body`.
"""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from routes.joined_writes import JoinedWrites

EXTENSION = "qiao.http.response.whole"
OFFER: dict[str, dict[object, object]] = {EXTENSION: {}}


# Inheritance, because uvicorn offers no other place to stand between application and socket.
class WholeAnswerCycle(RequestResponseCycle):
    """uvicorn's request and response, able to send an answer in one write."""

    async def send(self, message: Any) -> None:
        """Send a whole answer, or whatever else ASGI knows."""
        if message["type"] != EXTENSION:
            await super().send(message)
            return
        headers = [*self.default_headers, *message["headers"]]
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        head = b"".join([b"%b: %b\r\n" % header for header in headers])
        if not head.count(b"\n") == head.count(b"\r") == len(headers):
            raise RuntimeError("A header holds a line break.")
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        body = b"" if self.scope["method"] == "HEAD" else message["body"]
        line = STATUS_LINE[message["status"]]
        cast(JoinedWrites, self.transport).write_now(b"%b%b\r\n%b" % (line, head, body))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
