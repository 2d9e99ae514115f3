"""What holds for certain resources whoever writes them: REST, transactions, imports, messages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from care.contract.claims import claims_of_change
from care.effects import Effect, Resource
from care.fulfilment.beyond_quota import claims_of_change as claims_of_charge
from care.package.publishing import claims_of_item, pins_of, require_kept
from care.programme import claims_of_change as claims_of_episode
from fhir_store.door import Judge
from fhir_store.operations import Claim, Release, Written
from fhir_store.store import Pool, Store
from routes.operations.contract_writing import operation_of


def lawful_store(pool: Pool, **choices: Any) -> Store:
    """Return a store whose every writer keeps the laws."""
    return Store(pool, laws=LAWS, **choices)


def _contract(written: Written) -> Sequence[Claim | Release]:
    """Claim the term of an active contract: one at a time for each resident."""
    return _asked(claims_of_change(*_named(written)))


def _episode(written: Written) -> Sequence[Claim | Release]:
    """Let a resident be in a programme once."""
    return _asked(claims_of_episode(*_named(written)))


def _charge(written: Written) -> Sequence[Claim | Release]:
    """Let a record that proved a service be charged once, and be free where that was an error."""
    return _asked(claims_of_charge(*_named(written)))


def _package(written: Written) -> Sequence[Claim | Release]:
    """Keep a published package, and with it its items, as contracts have pinned them."""
    require_kept(written.previous, written.resource)
    return _asked(pins_of(written.previous, written.resource))


def _item(written: Written) -> Sequence[Claim | Release]:
    """Keep the items of published packages, and one item for each version."""
    return _asked(claims_of_item(*_named(written)))


def _named(written: Written) -> tuple[Resource | None, Resource | None]:
    """Return what was and what is; a resource that is posted has no id of its own."""
    id_ = written.version.id
    before, after = (one and {**one, "id": id_} for one in (written.previous, written.resource))
    return before, after


def _asked(effects: Iterable[Effect]) -> list[Claim | Release]:
    found = map(operation_of, effects)
    return [one for one in found if isinstance(one, Claim | Release)]


LAWS: Mapping[str, Judge] = {
    "ActivityDefinition": _item,
    "ChargeItem": _charge,
    "Contract": _contract,
    "EpisodeOfCare": _episode,
    "PlanDefinition": _package,
}
