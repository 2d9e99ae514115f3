"""Database rows of resources as versions."""

from typing import Any

from fhir_store.operations import Version
from fhir_store.resource_types import TYPES


def version_from_row(row: tuple[Any, ...]) -> Version:
    """Return the version in the last columns of a row: tid, fid, ver, lu, body."""
    tid, fid, ver, lu, body = row[-5:]
    return Version(
        type=TYPES[tid - 1],
        id=fid,
        version=ver,
        last_updated=lu,
        deleted=False,
        body=body.encode() if isinstance(body, str) else body,
    )
