"""What holds for certain resources whoever writes them: REST, transactions, imports, messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from care.contract.claims import claims_of_change
from care.package.publishing import require_kept
from fhir_store.door import Judge
from fhir_store.operations import Claim, Release, Written
from fhir_store.store import Pool, Store
from routes.operations.contract_writing import operation_of


def lawful_store(pool: Pool, **choices: Any) -> Store:
    """Return a store whose every writer keeps the laws."""
    return Store(pool, laws=LAWS, **choices)


def _contract(written: Written) -> Sequence[Claim | Release]:
    """Claim the term of an active contract: one at a time for each resident."""
    id_ = written.version.id  # a resource that is posted has none of its own
    before, after = (one and {**one, "id": id_} for one in (written.previous, written.resource))
    found = map(operation_of, claims_of_change(before, after))
    return [one for one in found if isinstance(one, Claim | Release)]


def _package(written: Written) -> Sequence[Claim | Release]:
    """Keep a published package as contracts have pinned it."""
    require_kept(written.previous, written.resource)
    return ()


LAWS: Mapping[str, Judge] = {"Contract": _contract, "PlanDefinition": _package}
