"""MLLP block framing without input or output.

Rule: HL7 v2 "Minimal Lower Layer Protocol", release 1: `<VT> content <FS><CR>`. Only
`<FS><CR>` ends a block; a lone FS or VT inside it is content, because the raw bytes are kept as
they came and the reader of the content says what is wrong with them.
"""

from dataclasses import dataclass

from msgspec import Struct

START = b"\x0b"
END = b"\x1c\r"


class Frame(Struct, frozen=True):
    """One whole block, without its framing bytes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes outside any block, line ends and blanks not counted."""

    size: int


@dataclass(frozen=True, slots=True)
class Oversize:
    """The head of a block that grew over the limit; nothing after it is read."""

    head: bytes


Event = Frame | Garbage | Oversize

_HEAD_BYTES = 4096
_BLANKS = b"\r\n \t\x00"


def to_frame(payload: bytes) -> bytes:
    """Return the payload as one block."""
    return b"".join((START, payload, END))


class FrameReader:
    """Cuts a stream of bytes into blocks, however the stream was cut on its way."""

    __slots__ = ("_buffer", "_frame_bytes", "_in_frame", "_overflowed", "_searched")

    def __init__(self, *, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._buffer = bytearray()
        self._in_frame = False
        self._overflowed = False
        self._searched = 0

    @property
    def held(self) -> int:
        """Number of bytes kept of an unfinished block."""
        return len(self._buffer)

    @property
    def in_frame(self) -> bool:
        """A block has begun and has not ended."""
        return self._in_frame

    @property
    def ends_without_return(self) -> bool:
        """The unfinished block ends in FS: the sender forgot the CR after it."""
        return self._in_frame and self._buffer.endswith(END[:1])

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return every event they complete, in order."""
        events: list[Event] = []
        if self._overflowed:
            return events
        if not self._buffer and data[:1] == START and not self._in_frame:
            end = data.find(END)
            if 0 < end == len(data) - len(END) and end <= self._frame_bytes:
                return [Frame(data[1:end])]  # one whole block, as most reads are
        self._buffer += data
        position = 0
        while not self._overflowed:
            if not self._in_frame:
                position = self._skip_to_start(position, events)
                if not self._in_frame:
                    break
            end = self._buffer.find(END, max(position, self._searched))
            stop = end if end >= 0 else len(self._buffer) - self.ends_without_return
            if stop - position > self._frame_bytes:
                head = self._buffer[position : min(stop, position + _HEAD_BYTES)]
                events.append(Oversize(bytes(head)))
                self._overflowed = True
                self._buffer.clear()
                return events
            if end < 0:
                break
            events.append(Frame(bytes(self._buffer[position:end])))
            self._in_frame = False
            position = end + len(END)
        del self._buffer[:position]
        # The last byte may be an FS whose CR is still on its way.
        self._searched = max(0, len(self._buffer) - 1)
        return events

    def _skip_to_start(self, position: int, events: list[Event]) -> int:
        start = self._buffer.find(START, position)
        stop = len(self._buffer) if start < 0 else start
        size = len(self._buffer[position:stop].strip(_BLANKS)) if stop > position else 0
        if size:
            events.append(Garbage(size))
        self._searched = 0
        if start < 0:
            return stop
        self._in_frame = True
        return start + 1
