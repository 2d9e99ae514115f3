"""Documents as trees: XML, JSON and flat rows read into nodes and written from them.

Rows address nodes by a small part of XPath: `Resident/Name`, `Resident/Contact[*]/Phone`,
`MedicalRecordNumber/@assigner`, `.` for the node itself.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from conformance.problem import InvalidStructure, Issue, TooCostly

MAX_DEPTH = 64
MAX_NODES = 200_000
_STEP = re.compile(r"(@?[\w.\-]+|\.)(?:\[(\*|\d+)\])?\Z")


class UnreadableTreePath(ValueError):
    """The text is no path of a tree; the message says why."""


@dataclass(slots=True)
class Node:
    """An element, object or row: a text, attributes, and children in order."""

    name: str
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Node"] = field(default_factory=list)

    def all(self, name: str) -> list["Node"]:
        """Return the children of a name."""
        return [child for child in self.children if child.name == name]


@dataclass(frozen=True, slots=True)
class TreeStep:
    """A child (or `@attribute`) by name; `index` 0 is the first, -1 all."""

    name: str
    index: int


def parse_tree_path(path: str) -> tuple[TreeStep, ...]:
    """Read a path; raises `UnreadableTreePath`."""
    if path == ".":
        return ()
    steps = []
    for piece in path.split("/"):
        match = _STEP.match(piece)
        if match is None or piece == ".":
            raise UnreadableTreePath(f"cannot read the step {piece!r} of {path!r}")
        name, index = match.groups()
        steps.append(TreeStep(name, -1 if index == "*" else int(index or 1) - 1))
    return tuple(steps)


def select(node: Node, steps: tuple[TreeStep, ...]) -> list[tuple[Node | str, str]]:
    """Return the nodes (or attribute texts) at a path, each with its place below `node`."""
    found: list[tuple[Node | str, str]] = [(node, "")]
    for step in steps:
        reached: list[tuple[Node | str, str]] = []
        for one, place in found:
            if isinstance(one, str):
                continue
            if step.name.startswith("@"):
                text = one.attributes.get(step.name[1:])
                if text is not None:
                    reached.append((text, f"{place}/{step.name}"))
                continue
            for number, child in enumerate(one.all(step.name), 1):
                if step.index in (-1, number - 1):
                    reached.append((child, f"{place}/{step.name}[{number}]"))
        found = reached
    return found


def ensure(node: Node, steps: tuple[TreeStep, ...], *, repetition: int = 0) -> Node:
    """Return the node at a path, made where absent; `repetition` says which of a [*] step."""
    for step in steps:
        wanted = repetition if step.index == -1 else step.index
        same = node.all(step.name)
        while len(same) <= wanted:
            child = Node(step.name)
            node.children.append(child)
            same.append(child)
        node = same[wanted]
    return node


# -- XML -------------------------------------------------------------------------------------------


class _XmlReader:
    """One parse; document types and entities are refused, depth and size are bounded."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.namespace = ""
        self._open: list[Node] = []
        self._texts: list[list[str]] = []
        self._count = 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.buffer_text = True
        self.parser = parser

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_NODES:
            raise TooCostly(_too_large())
        namespace, _, local = name.rpartition(" ")
        node = Node(local, "", {key.rpartition(" ")[2]: text for key, text in attributes.items()})
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root, self.namespace = node, namespace
        self._open.append(node)
        self._texts.append([])

    def _characters(self, text: str) -> None:
        self._texts[-1].append(text)

    def _end(self, _name: str) -> None:
        node = self._open.pop()
        text = "".join(self._texts.pop())
        node.text = text.strip() if node.children else text


def _refuse_doctype(*_arguments: Any) -> None:
    raise InvalidStructure(
        Issue(
            code="structure",
            key="xml-doctype",
            text_en="The document declares a document type, which is not read",
            text_zh="文档包含 DOCTYPE 声明，不予读取",
            fix_en="Send the document without <!DOCTYPE …>.",
            fix_zh="请去掉 <!DOCTYPE …> 后重新发送。",
        )
    )


