"""Database rows of resources as versions."""

from typing import Any

from fhir_store.operations import Version
from fhir_store.resource_types import TYPES


def version_from_row(row: tuple[Any, ...]) -> Version:
    """Return the version in the last columns of a row: tid, fid, ver, lu, body."""
    tid, fid, ver, lu, body = row[-5:]
    content = body.encode() if isinstance(body, str) else body
    return Version(TYPES[tid - 1], fid, ver, lu, False, content)  # by place: it is quicker
