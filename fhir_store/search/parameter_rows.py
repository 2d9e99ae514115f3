"""Under which numbers the rows of a search parameter are stored."""

from conformance.r4 import tables
from conformance.search_parameters import SearchParameter, parameters_of
from fhir_store.authorization import MORE_MEMBERS
from fhir_store.search import query as q


def stored_parameters(parameter: SearchParameter, lookup: q.Lookup) -> tuple[SearchParameter, ...]:
    """Return the parameters under whose numbers the rows of this one are stored."""
    if not parameter.stored_as:
        return (parameter,)
    own = lookup(parameter.base)
    return tuple(own[code] for code in parameter.stored_as)


def row_numbers(parameter: SearchParameter) -> tuple[int, ...]:
    """Return the `pid`s of a reference parameter's rows in ix_ref."""
    if not parameter.stored_as:
        return (parameter.number,)
    own = parameters_of(parameter.base)
    return tuple(own[code].number for code in parameter.stored_as)


def compartment_numbers(kind: str, type_: str, lookup: q.Lookup) -> tuple[int, ...]:
    """Return the `pid`s by which resources of the type belong to a compartment."""
    codes = (
        *tables.load().compartments[kind].get(type_, ()),
        *MORE_MEMBERS.get(kind, {}).get(type_, ()),
    )
    parameters = lookup(type_)
    known = [parameters[code] for code in codes if code in parameters]
    return tuple(dict.fromkeys(pid for one in known for pid in row_numbers(one)))