def _too_large() -> Issue:
    return Issue(
        code="too-costly",
        key="document-size",
        text_en=f"The document is deeper than {MAX_DEPTH} levels or has over {MAX_NODES} elements",
        text_zh=f"文档嵌套超过 {MAX_DEPTH} 层或元素超过 {MAX_NODES} 个",
        fix_en="Send it in smaller parts.",
        fix_zh="请拆分后发送。",
    )


def read_xml(data: bytes, namespace: str = "") -> Node:
    """Return the root of an XML document; raises `InvalidStructure` or `TooCostly`."""
    root, found = read_xml_root(data)
    if namespace and found != namespace:
        raise InvalidStructure(_wrong_namespace(namespace))
    return root


def read_xml_root(data: bytes) -> tuple[Node, str]:
    """Return the root of an XML document and its namespace; raises as `read_xml`."""
    reader = _XmlReader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise InvalidStructure(_bad_syntax("XML", error.lineno, error.offset + 1)) from None
    except (LookupError, ValueError):  # an encoding that nobody knows, or that lies
        raise InvalidStructure(_bad_syntax("XML", 1, 1)) from None
    if reader.root is None:
        raise InvalidStructure(_bad_syntax("XML", 1, 1))
    return reader.root, reader.namespace


def _bad_syntax(kind: str, line: int, column: int) -> Issue:
    return Issue(
        code="structure",
        key="document-syntax",
        text_en=f"The document is not {kind}",
        text_zh=f"文档不是合法的 {kind}",
        fix_en="Correct the document at the named line.",
        fix_zh="请在所示行处更正文档。",
        line=line,
        column=column,
    )


def _wrong_namespace(namespace: str) -> Issue:
    return Issue(
        code="structure",
        key="xml-namespace",
        text_en=f"The document's root is not in the namespace {namespace}",
        text_zh=f"文档根元素不在命名空间 {namespace} 中",
        fix_en="Declare that namespace on the root element.",
        fix_zh="请在根元素上声明该命名空间。",
    )


def write_xml(node: Node, namespace: str = "") -> bytes:
    """Return the tree as UTF-8 XML in document order; empty elements are left out."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write_node(node, out, f" xmlns={quoteattr(namespace)}" if namespace else "")
    return "".join(out).encode()


def _write_node(node: Node, out: list[str], declaration: str = "") -> None:
    attributes = "".join(f" {key}={quoteattr(text)}" for key, text in node.attributes.items())
    out.append(f"<{node.name}{declaration}{attributes}>")
    if node.text:
        out.append(escape(_allowed(node.text)))
    for child in node.children:
        if child.text or child.children or child.attributes:
            _write_node(child, out)
    out.append(f"</{node.name}>")


def _allowed(text: str) -> str:
    """Drop what XML 1.0 cannot carry (section 2.2)."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter >= " " or letter in "\t\n\r")


# -- JSON ------------------------------------------------------------------------------------------


def read_json(data: bytes) -> Node:
    """Return a JSON document as a tree; arrays become repeated children."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidStructure(_bad_syntax("JSON", 1, 1)) from None
    root = Node("$")
    _fill_json(root, value, 0)
    return root


def _fill_json(node: Node, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TooCostly(_too_large())
    if isinstance(value, dict):
        for name, item in value.items():
            for one in item if isinstance(item, list) else [item]:
                child = Node(name)
                node.children.append(child)
                _fill_json(child, one, depth + 1)
    elif value is not None:
        node.text = str(value).lower() if isinstance(value, bool) else str(value)


def write_json(node: Node, lists: frozenset[str] = frozenset()) -> bytes:
    """Return the tree as JSON; names in `lists` and repeated names become arrays."""
    return json.dumps(_json_of(node, lists), ensure_ascii=False).encode()


def _json_of(node: Node, lists: frozenset[str]) -> Any:
    if not node.children:
        return node.text
    found: dict[str, Any] = {}
    for child in node.children:
        value = _json_of(child, lists)
        if child.name in found:
            if not isinstance(found[child.name], list):
                found[child.name] = [found[child.name]]
            found[child.name].append(value)
        else:
            found[child.name] = [value] if child.name in lists else value
    return found
