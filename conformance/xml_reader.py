"""Reading FHIR XML into the values its JSON has, with the place of every element.

Expat is used and not lxml: it tells byte offsets, so a narrative comes out as it was written,
and columns, so an issue can name its place. Document types and with them entities are refused.
"""

import re
from typing import Any
from xml.parsers import expat

from conformance.near_names import nearest, printable
from conformance.r4 import tables
from conformance.resource_json import NumberTooLong, decimal_of
from conformance.xml_shapes import FHIR, Member, Shape, shape_of

XHTML = "http://www.w3.org/1999/xhtml"
_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TAG_END = re.compile(rb"""<[^"'>]*(?:"[^"]*"[^"'>]*|'[^']*'[^"'>]*)*>""")
_INTEGERS = {"integer", "positiveInt", "unsignedInt"}
_NARRATIVE_DEPTH = 200

Place = tuple[int, int]


class Fault(Exception):
    """What is wrong with the XML: key, path, arguments of the message, line and column."""

    def __init__(self, key: str, path: str, place: Place, *arguments: str) -> None:
        super().__init__(key)
        self.key = key
        self.path = path
        self.place = place
        self.arguments = arguments


class _Frame:
    """An open element: the value being built and what may come inside it."""

    __slots__ = ("counts", "extended", "member", "path", "shape", "value")

    def __init__(self, member: Member | None, shape: Shape | None, path: str) -> None:
        self.member = member
        self.shape = shape
        self.path = path
        self.value: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.extended: set[str] = set()


