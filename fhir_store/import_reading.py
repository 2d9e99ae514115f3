"""NDJSON lines and Bundles as requests of the write door, for every way in that imports.

Resources keep their ids, so a repeated import finds what the first has made; nothing is delivered
to partners. What cannot be read is told by its line and stands in nobody's way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from conformance.problem import InvalidContent, Issue, Problem
from conformance.resource_json import parse
from conformance.structure import require_valid
from fhir_store.bundle import entries_of, plan_transaction, refuse_change
from fhir_store.operations import Update, WriteContext, WriteRequest

LINE_BYTES = 16_000_000
Check = Callable[[Mapping[str, Any]], None]
Requests = list[tuple[int, WriteRequest]]


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that does not go in, and why; a whole Bundle is line 1."""

    line: int
    issues: tuple[Issue, ...]


def import_context(source: bytes, *, actor: str = "import", trace_id: str = "") -> WriteContext:
    """Return the context of an import; `source` is the digest of what is imported."""
    return WriteContext(
        actor=actor,
        at=datetime.now(UTC),
        trace_id=trace_id,
        source=f"urn:qiao:import:{source.hex()[:16]}",
        deliveries=False,
    )


def read_lines(
    lines: list[bytes], first_line: int, context: WriteContext, check: Check = require_valid
) -> tuple[Requests, list[RefusedLine]]:
    """Parse and check each line, one request a line; empty lines are nothing."""
    requests: Requests = []
    refused: list[RefusedLine] = []
    for number, line in enumerate(lines, start=first_line):
        if not line.strip():
            continue
        try:
            if len(line) >= LINE_BYTES:
                raise InvalidContent(_TOO_LONG)
            resource = parse(line)
            check(resource)
            update = Update(resource=resource)
            requests.append((number, WriteRequest(operations=[update], context=context)))
        except Problem as problem:
            refused.append(RefusedLine(number, tuple(problem.issues)))
    return requests, refused


def bundle_request(bundle: Mapping[str, Any], context: WriteContext) -> WriteRequest:
    """Return a transaction, batch or collection as one request, all or nothing."""
    entries = []
    for entry in bundle.get("entry", ()):
        resource = entry.get("resource")
        is_new = entry.get("request", {}).get("method", "POST") == "POST"
        if is_new and resource is not None and "id" in resource:
            # A second import of the same Bundle must find what the first has made.
            url = f"{resource['resourceType']}/{resource['id']}"
            entry = {**entry, "request": {"method": "PUT", "url": url}}
        entries.append(entry)
    plan = plan_transaction(entries_of({**bundle, "entry": entries}), change_of=refuse_change)
    return WriteRequest(operations=plan.operations, context=context, link=True, distinct=True)


_TOO_LONG = Issue(
    code="too-long",
    key="import-line-too-long",
    text_en="The line is longer than 16 MB",
    text_zh="该行超过 16 MB",
    fix_en="Split the resource, or put its attachment into a Binary of its own.",
    fix_zh="请拆分该资源，或将附件放入单独的 Binary。",
)
