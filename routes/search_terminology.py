"""What `:in`, `:not-in`, `:below` and `:above` of a search mean, by the definitions at hand."""

from collections.abc import Sequence

from conformance.problem import InvalidContent, Issue, NotFound
from conformance.terminology.library import Library
from conformance.terminology.members import Reading, members_of
from fhir_store.search.value_nodes import Terminology
from routes.definitions import Definitions

Codes = Sequence[tuple[str, str]]
_REMEMBERED = 200


def search_terminology(definitions: Definitions) -> Terminology:
    """Return the function a search asks for the codes of value sets and hierarchies.

    Answers are remembered until a stored definition changes.
    """
    known: dict[tuple[str, str], Codes] = {}
    of: list[Library] = []

    async def codes_of(relation: str, value: str) -> Codes:
        library = await definitions.library()
        if of != [library] or len(known) > _REMEMBERED:
            of[:] = [library]
            known.clear()
        if (relation, value) not in known:
            find = _members if relation == "in" else _related
            try:
                known[relation, value] = find(relation, value, library)
            except NotFound:
                # What was stored within the last moment counts, too, where something is missed.
                fresh = await definitions.library(is_fresh=True)
                try:
                    return find(relation, value, fresh)
                except NotFound as missing:  # what the question names, not what is at the address
                    raise InvalidContent(*missing.issues) from None
        return known[relation, value]

    return codes_of


def _members(_: str, canonical: str, library: Library) -> Codes:
    kind, _, id_ = canonical.partition("/")
    if kind == "ValueSet":  # https://hl7.org/fhir/R4/search.html#modifiers: relative, too
        value_set = library.of_id(kind, id_)
    else:
        value_set = library.find("ValueSet", canonical)
    if value_set is None:
        raise NotFound(_UNKNOWN_VALUE_SET)
    return list(members_of(value_set, Reading(library=library)))


def _related(relation: str, token: str, library: Library) -> Codes:
    canonical, _, code = token.rpartition("|")
    system = library.code_system(canonical) if canonical else None
    if system is None:
        raise NotFound(_UNKNOWN_SYSTEM)
    others = system.descendants(code) if relation == "below" else system.ancestors(code)
    return [(system.url, one) for one in (code, *others)]


_UNKNOWN_VALUE_SET = Issue(
    code="not-found",
    key="search-value-set",
    text_en="The value set of the search is not known here",
    text_zh="查询所用的值集未知",
    fix_en="Give the canonical address or ValueSet/id of a stored ValueSet, or store it first.",
    fix_zh="请给出已存储的 ValueSet 的规范地址或 ValueSet/id，或先存储该值集。",
)
_UNKNOWN_SYSTEM = Issue(
    code="not-found",
    key="search-code-system",
    text_en="The code system of the search is not given or not known here",
    text_zh="未给出查询所用的代码系统，或其未知",
    fix_en="Write system|code, and store the CodeSystem first.",
    fix_zh="请写成 system|code，并先存储该 CodeSystem。",
)
