"""Frames come out whole, however the bytes were cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from adapters.transport.mllp_framing import Frame, FrameReader, Garbage, Oversize, to_frame

# No content may hold the end block itself; everything else, VT and lone FS too, is content.
payloads = st.binary(max_size=60).filter(
    lambda content: b"\x1c\r" not in content and not content.endswith(b"\x1c")
)


def feed_in_pieces(reader: FrameReader, stream: bytes, cuts: list[int]) -> list[object]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    events: list[object] = []
    for begin, end in itertools.pairwise(edges):
        events += reader.feed(stream[begin:end])
    return events


@given(st.lists(payloads, max_size=8), st.lists(st.integers(0, 10_000), max_size=12))
def test_a_frame_survives_any_cut(contents: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(to_frame(content) for content in contents)
    events = feed_in_pieces(FrameReader(frame_bytes=1000), stream, cuts)
    assert events == [Frame(content) for content in contents]


@given(st.lists(payloads, max_size=5))
def test_a_frame_survives_single_bytes(contents: list[bytes]) -> None:
    reader = FrameReader(frame_bytes=1000)
    stream = b"".join(to_frame(content) for content in contents)
    events = [event for byte in stream for event in reader.feed(bytes([byte]))]
    assert events == [Frame(content) for content in contents]
    assert reader.held == 0


def test_every_single_cut_of_two_frames_gives_the_same_two_frames() -> None:
    stream = to_frame("MSH|^~\\&|甲".encode("gb18030")) + b"\r\n" + to_frame(b"a\x1cb\x0bc")
    for cut in range(len(stream) + 1):
        reader = FrameReader(frame_bytes=100)
        events = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
        assert [event.payload for event in events if isinstance(event, Frame)] == [
            "MSH|^~\\&|甲".encode("gb18030"),
            b"a\x1cb\x0bc",
        ]
        assert len(events) == 2


def test_bytes_between_frames_are_reported_and_line_ends_are_not() -> None:
    reader = FrameReader(frame_bytes=100)
    events = reader.feed(b"\r\n" + to_frame(b"one") + b"GET / HTTP/1.1\r\n" + to_frame(b"two"))
    assert events == [Frame(b"one"), Garbage(14), Frame(b"two")]


def test_a_frame_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert FrameReader(frame_bytes=10).feed(to_frame(b"x" * 10)) == [Frame(b"x" * 10)]
    assert FrameReader(frame_bytes=10).feed(to_frame(b"x" * 11)) == [Oversize(b"x" * 11)]
    for cut in range(14):
        reader = FrameReader(frame_bytes=10)
        stream = to_frame(b"x" * 10)
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) == [Frame(b"x" * 10)]


def test_an_endless_frame_is_dropped_once_and_holds_no_memory() -> None:
    reader = FrameReader(frame_bytes=1000)
    events = reader.feed(b"\x0b")
    for _ in range(100):
        events += reader.feed(b"y" * 100)
    assert len(events) == 1
    assert isinstance(events[0], Oversize)
    assert reader.held == 0


def test_a_lone_fs_at_the_end_is_seen() -> None:
    reader = FrameReader(frame_bytes=100)
    reader.feed(b"\x0bMSH|\x1c")
    assert reader.ends_without_return
