"""The few HL7 v2 fields a transport must read: MSH-10 of what leaves, MSA of what comes back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """MSA-1, MSA-2 and the first words found about an error (ERR-8, ERR-7 or MSA-3)."""

    code: str
    control_id: str
    text: str


def control_id_of(payload: bytes) -> str:
    """Return MSH-10, or "" where the payload has none."""
    lines = _lines_of(payload, limit=1)
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 4:
        return ""
    return _field(lines[0].split(lines[0][3]), 9)


def acknowledgement_of(payload: bytes) -> Acknowledgement | None:
    """Return the acknowledgement in the payload, or None where it is not one."""
    lines = _lines_of(payload)
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 4:
        return None
    separator = lines[0][3]
    segments = [line.split(separator) for line in lines]
    msa = next((segment for segment in segments if segment[0] == "MSA"), None)
    if msa is None:
        return None
    error = next((segment for segment in segments if segment[0] == "ERR"), [])
    text = _field(error, 8) or _field(error, 7) or _field(msa, 3)
    return Acknowledgement(code=_field(msa, 1), control_id=_field(msa, 2), text=text)


def _field(segment: list[str], number: int) -> str:
    return segment[number].strip() if len(segment) > number else ""


def _lines_of(payload: bytes, limit: int = 0) -> list[str]:
    head = payload.replace(b"\r\n", b"\r").replace(b"\n", b"\r").lstrip(b"\xef\xbb\xbf\r")
    if limit:
        head = b"\r".join(head.split(b"\r", limit)[:limit])
    return [line for line in _decode(head).split("\r") if line]


def _decode(data: bytes) -> str:
    # Decode before splitting: GB18030 characters may contain the byte of "|" or "^".
    for charset in ("utf-8", "gb18030"):
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")
