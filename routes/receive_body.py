"""Receive a request body within its limit, unpacked."""

import zlib

from starlette.types import Receive

from conformance.problem import InvalidStructure, Issue
from routes.limits import Limits
from routes.negotiation import unsupported_media_type
from routes.statuses import too_long


class ClientGone(Exception):
    """The client closed the connection; nobody waits for an answer."""


async def receive_body(
    receive: Receive, *, content_length: bytes | None, encoding: bytes | None, limits: Limits
) -> bytes:
    """Return the whole body; raise TooCostly (413) as soon as it is over the limit."""
    limit = limits.body_bytes
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        raise _over(limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _over(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            break
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return _unpack(body, encoding, limit) if encoding else body


def _unpack(body: bytes, encoding: bytes, limit: int) -> bytes:
    name = encoding.strip().lower()
    if name == b"identity":
        return body
    if name not in {b"gzip", b"x-gzip"}:
        raise unsupported_media_type("Content-Encoding: gzip", "no Content-Encoding")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise _not_gzip() from error
    if len(plain) > limit:
        raise _over(limit)
    if not unpacker.eof or unpacker.unused_data:  # cut off, or more after it
        raise _not_gzip()
    return plain


def _over(limit: int) -> Exception:
    return too_long("The body", "请求体", f"{limit // 1024} KiB", "http.body")


def _not_gzip() -> InvalidStructure:
    return InvalidStructure(
        Issue(
            code="structure",
            key="gzip",
            text_en="The body is not valid gzip.",
            text_zh="请求体不是有效的 gzip 数据。",
            fix_en="Compress the whole body once with gzip, or send it without Content-Encoding.",
            fix_zh="请用 gzip 完整压缩一次，或不使用 Content-Encoding。",
            expression="http.body",
        )
    )
