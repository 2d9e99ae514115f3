"""Translation of the shared HL7 v2 messages, beside hl7apy's parse alone and a bare split.

Facts are compared with the vendor's expected bundles of the same messages: (type, path, value).
"""

import contextlib
import os
import pathlib
import statistics
import time
import tracemalloc
import warnings
import zoneinfo
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from conformance.problem import Issue, NotSupported
from mappings.channels.profile import ChannelProfile
from mappings.engine.context import Sender
from mappings.engine.library import load
from mappings.facts_score import score
from mappings.hl7.message import parse
from mappings.translate import Translator
from ops.garbage import collect_less_often

_ROUNDS = 7
_REPEATS = 3
_ADMISSION = b"".join(
    part + b"\r"
    for part in (
        b"MSH|^~\\&|HIS|H1|HUB|Q|20260501083000||ADT^A01^ADT_A01|M1|P|2.5.1",
        b"EVN|A01|20260501083000",
        b"PID|1||7001^^^H1^MR||Li^Lei||19900101|M|||1 Road^^Suzhou^JS^215000^CHN||138^PRN^CP",
        b"NK1|1|Han^Meimei|SPO^Spouse^HL70063||139",
        b"PV1|1|I|W3^301^02^H1||||D01^Zhang^Wei||||||||||||V9001",
        b"AL1|1|DA|PEN^Penicillin^L|SV|rash|20200101",
    )
)


async def run() -> dict[str, Any]:
    """Return messages a second of CPU, memory of a large document, and the score by facts."""
    folder = _folder()
    messages = [file.read_bytes() for file in sorted((folder / "messages").glob("*.hl7"))]
    channel = ChannelProfile()
    library = load()
    collect_less_often()  # as every process of the hub does
    traced, bare = Translator(library), Translator(library, traced=False)
    rounds = [
        _in_turns(
            messages,
            _split,
            _read,
            lambda data: traced.translate(data, channel),
            lambda data: bare.translate(data, channel),
        )
        for _ in range(_ROUNDS)
    ]
    split, read, whole, untraced = (round(min(times), 1) for times in zip(*rounds, strict=True))
    admission = _cpu(lambda data: traced.translate(data, channel), [_ADMISSION] * 50)
    other = _hl7apy(messages[::10])
    return {
        "messages": len(messages),
        "bytes_mean": sum(map(len, messages)) // len(messages),
        "raw_split_us": split,
        "read_fields_us": read,
        "translate_us": whole,
        "translate_per_second": round(1e6 / whole, 1),
        "translate_without_trace_us": untraced,
        "translate_later_us": _later(traced, messages, channel),
        "translate_first_time_us": _first_time(messages, channel),
        "trace_cost": round(statistics.median(one[2] / one[3] for one in rounds[1:]) - 1, 3),
        "admission_us": admission,
        "hl7apy_parse_us": other,
        "times_faster_than_hl7apy_parse": round(other / whole, 1),
        "ratio_to_raw_split": round(statistics.median(one[0] / one[2] for one in rounds[1:]), 4),
        "large_document": _large(traced, channel),
        "facts": _facts(folder, library_translator=traced),
    }


def _split(data: bytes) -> int:
    text = data.decode()
    return sum(
        len(component.split("&"))
        for line in text.split("\n")
        for field in line.split("|")
        for repetition in field.split("~")
        for component in repetition.split("^")
    )


def _read(data: bytes) -> None:
    for segment in parse(data).segments:
        segment.field(0)


def _in_turns(messages: Sequence[bytes], *works: Callable[[bytes], Any]) -> list[float]:
    """Return each work's microseconds of CPU a message; they take turns message by message.

    A machine shared with others changes its speed within a second; neighbours in time do not.
    """
    spent = [0.0] * len(works)
    for data in messages:
        for number, work in enumerate(works):
            start = time.process_time()
            work(data)
            spent[number] += time.process_time() - start
    return [one / len(messages) * 1e6 for one in spent]


def _cpu(work: Callable[[bytes], Any], messages: Sequence[bytes]) -> float:
    """Return the best of some rounds in microseconds of CPU a message."""
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.process_time()
        for data in messages:
            work(data)
        best = min(best, time.process_time() - start)
    return round(best / len(messages) * 1e6, 1)


