"""Which search parameters the hub answers, for its CapabilityStatement and OpenAPI document."""

import functools
from collections.abc import Mapping

from conformance.r4.tables import load
from conformance.search_parameters import SearchParameter, parameters_of

SUPPORTED_TYPES = frozenset(
    {"number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"}
)
# Parameters of every type, said once at `rest.searchParam`.
COMMON: Mapping[str, str] = {
    "_id": "token",
    "_lastUpdated": "date",
    "_tag": "token",
    "_profile": "uri",
    "_security": "token",
    "_source": "uri",
    "_text": "string",
    "_content": "string",
    "_list": "special",
    "_has": "special",
    "_filter": "special",
}


def is_supported(parameter: SearchParameter) -> bool:
    """Say whether the store answers this parameter."""
    return parameter.type in SUPPORTED_TYPES and (
        parameter.expression is not None or parameter.code in COMMON
    )


@functools.cache
def include_paths(type_: str) -> tuple[list[str], list[str]]:
    """Return what `_include` and `_revinclude` may name for a type: `Type:code`, sorted."""
    includes = [f"{type_}:{code}" for code in sorted(_references()[type_])]
    revincludes = [
        f"{other}:{code}"
        for other, found in sorted(_references().items())
        for code, targets in sorted(found.items())
        if type_ in targets
    ]
    return includes, revincludes


@functools.cache
def _references() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Return type → code of a reference parameter → the types it may point to."""
    every = load().resource_types
    return {
        type_: {
            code: frozenset(parameter.targets) or every
            for code, parameter in parameters_of(type_).items()
            if parameter.type == "reference" and is_supported(parameter)
        }
        for type_ in every
    }
