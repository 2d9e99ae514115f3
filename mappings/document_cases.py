"""Golden cases of partners' documents: a folder with `in.xml`, `out.fhir.json`, `back.xml`."""

import json
import pathlib
from typing import Any

from conformance import resource_json
from conformance.problem import InvalidContent, Issue
from mappings.document_bundles import content_of, document_bundle, taken_trace
from mappings.documents import Documents
from mappings.engine.library import Library


class DocumentCases:
    """Reads and writes the documents of cases with one library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._documents = Documents(library)

    def out(self, data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the Bundle that a document becomes as plain JSON, and the row of each path."""
        name = self.name_of(data)
        row_map = self._library.maps[name]
        read = self._documents.read(name, data)
        bundle = document_bundle(row_map, read, traced=True)
        rows = taken_trace(row_map, bundle)
        return json.loads(resource_json.dump(bundle), parse_float=str), rows

    def back(self, data: bytes) -> str:
        """Return the document that the case's resources alone make."""
        name = self.name_of(data)
        row_map = self._library.maps[name]
        bundle = document_bundle(row_map, self._documents.read(name, data))
        content, resources = content_of(row_map, bundle)
        return self._documents.compose(name, content, resources=resources).payload.decode()

    def name_of(self, data: bytes) -> str:
        """Return the map of a document; raises `InvalidContent` where there is none."""
        name = self._documents.name_of(data)
        if name is None:
            raise InvalidContent(
                Issue(
                    code="not-found",
                    key="document-unknown",
                    text_en="No map has the root element and namespace of this document",
                    text_zh="没有映射与该文档的根元素和命名空间一致",
                    fix_en="Correct the root and its xmlns, or write a map with `document:`.",
                    fix_zh="请更正根元素及其 xmlns，或编写带 document: 的映射。",
                )
            )
        return name


def is_document(folder: pathlib.Path) -> bool:
    """Say whether a case is about a partner's document."""
    return (folder / "in.xml").exists()
