"""An answer as HTTP: JSON or XML, whole or in part, plain or compressed."""

import zlib

import msgspec

from conformance import resource_json, resource_xml
from conformance.summary import elements_of, summary_of
from routes.answer import Answer
from routes.negotiation import CONTENT_TYPE, Format
from routes.request import Shape

_LENGTHS = tuple(str(number).encode() for number in range(16_384))


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """What goes on the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def render(
    answer: Answer, shape: Shape, *, is_head: bool, takes_gzip: bool, gzip_from: int
) -> Rendered:
    """Write the answer in the shape the client asked for."""
    headers = list(answer.headers)
    if answer.kind == "none":
        if answer.status not in {204, 304}:
            headers.append((b"content-length", b"0"))
        return Rendered(status=answer.status, headers=headers, body=b"")
    if answer.kind == "file":
        headers.append((b"content-length", str(len(answer.body)).encode()))
        return Rendered(status=answer.status, headers=headers, body=b"" if is_head else answer.body)
    body = answer.body
    if answer.kind == "resource" and shape.is_partial:
        body = part_of(body, shape)
    if shape.format is Format.XML:
        body = resource_xml.dump(resource_json.parse(body))
    elif shape.is_pretty:
        body = msgspec.json.format(body, indent=2)
    headers.append((b"content-type", CONTENT_TYPE[shape.format]))
    headers.append((b"vary", b"Accept, Accept-Encoding, Authorization"))
    if takes_gzip and len(body) >= gzip_from:
        body = _gzip(body)
        headers.append((b"content-encoding", b"gzip"))
    size = len(body)
    headers.append(
        (b"content-length", _LENGTHS[size] if size < len(_LENGTHS) else str(size).encode())
    )
    return Rendered(status=answer.status, headers=headers, body=b"" if is_head else body)


def part_of(body: bytes, shape: Shape) -> bytes:
    """Return the part of one resource that `_summary` or `_elements` asks for."""
    resource = resource_json.parse(body)
    if shape.elements:
        return resource_json.dump(elements_of(resource, shape.elements))
    assert shape.summary is not None
    return resource_json.dump(summary_of(resource, shape.summary))


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush()
