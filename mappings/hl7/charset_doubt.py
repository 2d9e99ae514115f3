"""Whether bytes that can be read in the declared charset are more likely of the other one.

GB18030 reads nearly any bytes: UTF-8 under it becomes wrong letters and no error. The other way a
strict decoder mostly refuses; a short name alone may pass as Cyrillic or Greek letters.
"""

import dataclasses
import re

from conformance.problem import InvalidStructure, Issue

# The first byte, in UTF-8, of U+3000 to U+9FFF and of the supplementary planes.
_UTF8_IDEOGRAPH = re.compile(rb"[\xe3-\xe9\xf0]")
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
# GB 2312 level 1, the 3,755 usual characters, whose bytes are also letters of two bytes in UTF-8
# beyond Latin-1 (U+0100 to U+05FF).
_USUAL_HANZI = re.compile(rb"(?:[\xc2-\xd7][\xa1-\xbf])+\Z")
_TWO_HANZI = 4  # bytes: one alone is a letter of many a European name
_BEYOND_LATIN_1 = re.compile(rb"[\xc4-\xd7]")


def doubt_of(data: bytes, codec: str) -> Issue | None:
    """Return why bytes read as `codec` are probably of another charset, None where they are not."""
    if data.isascii():
        return None
    if codec == "utf-8":
        return _doubt("utf-8", "gb18030") if _is_gb18030(data) else None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return _doubt(codec, "utf-8") if _UTF8_IDEOGRAPH.search(data) else None


def doubts_of(data: bytes, codec: str, policy: str) -> list[Issue]:
    """Return the doubt as a warning where the policy is `note`, nothing where it is `trust`.

    Raises `InvalidStructure` where it is `hold`.
    """
    doubt = doubt_of(data, codec) if policy != "trust" else None
    if doubt is None:
        return []
    if policy == "hold":
        raise InvalidStructure(doubt)
    return [dataclasses.replace(doubt, severity="warning")]


def _is_gb18030(data: bytes) -> bool:
    """Whether all that is not ASCII reads as usual Chinese characters, two at least together."""
    if _UTF8_IDEOGRAPH.search(data) is not None:
        return False
    runs = _NOT_ASCII.findall(data)
    return (
        all(map(_USUAL_HANZI.match, runs))
        and max(map(len, runs)) >= _TWO_HANZI
        and all(map(_BEYOND_LATIN_1.search, runs))
    )


def _doubt(declared: str, likely: str) -> Issue:
    return Issue(
        code="structure",
        key="hl7-charset-doubt",
        text_en=f"The message is to be read as {declared}, but its bytes are those of {likely}",
        text_zh=f"报文声明按 {declared} 读取，但其字节实为 {likely}",
        fix_en=f"Have the sender declare {likely} in MSH-18 and resend. Where the reading is right,"
        " set charset_doubt: trust (or note) in the channel and replay.",
        fix_zh=f"请发送方在 MSH-18 中声明 {likely} 后重发；若读取无误，"
        "请在通道中设置 charset_doubt: trust（或 note）后重放。",
        expression="MSH[1]-18",
    )
