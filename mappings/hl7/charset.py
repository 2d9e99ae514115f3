"""Which encoding an HL7 v2 message is written in: MSH-18 (table 0211), else the channel's.

Decoding comes before splitting: in GB18030, 464 Chinese characters contain a byte that is also
`|`, `^`, `~` or a backslash.
"""

import codecs

from conformance.problem import InvalidStructure, Issue

# HL7 table 0211 and the spellings met in the field -> Python codec.
_CODECS = {
    "": "",
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "GB18030": "gb18030",
    "GB 18030-2000": "gb18030",
    "GB 18030-2005": "gb18030",
    "GB 18030": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
    "BIG-5": "big5",
    "BIG5": "big5",
    "KS X 1001": "euc_kr",
    "ISO IR87": "iso2022_jp",
}

OVER_ASCII = frozenset(_CODECS.values()) - {"", "iso2022_jp"}
"""Codecs in which ASCII bytes are ASCII letters wherever a character may begin."""

_HEADERS = (b"MSH", b"FHS", b"BHS")


def codec_of(declared: str) -> str | None:
    """Return the Python codec of a MSH-18 value, "" where it is empty, None where unknown."""
    codec = _CODECS.get(declared)
    return _CODECS.get(" ".join(declared.upper().split())) if codec is None else codec


def declared_charset(data: bytes) -> str:
    """Return the first repetition of MSH-18 (FHS and BHS have none), "" where absent."""
    line = first_line(data)
    if line[:3] not in _HEADERS or len(line) < 4:
        return ""
    if line.isascii():
        return _field_18(line.decode("ascii"))
    for codec in ("utf-8", "gb18030", "iso8859-1"):
        try:
            text = line.decode(codec)
        except UnicodeDecodeError:
            continue
        declared = _field_18(text)
        if codec_of(declared) == codec:
            return declared
    return _field_18(line.decode("iso8859-1"))


def first_line(data: bytes) -> bytes:
    """Return the header segment without a byte-order mark."""
    if data.startswith(codecs.BOM_UTF8):
        data = data[3:]
    end = len(data)
    for mark in (b"\r", b"\n"):
        found = data.find(mark, 0, end)
        if found >= 0:
            end = found
    return data[:end]


def _field_18(line: str) -> str:
    fields = line.split(line[3], 18)
    if len(fields) < 18:
        return ""
    separators = fields[1]
    value = fields[17]
    return value.split(separators[1], 1)[0] if len(separators) > 1 else value


def decode(data: bytes, default: str) -> tuple[str, str]:
    """Return the text and the codec it was read with; a byte-order mark is dropped.

    Raises `InvalidStructure` where MSH-18 names an unknown charset (key `hl7-charset`) or the
    bytes are not of it (key `hl7-undecodable`): such a message is held, never guessed.
    """
    declared = declared_charset(data)
    codec = codec_of(declared)
    if codec is None:
        raise InvalidStructure(_unknown(declared))
    codec = codec or default
    if data.startswith(codecs.BOM_UTF8):
        data = data[3:]
        codec = "utf-8" if codec == "ascii" else codec
    try:
        return data.decode(codec), codec
    except UnicodeDecodeError as error:
        raise InvalidStructure(_undecodable(codec, error.start)) from None


def readable(data: bytes) -> str:
    """Return a message for a person to look at: what is not of its charset shows as U+FFFD."""
    return data.decode(codec_of(declared_charset(data)) or "utf-8", errors="replace")


def _unknown(declared: str) -> Issue:
    return Issue(
        code="not-supported",
        key="hl7-charset",
        text_en=f"MSH-18 names the character set {declared[:20]!a}, which the hub does not read",
        text_zh=f"MSH-18 声明的字符集 {declared[:20]!a} 不受支持",
        fix_en="Send UNICODE UTF-8, GB18030, ASCII or 8859/1, or leave MSH-18 empty.",
        fix_zh="请使用 UNICODE UTF-8、GB18030、ASCII 或 8859/1，或将 MSH-18 留空。",
        expression="MSH[1]-18",
    )


def _undecodable(codec: str, offset: int) -> Issue:
    return Issue(
        code="structure",
        key="hl7-undecodable",
        text_en=f"The bytes are not {codec}: first fault at byte {offset}",
        text_zh=f"报文字节不是 {codec} 编码：首个错误位于第 {offset} 字节",
        fix_en="Declare the real character set in MSH-18 or correct it in the channel.",
        fix_zh="请在 MSH-18 中声明实际字符集，或修改通道设置。",
        expression="MSH[1]-18",
    )
