"""The one door for XML from outside: no entities, no DTD, no network, bounded size and depth."""

import re

import lxml.etree

Element = lxml.etree._Element

MOST_BYTES = 2 * 2**20
MOST_DEPTH = 32
MOST_TAGS = 100_000

# Multi-byte encodings whose ASCII bytes may mean something else (UTF-7, UTF-16, EBCDIC) hide markup
# from every check, so only these are read.
_ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8"} | dict.fromkeys(
    ("gb18030", "gbk", "gb2312"), "gb18030"
)
_DECLARATION = re.compile(r"\A<\?xml[ \t\r\n][^<>]{0,200}?\?>")
_ENCODING = re.compile(r"""[ \t\r\n]encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z0-9._-]{1,40})["']""")
_IS_TOO_DEEP = lxml.etree.XPath("boolean(" + "/*" * (MOST_DEPTH + 1) + ")")


class UnreadableXml(ValueError):
    """XML that is not taken; `reason` is a stable word, the text holds nothing of the content."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def parse_xml(data: bytes, *, most_bytes: int = MOST_BYTES) -> Element:
    """Return the root element of one document in UTF-8 or GB18030, or raise UnreadableXml."""
    if len(data) > most_bytes:
        raise UnreadableXml("too-large", f"the XML is over {most_bytes} bytes")
    text = _text_of(data)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableXml("doctype", "the XML has a DOCTYPE; send it without one")
    if "<?" in text:
        raise UnreadableXml("instruction", "the XML has a processing instruction; leave it out")
    if text.count("<") > MOST_TAGS or text.count('="') + text.count("='") > MOST_TAGS:
        raise UnreadableXml("too-many", f"the XML has over {MOST_TAGS} tags or attributes")
    try:
        root = lxml.etree.fromstring(text.encode(), _parser())
    except (lxml.etree.XMLSyntaxError, ValueError):
        # The parser's own words quote the content.
        raise UnreadableXml("malformed", "the XML is not well-formed") from None
    if _IS_TOO_DEEP(root):
        raise UnreadableXml("too-deep", f"the XML is nested over {MOST_DEPTH} levels deep")
    return root


def _parser() -> lxml.etree.XMLParser:
    return lxml.etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        collect_ids=False,
    )


def _text_of(data: bytes) -> str:
    head = data.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in head[:64] or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableXml("encoding", "the XML is not in UTF-8; send it in UTF-8")
    declared = _DECLARATION.match(head[:300].decode("latin-1"))
    found = _ENCODING.search(declared.group()) if declared else None
    encoding = _ENCODINGS.get(found.group(1).lower()) if found else "utf-8"
    if encoding is None:
        raise UnreadableXml("encoding", "the XML's encoding is not taken; send it in UTF-8")
    try:
        text = head.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableXml("encoding", f"the XML's bytes are not {encoding}") from None
    return _DECLARATION.sub("", text, count=1).lstrip("\r\n\t ")