class Reader:
    """One parse of one document; `faults` holds what was wrong but did not stop it."""

    def __init__(self, data: bytes, max_depth: int) -> None:
        self.data = data
        self.max_depth = max_depth
        self.places: dict[str, Place] = {}
        self.faults: list[Fault] = []
        self.resource: dict[str, Any] = {}
        self._stack: list[_Frame] = []
        self._skipped = 0
        self._narrative = 0
        self._narrative_start = 0
        self._parser = parser = expat.ParserCreate("UTF-8", namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.buffer_text = True

    def read(self) -> dict[str, Any]:
        """Return the resource; raise Fault where the document cannot be read at all."""
        try:
            self._parser.Parse(self.data, True)
        except expat.ExpatError as error:
            place = (error.lineno, error.offset + 1)
            raise Fault("xml-syntax", self._path(), place) from None
        return self.resource

    @property
    def root_name(self) -> str:
        """The type of the resource, as far as it has been read."""
        outer = self._stack[0].value if self._stack else self.resource
        return str(outer.get("resourceType", ""))

    def _place(self) -> Place:
        return self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1

    def _path(self) -> str:
        return self._stack[-1].path if self._stack else ""

    def _note(self, key: str, *arguments: str) -> None:
        self.faults.append(Fault(key, self._path(), self._place(), *arguments))

    def _refuse_doctype(self, *_: object) -> None:
        raise Fault("xml-doctype", "", self._place())

    def _characters(self, text: str) -> None:
        if not self._narrative and not self._skipped and not text.isspace():
            path = self._path()
            self.faults.append(Fault("xml-text", path, self.places.get(path, self._place())))

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._narrative or self._skipped:
            self._narrative += bool(self._narrative)
            self._skipped += bool(self._skipped)
            if max(self._narrative, self._skipped) > _NARRATIVE_DEPTH:
                raise Fault("xml-depth", self._path(), self._place())
            return
        if len(self._stack) >= self.max_depth:
            raise Fault("xml-depth", self._path(), self._place())
        namespace, _, name = tag.rpartition(" ")
        if not self._stack or (self._stack[-1].member and self._stack[-1].shape is None):
            self._start_resource(namespace, name, attributes)
            return
        parent = self._stack[-1]
        assert parent.shape is not None
        member = parent.shape.elements.get(name)
        wanted = XHTML if member and member.kind == "xhtml" else FHIR
        if member is None or namespace != wanted:
            self._note("unknown-element", printable(name), nearest(name, parent.shape.elements))
            self._skipped = 1
            return
        count = parent.counts[name] = parent.counts.get(name, -1) + 1
        path = f"{parent.path}.{name}" if parent.path else name
        self.places.setdefault(path, self._place())
        if member.is_list:
            path = f"{path}[{count}]"
            self.places[path] = self._place()
        elif count:
            self._note("too-many", "1")
        if member.kind == "xhtml":
            self._narrative = 1
            self._narrative_start = self._parser.CurrentByteIndex
            return
        is_holder = member.kind == "resource"
        frame = _Frame(member, None if is_holder else shape_of(*member.shape), path)
        self._stack.append(frame)
        self._take_attributes(frame, attributes)

    def _start_resource(self, namespace: str, name: str, attributes: dict[str, str]) -> None:
        if namespace != FHIR:
            raise Fault("xml-namespace", self._path(), self._place())
        if name not in tables.load().resource_types:
            raise Fault("resource-type-unknown", self._path(), self._place(), printable(name))
        self.places.setdefault(self._path(), self._place())
        frame = _Frame(None, shape_of(name), self._path())
        frame.value["resourceType"] = name
        self._stack.append(frame)
        self._take_attributes(frame, attributes)

    def _take_attributes(self, frame: _Frame, attributes: dict[str, str]) -> None:
        known = frame.shape.attributes if frame.shape else {}
        for name, text in attributes.items():
            is_value = name == "value" and frame.member and frame.member.kind == "primitive"
            if is_value or name in known:
                frame.value[name] = text
            elif not name.startswith(_SCHEMA_INSTANCE):
                self._note("xml-attribute", printable(name))

    def _end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        if self._narrative:
            self._narrative -= 1
            if not self._narrative:
                self._stack[-1].value["div"] = self._narrative_text()
            return
        frame = self._stack.pop()
        _align_lists(frame)
        if not self._stack:
            self.resource = frame.value
        elif frame.member is None:
            self._stack[-1].value = frame.value
        else:
            self._attach(self._stack[-1], frame, frame.member)

    def _attach(self, parent: _Frame, frame: _Frame, member: Member) -> None:
        """Put a finished element into its parent."""
        if member.kind == "resource" and not frame.value:
            self.faults.append(Fault("xml-no-resource", frame.path, self.places[frame.path]))
            return
        if member.kind != "primitive":
            if member.is_list:
                parent.value.setdefault(member.name, []).append(frame.value)
            else:
                parent.value[member.name] = frame.value
            return
        text = frame.value.pop("value", None)
        value = None if text is None else value_of(text, member.code)
        if value is None and not frame.value:
            self.faults.append(Fault("ele-1", frame.path, self.places[frame.path]))
            return
        if not member.is_list:
            if value is not None:
                parent.value[member.name] = value
            if frame.value:
                parent.value["_" + member.name] = frame.value
            return
        values = parent.value.setdefault(member.name, [])
        beside = parent.value.setdefault("_" + member.name, [])
        parent.extended.add(member.name)
        values.append(value)
        beside.append(frame.value or None)

    def _narrative_text(self) -> str:
        """Return the div as it is written; one that inherits its namespace is given its own."""
        start, end = self._narrative_start, self._parser.CurrentByteIndex
        closing = _TAG_END.match(self.data, end)
        text = self.data[start : closing.end() if closing else end].decode()
        opening = _TAG_END.match(self.data, start)
        tag = opening[0] if opening else b""
        if tag.startswith(b"<div") and b"xmlns=" in tag and b"xmlns:" not in tag:
            return text
        return self._without_prefix(text)

    def _without_prefix(self, text: str) -> str:
        prefix = re.match(r"<([A-Za-z_][\w.\-]*):", text)
        if prefix:
            text = re.sub(rf"(</?){re.escape(prefix[1])}:", r"\1", text)
            text = re.sub(
                rf"\s+xmlns:{re.escape(prefix[1])}\s*=\s*(?:\"[^\"]*\"|'[^']*')", "", text
            )
        head = text.partition(">")[0]
        return text if "xmlns=" in head else text.replace("<div", f'<div xmlns="{XHTML}"', 1)


def _align_lists(frame: _Frame) -> None:
    """Leave out the array of values or of extensions where it holds nothing but null."""
    for name in frame.extended:
        for key in (name, "_" + name):
            if not any(item is not None for item in frame.value[key]):
                del frame.value[key]


def value_of(text: str, code: str) -> Any:
    """Return the JSON value of an XML text; a text that is no such value stays a string."""
    if code == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if code == "decimal" or code in _INTEGERS:
        match = _NUMBER.fullmatch(text)
        try:
            if match is None or len(text) > 256:
                return text
            if match[1] is None and match[2] is None:
                return int(text)
            return decimal_of(text) if code == "decimal" else text
        except NumberTooLong:
            return text
    return text
