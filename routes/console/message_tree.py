"""A message as segments, fields, repetitions and components, each with the place traces name."""

from typing import Any

from mappings.hl7.escape import unescape
from mappings.hl7.message import Message

LONGEST = 2000
"""Characters of one value that are shown; an embedded document is named by its length."""


def tree_of(message: Message) -> list[dict[str, Any]]:
    """Return the populated fields of every segment.

    Places are those of traces: `PID[1]`, `PID[1]-5[1]`, `PID[1]-5[1].1`, `PID[1]-5[1].1.2`.
    """
    return [
        {
            "name": segment.name,
            "place": f"{segment.name}[{segment.sequence}]",
            "fields": [
                field
                for number, raw in enumerate(segment.fields)
                if number and raw
                for field in _repetitions(message, segment.name, segment.sequence, number, raw)
            ],
        }
        for segment in message.segments
    ]


def _repetitions(
    message: Message, name: str, sequence: int, number: int, raw: str
) -> list[dict[str, Any]]:
    separators = message.separators
    is_declaration = name in {"MSH", "BHS", "FHS"} and number <= 2
    mark = "" if is_declaration else separators.repetition
    found = []
    for repetition, text in enumerate(raw.split(mark) if mark else [raw], 1):
        place = f"{name}[{sequence}]-{number}[{repetition}]"
        parts = [text] if is_declaration else text.split(separators.component)
        found.append(
            {
                "number": number,
                "place": place,
                "text": _shown(message, text) if len(parts) == 1 else "",
                "raw": text[:LONGEST],
                "parts": [
                    _part(message, f"{place}.{component}", part)
                    for component, part in enumerate(parts, 1)
                    if part
                ]
                if len(parts) > 1
                else [],
            }
        )
    return found


def _part(message: Message, place: str, text: str) -> dict[str, Any]:
    mark = message.separators.subcomponent
    subs = text.split(mark) if mark and mark in text else []
    return {
        "place": place,
        "text": _shown(message, text) if not subs else "",
        "parts": [
            {"place": f"{place}.{number}", "text": _shown(message, sub), "parts": []}
            for number, sub in enumerate(subs, 1)
            if sub
        ],
    }


def _shown(message: Message, text: str) -> str:
    if len(text) > LONGEST:
        return f"{text[:200]}… ({len(text)} characters)"
    return unescape(text, message.separators, message.codec)
