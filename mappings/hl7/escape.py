"""Escape sequences of HL7 v2 (chapter 2.7): reading a field's text and writing it back."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Separators:
    r"""The delimiters a message declares in MSH-1 and MSH-2, `|^~\&` unless it says otherwise."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""


STANDARD = Separators()

_HEX = re.compile(r"X(?:[0-9A-Fa-f]{2})+\Z")
_SPACING = re.compile(r"\.sp\+?(\d*)\Z")
# Formatting commands that carry layout only; .br and .sp become line breaks.
_LAYOUT = re.compile(r"(?:[HN]|\.(?:fi|nf|in[+-]?\d+|ti[+-]?\d+|sk\+?\d+|ce))\Z")


def unescape(text: str, separators: Separators, codec: str = "utf-8") -> str:
    r"""Return the text with its escape sequences read.

    `\F\ \S\ \R\ \E\ \T\ \P\` become the delimiters, `\Xdd..\` the bytes in the message's charset,
    `\.br\` and `\.sp\` line breaks; layout commands go; anything unknown, and bytes that are no
    letters, stay as they are written.
    """
    mark = separators.escape
    if not mark or mark not in text:
        return text
    parts = text.split(mark)
    out = [parts[0]]
    position = 1
    last = len(parts) - 1
    while position <= last:
        sequence = parts[position]
        read = _read(sequence, separators, codec) if position < last else None
        if read is None:  # a lone or unknown mark stays literally
            out.append(mark)
            out.append(sequence)
            position += 1
        else:
            out.append(read)
            out.append(parts[position + 1])
            position += 2
    return "".join(out)


def _read(sequence: str, separators: Separators, codec: str) -> str | None:
    if len(sequence) == 1:
        letters = {
            "F": separators.field,
            "S": separators.component,
            "R": separators.repetition,
            "E": separators.escape,
            "T": separators.subcomponent,
            "P": separators.truncation or "#",
        }
        if sequence in letters:
            return letters[sequence]
    if sequence == ".br":
        return "\n"
    if _HEX.match(sequence):
        try:
            return bytes.fromhex(sequence[1:]).decode(codec)
        except UnicodeDecodeError:
            return None  # no letter of the message's charset
    spacing = _SPACING.match(sequence)
    if spacing:
        return "\n" * min(int(spacing.group(1) or 1), 100)
    return "" if _LAYOUT.match(sequence) else None


def escape(text: str, separators: Separators) -> str:
    r"""Return the text so that it survives as one subcomponent; line breaks become `\.br\`."""
    if text.isalnum():  # nothing that separates is a letter or a digit
        return text
    mark = separators.escape
    special = (
        separators.field + separators.component + separators.repetition + separators.subcomponent
    )
    if not any(letter in text for letter in special + mark) and text.isprintable():
        return text
    names = {
        separators.field: "F",
        separators.component: "S",
        separators.repetition: "R",
        separators.subcomponent: "T",
        mark: "E",
        "\n": ".br",
    }
    out: list[str] = []
    for letter in text.replace("\r\n", "\n").replace("\r", "\n"):
        name = names.get(letter)
        if name is not None:
            out.append(f"{mark}{name}{mark}")
        elif letter < " ":
            out.append(f"{mark}X{ord(letter):02X}{mark}")
        else:
            out.append(letter)
    return "".join(out)
