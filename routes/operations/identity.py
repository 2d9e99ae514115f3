"""The operations of identity, as the registry wants them."""

from collections.abc import Collection

from routes.operations.patient_match import match_operation
from routes.operations.patient_merge import merge_operations
from routes.operations.resident_import import ResidentImport
from routes.registry import Operation


def identity_operations(test_regions: Collection[str] = ()) -> tuple[Operation, ...]:
    """Return matching, merging and importing; ID cards of `test_regions` pass the import."""
    return (
        match_operation(),
        *merge_operations(),
        *ResidentImport(test_regions=test_regions).promises(),
    )
