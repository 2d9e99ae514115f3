"""Partners' documents from FHIR content and back, by the same rows read both ways."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.problem import InvalidContent, Issue
from mappings.engine.conditions import compile_condition
from mappings.engine.context import Context, Made, Sender
from mappings.engine.library import Library
from mappings.engine.rows import RowMap
from mappings.engine.sinks import NodeSink
from mappings.engine.tree import (
    Node,
    read_json,
    read_xml,
    read_xml_root,
    write_json,
    write_xml,
)
from mappings.engine.tree_maps import NO_SEPARATORS, TreeForward, texts_at
from mappings.translated import TraceEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A document for a partner, what it is made with, and what could not be carried."""

    payload: bytes
    content_type: str
    map_name: str
    map_hash: str
    notes: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDocument:
    """A partner's document as FHIR content, with the source of each value.

    `made` are the resources that the content refers to by `urn:uuid:`.
    """

    name: str
    content: Mapping[str, Any]
    made: tuple[Made, ...]
    trace: tuple[TraceEntry, ...]
    notes: tuple[Issue, ...]
    map_hash: str


class Documents:
    """The document maps of a library, compiled once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._forward = TreeForward(library.maps, library.tables)
        self._backward = library.backward()

    def name_of(self, data: bytes) -> str | None:
        """Return the map whose root and namespace a document has; None where there is none."""
        root, namespace = read_xml_root(data)
        for name, row_map in self._library.maps.items():
            document = row_map.document
            wanted = (document.get("kind"), document.get("root"), document.get("namespace", ""))
            if wanted == ("xml", root.name, namespace):
                return name
        return None

    def compose(
        self,
        name: str,
        content: Mapping[str, Any],
        sender: Sender | None = None,
        *,
        resources: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Composed:
        """Return the document that the content makes.

        `content` has a resource (or value) for each name the map's `fhir:` paths begin with, for
        the resident registration `patient`, `organization`, `contact` (RelatedPersons) and
        `registeredOn`. `resources` are those that references in it mean, by reference.
        Raises `InvalidContent` naming each required element that is missing.
        """
        document = self._library.maps[name].document
        root, notes = self.compose_node(name, content, sender, resources=resources)
        if document["kind"] == "json":
            payload, content_type = write_json(root), "application/json"
        else:
            payload = write_xml(root, str(document.get("namespace", "")))
            content_type = "application/xml; charset=utf-8"
        return Composed(
            payload=payload,
            content_type=content_type,
            map_name=name,
            map_hash=self._library.hash,
            notes=notes,
        )

    def compose_node(
        self,
        name: str,
        content: Mapping[str, Any],
        sender: Sender | None = None,
        *,
        resources: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> tuple[Node, tuple[Issue, ...]]:
        """Return what `compose` writes as a tree, and what could not be carried."""
        row_map = self._library.maps[name]
        root = Node(str(row_map.document.get("root") or row_map.document["main"]))
        context = Context(
            sender=sender or Sender(zone=datetime.UTC),
            separators=NO_SEPARATORS,
            resources=resources or {},
        )
        sink = NodeSink(root)
        self._backward.run(name, content, sink, context)
        missing = _missing(row_map, sink)
        if missing:
            raise InvalidContent(*missing)
        return root, tuple(context.notes)

    def read(self, name: str, data: bytes, sender: Sender | None = None) -> ReadDocument:
        """Return the content of a partner's document; raises `InvalidStructure`."""
        document = self._library.maps[name].document
        if document["kind"] == "json":
            node = read_json(data)
        else:
            node = read_xml(data, str(document.get("namespace", "")))
        return self.read_node(name, node, sender)

    def read_node(self, name: str, node: Node, sender: Sender | None = None) -> ReadDocument:
        """Return the content of a document that was read into a tree."""
        context = Context(sender=sender or Sender(zone=datetime.UTC), separators=NO_SEPARATORS)
        content = self._forward.fill(name, node, context, "", f"/{node.name}")
        return ReadDocument(
            name=name,
            content=content,
            made=tuple(context.made),
            trace=tuple((target.lstrip("."), place, row) for target, place, row in context.trace),
            notes=tuple(context.notes),
            map_hash=self._library.hash,
        )


def _missing(row_map: RowMap, sink: NodeSink) -> list[Issue]:
    """Return an issue for each required element without value, naming the FHIR path to fill."""
    targets = {row.source: row.target for row in row_map.rows}
    wanted = list(row_map.require)
    for condition, more in row_map.require_when.items():
        if compile_condition(condition, texts_at)(sink.node):
            wanted += more
    issues = [
        _required(path, _target_of(path, targets), row_map.name)
        for path in dict.fromkeys(wanted)
        if not sink.has(path)
    ]
    if row_map.require_any and not any(sink.has(path) for path in row_map.require_any):
        paths = " or ".join(_target_of(path, targets) for path in row_map.require_any)
        issues.append(_required(" or ".join(row_map.require_any), paths, row_map.name))
    return issues


def _target_of(path: str, targets: Mapping[str, str]) -> str:
    """Return the FHIR path that a row of the path, or of what it stands in, reads."""
    outer, inner = path, ""
    while outer:
        if outer in targets:
            return f"{targets[outer]} ({inner})" if inner else targets[outer]
        outer, _, last = outer.rpartition("/")
        inner = f"{last}/{inner}" if inner else last
    return path


def _required(path: str, target: str, name: str) -> Issue:
    return Issue(
        code="required",
        key="document-required",
        text_en=f"The document {name} needs {path}, and {target} says nothing",
        text_zh=f"文档 {name} 必须填写 {path}，而 {target} 没有值",
        fix_en=f"Fill {target} in the record; the delivery can then be sent again.",
        fix_zh=f"请在档案中补充 {target}，然后重新投递。",
        expression=target,
    )
