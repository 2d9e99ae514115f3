"""Which resources a caller may touch, judged by the same conditions that searches compile.

A search carries the rights in its own statement; what names a resource (read, version, history)
or writes one asks here, on the same connection and so in the same transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from psycopg import AsyncConnection

from conformance.search_parameters import parameters_of
from fhir_store.authorization import Authorization, Criterion
from fhir_store.search.query import (
    AnyOf,
    ChainTest,
    Condition,
    IdTest,
    Lookup,
    NotOf,
    SearchQuery,
    condition_of,
)
from fhir_store.search.searcher import Searcher
from fhir_store.search.values import Reading

Connection = AsyncConnection[Any]


async def permitted_ids(
    connection: Connection,
    searcher: Searcher,
    type_: str,
    ids: Iterable[str],
    authorization: Authorization,
) -> frozenset[str]:
    """Return those of the ids whose current resource exists and passes the rights."""
    wanted = tuple(dict.fromkeys(ids))
    if not wanted:
        return frozenset()
    query = SearchQuery(types=(type_,), conditions=(IdTest(wanted),), count=len(wanted))
    page = await searcher.search(connection, query, authorization=authorization)
    return frozenset(version.id for version in page.matches)


def conditions_of(
    type_: str, pairs: Iterable[tuple[str, str]], lookup: Lookup = parameters_of
) -> tuple[Condition, ...]:
    """Return what search parameters ask of resources of one type; all must hold."""
    reading = Reading()
    return tuple(condition_of((type_,), name, value, lookup, reading) for name, value in pairs)


def any_of(type_: str, pairs: Iterable[tuple[str, str]]) -> Condition:
    """Return the condition that at least one of several search parameters holds."""
    return AnyOf(conditions_of(type_, pairs))


def membership(kind: str, id_: str, type_: str, codes: Iterable[str]) -> Condition:
    """Return the condition that a resource of the type is in the compartment of `kind/id_`.

    `codes` are the reference parameters that the compartment's definition names for the type.
    """
    ways = [(code, f"{kind}/{id_}") for code in codes if code in parameters_of(type_)]
    if type_ == kind:
        ways.append(("_id", id_))
    return any_of(type_, ways)


def refers_to_any(type_: str, codes: Iterable[str], kind: str) -> Condition:
    """Return the condition that a resource of the type refers to some resource of `kind`.

    `codes` are the reference parameters by which it may.
    """
    known = parameters_of(type_)
    parameters = tuple(known[code] for code in codes if code in known)
    return ChainTest(parameters=parameters, targets=((kind, NotOf(IdTest(()))),))


def only(authorization: Authorization, types: Iterable[str]) -> Authorization:
    """Return the rights to resources of the types, and to nothing else."""
    kept = {type_: authorization.criteria_of(type_) for type_ in types}
    return replace(authorization, by_type=kept, default=())


def within(authorization: Authorization, also: Mapping[str, Condition]) -> Authorization:
    """Return the rights narrowed: resources of the types in `also` must meet its condition too."""
    narrowed: dict[str, tuple[Criterion, ...] | None] = dict(authorization.by_type)
    for type_, condition in also.items():
        criteria = authorization.criteria_of(type_)
        if criteria is None:
            narrowed[type_] = (Criterion(conditions=(condition,)),)
        else:
            narrowed[type_] = tuple(
                replace(criterion, conditions=(*criterion.conditions, condition))
                for criterion in criteria
            )
    return replace(authorization, by_type=narrowed)
