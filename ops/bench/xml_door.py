"""How long the costliest hostile documents keep the XML door busy, refused or read."""

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from adapters.safe_xml import MOST_BYTES, MOST_TAGS, UnreadableXml, parse_xml

ROUNDS = 5
SIZE = 50_000


def _laughs() -> bytes:
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    return f"<!DOCTYPE a [{''.join(lines)}]><a>&a11;</a>".encode()


ATTACKS: dict[str, Callable[[], bytes]] = {
    "billion laughs": _laughs,
    "quadratic blowup": lambda: (
        f'<!DOCTYPE a [<!ENTITY x "{"a" * SIZE}">]><a>{"&x;" * SIZE}</a>'.encode()
    ),
    "deep nesting": lambda: b"<a>" * (MOST_TAGS // 2) + b"</a>" * (MOST_TAGS // 2),
    "most tags allowed, too deep": lambda: b"<a>" * 40 + b"<b/>" * (MOST_TAGS - 100) + b"</a>" * 40,
    "most attributes allowed": lambda: (
        b"<a" + b"".join(b' a%d="1"' % n for n in range(MOST_TAGS)) + b"/>"
    ),
    "attributes that collide": lambda: b"<a" + b' a="1"' * (MOST_TAGS - 1) + b"/>",
    "a name of two megabytes": lambda: b"<" + b"n" * (MOST_BYTES - 10) + b"/>",
    "oversize": lambda: b"<a>" + b"x" * (MOST_BYTES * 8) + b"</a>",
    "cut short at the limit": lambda: b"<a>" + b"x" * (MOST_BYTES - 10),
}


async def run() -> dict[str, Any]:
    """Return the milliseconds each takes, and those of reading a large lawful document."""
    figures: dict[str, Any] = {}
    for name, make in ATTACKS.items():
        document = make()
        figures[name] = _milliseconds(lambda document=document: _tried(document))  # type: ignore[misc]
    lawful = b"<a>" + b"<b>text</b>" * (MOST_TAGS // 3) + b"</a>"
    raw = _milliseconds(lambda: parse_xml(lawful))
    worst = max(figures.values())
    return {
        "busy_ms": figures,
        "worst_ms": worst,
        "lawful_bytes": len(lawful),
        "lawful_ms": raw,
        "ratio": round(worst / raw, 2),
    }


def _tried(document: bytes) -> None:
    with contextlib.suppress(UnreadableXml):
        parse_xml(document)


def _milliseconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begin) * 1000)
    return round(statistics.median(taken), 2)
