"""`Patient/$match`: who is this, by numbers and by name; within what the caller may see."""

from typing import Any

from care.identity.matching import GRADE, Match, Resource, best_first, identifiers_of
from care.names import written
from conformance import resource_json
from conformance.cphc.operations import definition_of
from conformance.problem import InvalidContent, Issue
from fhir_store.permits import conditions_of
from fhir_store.search.query import AllOf, AnyOf, Condition, SearchQuery
from routes.answer import Answer
from routes.bodies import require_same_type
from routes.hub import Hub
from routes.operations.parameters import bad_parameter, single, sound_parameters_in, value_of
from routes.registry import Operation
from routes.request import Request

# Beyond it a question is too wide to be about one person.
_CANDIDATES = 200
_COUNT = 20
_NUMBERS = 50
"""Identifiers in one question; nobody carries more."""


def match_operation() -> Operation:
    """Return the operation as the registry wants it; it changes nothing but is asked by POST."""
    return Operation(
        code="match",
        definition=definition_of("Patient", "match"),
        levels=frozenset({"type"}),
        types=frozenset({"Patient"}),
        handler=match,
        affects_state=True,
    )


async def match(hub: Hub, request: Request) -> Answer:
    """Return the records that may be the person, best first, each with score and match grade.

    https://hl7.org/fhir/R4/patient-operation-match.html
    """
    parts = sound_parameters_in(hub, request)
    sought = (single(parts, "resource") or {}).get("resource")
    if not isinstance(sought, dict):
        raise bad_parameter("resource", "Send the Patient to look for.", "请给出要查找的 Patient。")
    require_same_type(sought, "Patient")
    if len(identifiers_of(sought)) > _NUMBERS:
        raise bad_parameter(
            "resource",
            f"Look for one person, by {_NUMBERS} identifiers at most.",
            f"一次只查一人，标识不超过 {_NUMBERS} 个。",
        )
    only_certain = value_of(single(parts, "onlyCertainMatches") or {}) is True
    count = value_of(single(parts, "count") or {})
    if count is not None and (not isinstance(count, int) or count < 1):
        raise bad_parameter("count", "Send a whole number from 1.", "请给出不小于 1 的整数。")
    rights = await hub.authorize(request.caller, "s", "Patient")
    query = SearchQuery(types=("Patient",), conditions=(_wanted(sought),), count=_CANDIDATES)
    page = await hub.store.search(query, authorization=rights)
    records = [resource_json.parse(version.body) for version in page.matches]
    found = best_first(sought, records, only_certain=only_certain)
    return _answer(request, found[: count or _COUNT], len(found))


def _wanted(sought: Resource) -> Condition:
    """Return the condition on records worth comparing."""
    ways: list[Condition] = [
        *conditions_of(
            "Patient", [("identifier", _token(*one)) for one in sorted(identifiers_of(sought))]
        )
    ]
    name: Resource = next(iter(sought.get("name", ())), {})
    text = written(name)
    if text:
        named = ("name", _escaped(text))
        born, sex = str(sought.get("birthDate", "")), str(sought.get("gender", ""))
        more = [("birthdate", born)] if born else [("gender", sex)] if sex else []
        if more:
            ways.append(AllOf(conditions_of("Patient", [named, *more])))
    if not ways:
        raise InvalidContent(_TOO_LITTLE)
    return AnyOf(tuple(ways))


def _token(system: str, value: str) -> str:
    return f"{_escaped(system)}|{_escaped(value)}"


def _escaped(text: str) -> str:
    for character in "\\,|$":
        text = text.replace(character, f"\\{character}")
    return text


def _answer(request: Request, found: list[tuple[Resource, Match]], total: int) -> Answer:
    entries: list[dict[str, Any]] = [
        {
            "fullUrl": f"{request.base}/Patient/{record['id']}",
            "resource": record,
            "search": {
                "extension": [{"url": GRADE, "valueCode": graded.grade}],
                "mode": "match",
                "score": graded.score,
            },
        }
        for record, graded in found
    ]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": total}
    if entries:
        bundle["entry"] = entries
    return Answer(status=200, body=resource_json.dump(bundle))


_TOO_LITTLE = Issue(
    code="required",
    key="match-too-little",
    text_en="Nothing in the Patient can be looked for.",
    text_zh="所给 Patient 中没有可供匹配的信息。",
    fix_en="Give an identifier with its system (ID card, health card, archive number, MRN), or a "
    "name with birthDate or gender.",
    fix_zh="请给出带 system 的标识（身份证、健康卡、档案号、病历号），或姓名加出生日期或性别。",
    expression="Parameters.parameter.where(name = 'resource')",
)
