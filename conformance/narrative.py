"""The XHTML of a narrative: well-formed, formatting only, nothing active.

https://hl7.org/fhir/R4/narrative.html, constraints txt-1 and txt-2. Elements and attributes are
those of HTML 4.0 chapters 7-11 and 15 that the page allows.
"""

import functools
import html
import re
from typing import Any
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"
ELEMENTS = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "address",
        "area",
        "b",
        "bdo",
        "big",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "kbd",
        "li",
        "map",
        "ol",
        "p",
        "pre",
        "q",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "tt",
        "ul",
        "var",
    ]
)
ATTRIBUTES = frozenset(
    [
        "abbr",
        "accesskey",
        "align",
        "alt",
        "axis",
        "bgcolor",
        "border",
        "cellpadding",
        "cellspacing",
        "char",
        "charoff",
        "charset",
        "cite",
        "class",
        "colspan",
        "coords",
        "dir",
        "frame",
        "headers",
        "height",
        "href",
        "hreflang",
        "id",
        "ismap",
        "lang",
        "longdesc",
        "name",
        "nohref",
        "nowrap",
        "rel",
        "rev",
        "rowspan",
        "rules",
        "scope",
        "shape",
        "span",
        "src",
        "start",
        "style",
        "summary",
        "tabindex",
        "title",
        "type",
        "usemap",
        "valign",
        "value",
        "width",
        "xml:lang",
        "xml:space",
        "xmlns",
    ]
)
_READABLE = ELEMENTS - {"img"}
_LINKS = frozenset({"href", "src", "cite", "longdesc", "usemap"})
_ACTIVE_STYLE = re.compile(r"expression|javascript|@import|behaviou?r|-moz-binding|\\", re.I)
# Each reads its input once. A tag whose attributes are not all quoted does not match the second.
_OPENING_TAG = re.compile(r"<[^/>][^>]*>")
_WHOLE_TAG = re.compile(r"""<[a-z0-9]+(?:\s+[a-zA-Z:]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'))*\s*/?>""")
_READABLE_TEXT = re.compile(r">[ \t\r\n]*[^ \t\r\n<]")
_ROOT_TAG = re.compile(r'<div xmlns="http://www\.w3\.org/1999/xhtml"[ >]')
_BLANKS = re.compile(r"[\x00-\x20\x7f-\xa0]+")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})


class _Refused(Exception):
    """A part of the narrative that is not allowed; the argument is the key."""


class _Reader:
    """Handlers of one parse."""

    __slots__ = ("has_content", "parser")

    def __init__(self) -> None:
        self.has_content = False
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.parser.ProcessingInstructionHandler = self.refuse

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Check the root."""
        if name != "div" or attributes.get("xmlns") != XHTML:
            raise _Refused("narrative-root")
        self.parser.StartElementHandler = self.inner
        self.inner(name, attributes)

    def inner(self, name: str, attributes: dict[str, str]) -> None:
        """Check an element and its attributes."""
        if not attributes and name in _READABLE:
            return
        if name not in ELEMENTS:
            raise _Refused("narrative-element")
        if name == "img":
            self.has_content = True
        for attribute, value in attributes.items():
            if attribute not in ATTRIBUTES:
                raise _Refused("narrative-attribute")
            if attribute in _LINKS and not _is_harmless_link(value, is_image=name == "img"):
                raise _Refused("narrative-link")
            if attribute == "style" and _ACTIVE_STYLE.search(value):
                raise _Refused("narrative-style")
            if attribute == "xmlns" and value != XHTML:
                raise _Refused("narrative-element")

    def characters(self, text: str) -> None:
        """Note that there is something to read."""
        if text.strip(" \t\r\n"):
            self.has_content = True
            self.parser.CharacterDataHandler = None

    def refuse(self, *_: object) -> None:
        """Refuse document types and processing instructions."""
        raise _Refused("narrative-declaration")


def _is_harmless_link(value: str, *, is_image: bool) -> bool:
    """Say whether a browser would only go or look there; blanks inside schemes are ignored."""
    scheme, colon, _ = _BLANKS.sub("", value).partition(":")
    scheme = scheme.lower()
    if not colon or not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        return True
    if scheme == "data":
        return is_image and value.lstrip().lower().startswith("data:image/")
    return scheme not in {"javascript", "vbscript", "livescript", "mocha", "file"}


def check_narrative(value: Any) -> str | None:
    """Return None for an allowed `div`, else the key of what is wrong."""
    if type(value) is not str:
        return "not-a-string"
    try:
        return None if _is_plain(value) else _check(value)
    except expat.ExpatError:
        # HTML's own names of characters are not XML; they are common and harmless.
        replaced = to_xml(value)
        if replaced == value:
            return "narrative-not-xml"
    try:
        return _check(replaced)
    except expat.ExpatError:
        return "narrative-not-xml"


def _is_plain(value: str) -> bool:
    """Say whether a narrative is certainly allowed: the quick way most of them go.

    Declarations and instructions look like tags here and are none of the plain ones. Raises
    ExpatError where it is not well-formed.
    """
    if not _ROOT_TAG.match(value):
        return False
    if not all(map(_is_plain_tag, set(_OPENING_TAG.findall(value)))):
        return False
    if not _READABLE_TEXT.search(value):
        return False
    expat.ParserCreate().Parse(value, True)
    return True


@functools.lru_cache(maxsize=4096)
def _is_plain_tag(tag: str) -> bool:
    """Say whether an opening tag has only allowed attributes, quoted, with harmless values."""
    if not _WHOLE_TAG.fullmatch(tag):
        return False
    reader = _Reader()
    reader.parser.StartElementHandler = reader.inner
    try:
        reader.parser.Parse(tag if tag.endswith("/>") else tag[:-1] + "/>", True)
    except (_Refused, expat.ExpatError):
        return False
    return True


def is_xml(value: str) -> bool:
    """Say whether a narrative can stand inside an XML document as it is: one well-formed div."""
    if not value.lstrip().startswith("<div"):
        return False
    try:
        expat.ParserCreate().Parse(value, True)
    except expat.ExpatError:
        return False
    return True


def to_xml(value: str) -> str:
    """Return a narrative with HTML's own names of characters written as XML references."""
    return _ENTITY.sub(_character_reference, value)


def _character_reference(match: re.Match[str]) -> str:
    if match[1] in _XML_ENTITIES:
        return match[0]
    character = html.unescape(match[0])
    return match[0] if character == match[0] else "".join(f"&#{ord(c)};" for c in character)


def _check(value: str) -> str | None:
    reader = _Reader()
    try:
        reader.parser.Parse(value, True)
    except _Refused as refused:
        return str(refused)
    return None if reader.has_content else "txt-2"
