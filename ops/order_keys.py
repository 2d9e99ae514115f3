"""Whose order a message belongs to: the patient's first identifier, read without a full parse."""

import hashlib
import re

from mappings.hl7.header import Header

LONGEST_KEY = 200
_SEGMENT = re.compile(r"[\r\n](PID|MRG)(?=.)")


def order_keys_of(text: str, header: Header) -> tuple[str, ...]:
    """Return the order keys of a message, the surviving record's first.

    A key is PID-3's first repetition: its id and its assigning authority, or the sending facility
    (MSH-4) where no authority is named. Merge messages add MRG-1 of each MRG segment, and every
    further PID. No PID means no order is kept.
    """
    separators = header.separators
    mark = separators.field
    keys: list[str] = []
    for match in _SEGMENT.finditer(text):
        start = match.end()
        if text[start : start + 1] != mark:
            continue
        end = _line_end(text, start)
        # Not one field more than needed is split: PID has forty.
        number = 3 if match.group(1) == "PID" else 1
        fields = text[start:end].split(mark, number + 1)
        value = fields[number] if len(fields) > number else ""
        key = _key_of(value, header)
        if key and key not in keys:
            keys.append(key)
    return tuple(keys)


def _line_end(text: str, start: int) -> int:
    ends = [found for mark in "\r\n" if (found := text.find(mark, start)) >= 0]
    return min(ends, default=len(text))


def _key_of(value: str, header: Header) -> str:
    separators = header.separators
    first = value.split(separators.repetition, 1)[0] if separators.repetition else value
    parts = first.split(separators.component)
    number = parts[0].strip()
    if not number:
        return ""
    authority = parts[3].strip() if len(parts) > 3 else ""
    key = f"{number}^{authority or '@' + header.sending_facility}".replace("\0", "")
    # Keys stand in an index, whose entries have a limit; and in no log.
    return key if len(key) <= LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()
