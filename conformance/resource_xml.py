"""Resources from and to FHIR XML, without loss: numbers keep their text, narratives their bytes.

https://hl7.org/fhir/R4/xml.html. Values are those of `resource_json`. Document types, entities and
other encodings than UTF-8 are refused.
"""

import codecs
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from conformance import narrative
from conformance.problem import InvalidContent, InvalidStructure, Issue
from conformance.r4 import tables
from conformance.resource_json import text_of
from conformance.structure_texts import TEXTS
from conformance.xml_reader import Fault, Place, Reader
from conformance.xml_shapes import FHIR, Member, Shape, shape_of

_ENCODING = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._\-]+)["']""")
# Line ends and tabs in attributes must be written as references or XML turns them into blanks.
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)


def parse(data: bytes, *, max_depth: int = 64) -> dict[str, Any]:
    """Return the resource that XML bytes hold, as its JSON has it.

    Raises InvalidStructure with line, column and expression. A value that is not one of its type
    (a date that is none) stays as written; `structure.check` judges it.
    """
    return parse_with_places(data, max_depth=max_depth)[0]


def parse_with_places(
    data: bytes, *, max_depth: int = 64
) -> tuple[dict[str, Any], Mapping[str, Place]]:
    """Return the resource and path → line and column, paths as in `json_scan.positions`."""
    data = data.removeprefix(codecs.BOM_UTF8)
    encoding = _ENCODING.match(data)
    if encoding and encoding[1].lower() not in {b"utf-8", b"us-ascii"}:
        raise InvalidStructure(_issue(Fault("xml-encoding", "", (1, 1)), ""))
    reader = Reader(data, max_depth)
    try:
        resource = reader.read()
    except Fault as fault:
        faults = (*reader.faults, fault)
        raise InvalidStructure(*(_issue(f, reader.root_name) for f in faults)) from None
    if reader.faults:
        raise InvalidStructure(*(_issue(fault, reader.root_name) for fault in reader.faults))
    return resource, reader.places


def dump(resource: Mapping[str, Any]) -> bytes:
    """Return a resource as FHIR XML in UTF-8, elements in the order of the standard.

    Raises InvalidContent for content that FHIR XML cannot say: unknown elements, a narrative that
    is not XML.
    """
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>'
        + "".join(_resource(resource, f' xmlns="{FHIR}"', "")).encode()
    )


def _resource(resource: Mapping[str, Any], attributes: str, path: str) -> Iterator[str]:
    name = resource.get("resourceType")
    if not isinstance(name, str) or name not in tables.load().resource_types:
        raise _cannot_say(path, "resourceType")
    content = {key: value for key, value in resource.items() if key != "resourceType"}
    yield from _element(name, content, shape_of(name), attributes, path or name)


def _element(
    tag: str, value: Mapping[str, Any], shape: Shape, attributes: str, path: str
) -> Iterator[str]:
    """Yield one complex element with all its content."""
    if not isinstance(value, Mapping):
        raise _cannot_say(path, tag)
    names = {name.removeprefix("_") for name in value}
    if unknown := names - shape.elements.keys() - shape.attributes.keys():
        raise _cannot_say(path, min(unknown))
    for name in shape.attributes:
        if name in value:
            attributes += f' {name}="{_text(value[name], path)}"'
    yield f"<{tag}{attributes}>"
    for name, member in shape.elements.items():
        if name in names:
            yield from _member(member, value.get(name), value.get("_" + name), f"{path}.{name}")
    yield f"</{tag}>"


def _member(member: Member, value: Any, beside: Any, path: str) -> Iterator[str]:
    """Yield the element, or elements, of one member."""
    if not member.is_list:
        yield from _one(member, value, beside, path)
        return
    if not isinstance(value or [], list) or not isinstance(beside or [], list):
        raise _cannot_say(path, member.name)
    count = max(len(value or ()), len(beside or ()))
    for index in range(count):
        one = value[index] if value and index < len(value) else None
        other = beside[index] if beside and index < len(beside) else None
        yield from _one(member, one, other, f"{path}[{index}]")


def _one(member: Member, value: Any, beside: Any, path: str) -> Iterator[str]:
    if member.kind == "xhtml":
        yield _narrative(value, path)
    elif member.kind == "primitive":
        attributes = "" if value is None else f' value="{_text(value, path)}"'
        if beside:
            yield from _element(member.name, beside, shape_of("Element"), attributes, path)
        else:
            yield f"<{member.name}{attributes}/>"
    elif member.kind == "resource":
        if not isinstance(value, Mapping):
            raise _cannot_say(path, member.name)
        yield f"<{member.name}>"
        yield from _resource(value, "", path)
        yield f"</{member.name}>"
    else:
        yield from _element(member.name, value, shape_of(*member.shape), "", path)


def _text(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return text_of(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if not isinstance(value, str):
        raise _cannot_say(path, path.rpartition(".")[2])
    return value.translate(_ESCAPES)


def _narrative(value: Any, path: str) -> str:
    """Return a div as XML; HTML's own names of characters become references."""
    text = narrative.to_xml(value).strip() if isinstance(value, str) else ""
    if not narrative.is_xml(text):
        raise _cannot_say(path, "div")
    return text


def _cannot_say(path: str, name: str) -> InvalidContent:
    return InvalidContent(
        Issue(
            code="structure",
            key="xml-cannot-say",
            text_en="FHIR XML has no way to say what stands here.",
            text_zh="FHIR XML 无法表达此处的内容。",
            fix_en="Validate the resource first and mend what it names.",
            fix_zh="请先校验资源并修正所列问题。",
            expression=path or name,
        )
    )


def _issue(fault: Fault, root: str) -> Issue:
    text = TEXTS[fault.key]
    values = [*fault.arguments, "", ""]
    fix_en, fix_zh = text.fix_en, text.fix_zh
    if fault.key == "unknown-element" and values[1]:
        fix_en, fix_zh = "Did you mean {1}?", "是否应为 {1}？"
    return Issue(
        severity="fatal" if fault.key.startswith("xml-") else "error",
        code=text.code,
        key=fault.key,
        text_en=text.en.format(*values),
        text_zh=text.zh.format(*values),
        fix_en=fix_en.format(*values),
        fix_zh=fix_zh.format(*values),
        expression=".".join(filter(None, (root, fault.path))) or None,
        line=fault.place[0],
        column=fault.place[1],
    )
