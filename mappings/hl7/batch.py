"""HL7 v2 batches and files (chapter 2.10.3): FHS, BHS, messages, BTS, FTS."""

import codecs
import re

_START = re.compile(rb"(?:\A|(?<=[\r\n]))(?:FHS|BHS|MSH|BTS|FTS)(?=[^A-Za-z0-9\r\n]|[\r\n]|\Z)")


def split_batch(data: bytes) -> list[bytes]:
    """Return the messages of a batch or file, or the one message that the bytes are.

    Works on bytes: none of the charsets read has CR or LF inside a character. A second MSH
    belongs to another message only where an FHS or BHS stands in front.
    """
    body = data[3:] if data.startswith(codecs.BOM_UTF8) else data
    if body[:3] not in (b"FHS", b"BHS"):
        return [data]
    starts = [
        (match.start(), body[match.start() : match.start() + 3]) for match in _START.finditer(body)
    ]
    ends = [start for start, _ in starts[1:]] + [len(body)]
    return [
        body[start:end] for (start, name), end in zip(starts, ends, strict=True) if name == b"MSH"
    ]


def split_file(data: bytes) -> list[bytes]:
    """Return the messages of a file in which they follow each other, with or without a batch."""
    messages = split_batch(data)
    if len(messages) != 1:
        return messages
    starts = [match.start() for match in _START.finditer(data) if match.group() == b"MSH"]
    if len(starts) < 2:
        return messages
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