def _later(translator: Translator, messages: Sequence[bytes], channel: ChannelProfile) -> float:
    """Return what the next messages of the same patients cost.

    Header and event have a new time, the header a new number, orders (ORC, OBR) new numbers and
    results (OBX-14) a new time; whatever else stands in the messages was seen before.
    """
    best = float("inf")
    for number in range(_REPEATS):
        later = [_stamped(data, number) for data in messages]
        start = time.process_time()
        for data in later:
            translator.translate(data, channel)
        best = min(best, time.process_time() - start)
    return round(best / len(messages) * 1e6, 1)


def _stamped(data: bytes, number: int) -> bytes:
    """Return a message as it would be sent at another time, for other orders."""
    moment = f"202601010000{number:02d}"
    new = {"MSH": {7: moment, 10: f"L{number}"}, "EVN": {2: moment}, "OBX": {14: moment}}
    message = parse(data)
    for segment in message.segments:
        for field, text in new.get(segment.name, {}).items():
            segment.set_field(field, text)
        for field in (2, 3) if segment.name in {"ORC", "OBR"} else ():
            if segment.field(field):
                segment.set_field(field, f"{number}{segment.field(field)}")
    return message.encode()


def _first_time(messages: Sequence[bytes], channel: ChannelProfile) -> float:
    """Return what a message costs whose words no message of its sender had before.

    Each is read by a translator that remembers nothing, its maps compiled by the same message of
    another sender.
    """
    translator = Translator(load())
    best = float("inf")
    for number in range(_REPEATS + 1):
        spent = 0.0
        for position, data in enumerate(messages):
            sender = Sender(namespace=f"urn:first:{number}:{position}")
            unknown = replace(channel, sender=sender)
            start = time.process_time()
            translator.translate(data, unknown)
            spent += time.process_time() - start
        if number:  # the first round compiles the maps
            best = min(best, spent)
    return round(best / len(messages) * 1e6, 1)


def _hl7apy(messages: Sequence[bytes]) -> float:
    """Return hl7apy's parse of what it can read; its faults are not counted."""
    from hl7apy.parser import parse_message

    start, count = time.process_time(), 0
    for data in messages:
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            parse_message(data.decode("utf-8-sig").replace("\n", "\r"), find_groups=False)
            count += 1
    return round((time.process_time() - start) / max(count, 1) * 1e6, 1)


def _large(translator: Translator, channel: ChannelProfile) -> dict[str, float]:
    size = 10_000_000
    data = (
        b"MSH|^~\\&|A|H1|C|D|20260501083000||ORU^R01|1|P|2.5\rPID|1||7^^^H1\r"
        b"OBR|1|P1|F1|1^x^L\rOBX|1|ED|1^x^L||^application^pdf^Base64^"
        + b"AAAA" * (size // 4)
        + b"||||||F\r"
    )
    start = time.perf_counter()
    translator.translate(data, channel)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    translator.translate(data, channel)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"seconds": round(seconds, 3), "memory_times_size": round(peak / size, 2)}


def _facts(folder: pathlib.Path, library_translator: Translator) -> dict[str, Any]:
    """Return precision and recall against the expected bundles, over all and by resource."""
    sender = Sender(zone=zoneinfo.ZoneInfo("Asia/Kolkata"))  # the other converter's own zone
    return score(folder, library_translator, ChannelProfile(sender=sender)).report()


def _folder() -> pathlib.Path:
    root = pathlib.Path(__file__).resolve().parents[2]
    given = os.environ.get("QIAO_SHARED")
    for place in [pathlib.Path(given)] if given else [p / "shared" for p in root.parents]:
        if (place / "data" / "hl7v2-messages").is_dir():
            return place / "data" / "hl7v2-messages"
    raise NotSupported(
        Issue(
            code="not-found",
            key="no-messages",
            text_en="The shared HL7 v2 messages are not here.",
            text_zh="未找到共享的 HL7 v2 报文。",
            fix_en="Set QIAO_SHARED to the folder that holds data/hl7v2-messages.",
            fix_zh="请将 QIAO_SHARED 设为含有 data/hl7v2-messages 的文件夹。",
        )
    )
