"""Whose order a message belongs to, read from the text without a full parse."""

import functools
import hashlib
import re

from mappings.hl7.header import Header

PATIENT = ("PID-3", "MRG-1")
"""The patient's record; in a merge message (A40 and its kin) both records."""

LONGEST_KEY = 200


def order_keys_of(text: str, header: Header, fields: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the order keys of a message, in the order of its segments.

    `fields` names them (`PID-3`, `ORC-2`; default `PATIENT`; `none` asks for no order). A key is
    the first repetition's id and its assigning authority, or the sending facility (MSH-4) where
    no authority is named.
    """
    fields = fields or PATIENT
    if fields == ("none",):
        return ()
    pattern, numbers = _compiled(fields)
    mark = header.separators.field
    keys: list[str] = []
    for match in pattern.finditer(text):
        start = match.end()
        if text[start : start + 1] != mark:
            continue
        number = numbers[match.group(1)]
        # Not one field more than needed is split: PID has forty.
        parts = text[start : _line_end(text, start)].split(mark, number + 1)
        key = _key_of(parts[number], header) if len(parts) > number else ""
        if key and key not in keys:
            keys.append(key)
    return tuple(keys)


@functools.cache
def _compiled(fields: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, int]]:
    numbers = {name.partition("-")[0]: int(name.partition("-")[2]) for name in fields}
    return re.compile(rf"[\r\n]({'|'.join(map(re.escape, numbers))})"), numbers


def _line_end(text: str, start: int) -> int:
    end = text.find("\r", start)
    line_feed = text.find("\n", start, end if end >= 0 else len(text))
    return line_feed if line_feed >= 0 else end if end >= 0 else len(text)


def _key_of(value: str, header: Header) -> str:
    separators = header.separators
    first = value.split(separators.repetition, 1)[0] if separators.repetition else value
    parts = first.split(separators.component)
    number = parts[0].strip()
    if not number:
        return ""
    authority = parts[3].strip() if len(parts) > 3 else ""
    key = f"{number}^{authority or '@' + header.sending_facility}".replace("\0", "")
    # Keys stand in an index, whose entries have a limit.
    return key if len(key) <= LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest()
