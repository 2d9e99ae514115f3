"""Database rows of resources as versions."""

from collections.abc import Iterable
from typing import Any

from fhir_store.operations import Version
from fhir_store.resource_types import TYPES


def versions_from_rows(rows: Iterable[tuple[Any, ...]]) -> tuple[Version, ...]:
    """Return the versions in the last columns of rows: tid, fid, ver, lu, body."""
    make = Version._make  # a page makes tens of them: half the time of calling the class
    return tuple(
        [
            make((TYPES[row[-5] - 1], row[-4], row[-3], row[-2], False, row[-1].encode(), "PUT"))
            for row in rows
        ]
    )
