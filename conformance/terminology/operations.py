"""The terminology operations from Parameters in to resource out, as HTTP and tests call them."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from conformance.problem import InvalidContent, Issue, NotFound
from conformance.terminology import lookup as looking
from conformance.terminology import translation
from conformance.terminology.arguments import Arguments, differing_systems, missing
from conformance.terminology.concepts import CodeSystem
from conformance.terminology.dependencies import dependencies_of
from conformance.terminology.expansion import ExpandOptions, expand
from conformance.terminology.library import Library
from conformance.terminology.members import code_system_not_found, value_set_not_found
from conformance.terminology.validation import (
    CodeAnswer,
    CodeQuestion,
    in_language,
    refused_as_abstract,
    to_parameters,
    validate_in_code_system,
    validate_in_value_set,
)


def expand_value_set(
    parameters: Mapping[str, Any], library: Library, now: datetime.datetime
) -> dict[str, Any]:
    """Carry out ValueSet/$expand."""
    arguments = Arguments(parameters)
    library = library.with_resources(arguments.every("tx-resource"))
    options = ExpandOptions(
        filter=arguments.one("filter"),
        offset=_number(arguments, "offset"),
        count=_number(arguments, "count"),
        active_only=arguments.one("activeOnly"),
        exclude_nested=arguments.one("excludeNested"),
        include_designations=arguments.one("includeDesignations"),
        include_definition=arguments.one("includeDefinition"),
        display_language=arguments.one("displayLanguage"),
        properties=tuple(str(name) for name in arguments.every("property")),
        supplements=tuple(arguments.every("useSupplement")),
        designations=tuple(arguments.every("designation")),
        excluded_systems=tuple(arguments.every("exclude-system")),
    )
    return expand(_value_set(arguments, library), library, options, now=now)


def _number(arguments: Arguments, name: str) -> int | None:
    value = arguments.one(name)
    if value is None:
        return None
    number: int = value
    if number < 0:
        raise InvalidContent(
            Issue(
                key="parameter-negative",
                text_en=f"{name} is below zero",
                text_zh=f"{name} 小于零",
                fix_en=f"Give {name} as 0 or more.",
                fix_zh=f"{name} 应为 0 或更大的整数。",
                expression="Parameters.parameter",
            )
        )
    return number


def _value_set(arguments: Arguments, library: Library) -> Mapping[str, Any]:
    given: Mapping[str, Any] | None = arguments.one("valueSet")
    if given is not None:
        return given
    url = arguments.require("url", "valueSet")
    version = arguments.one("valueSetVersion")
    canonical = f"{url}|{version}" if version and "|" not in url else url
    found = library.find("ValueSet", canonical)
    if found is None:
        raise NotFound(value_set_not_found(canonical))
    return found


def _code_system(arguments: Arguments, library: Library, *names: str) -> CodeSystem:
    url = arguments.require(*names)
    version = arguments.one("version", "systemVersion")
    canonical = f"{url}|{version}" if version else url
    supplements = library.require_supplements(arguments.every("useSupplement"))
    system = library.code_system(canonical, supplements)
    if system is None:
        raise NotFound(code_system_not_found(canonical))
    return system


def validate_value_set_code(
    parameters: Mapping[str, Any], library: Library, _now: datetime.datetime
) -> dict[str, Any]:
    """Carry out ValueSet/$validate-code."""
    arguments = Arguments(parameters)
    library = library.with_resources(arguments.every("tx-resource"))
    supplements = library.require_supplements(arguments.every("useSupplement"))
    value_set = _value_set(arguments, library)
    system, version = arguments.one("system"), arguments.one("systemVersion")
    if system and version and library.code_system(f"{system}|{version}") is None:
        raise NotFound(code_system_not_found(f"{system}|{version}"))
    answers = [
        validate_in_value_set(question, value_set, library, supplements)
        for question in _questions(arguments)
    ]
    return _best(answers, arguments)


def validate_code_system_code(
    parameters: Mapping[str, Any], library: Library, _now: datetime.datetime
) -> dict[str, Any]:
    """Carry out CodeSystem/$validate-code."""
    arguments = Arguments(parameters)
    given = arguments.one("codeSystem")
    library = library.with_resources([given] if given else [])
    answers = []
    for question in _questions(arguments):
        url = given.get("url") if given else arguments.one("url") or question.system
        if url is None:
            raise missing(*(("codeSystem.url",) if given else ("url", "system")))
        version = arguments.one("version", "systemVersion")
        url = f"{url}|{version}" if version and "|" not in url else url
        system = library.code_system(url, tuple(arguments.every("useSupplement")))
        if system is None:
            raise NotFound(code_system_not_found(str(url)))
        answers.append(validate_in_code_system(question, system))
    return _best(answers, arguments)


def _questions(arguments: Arguments) -> list[CodeQuestion]:
    concept, coding = arguments.one("codeableConcept"), arguments.one("coding")
    if concept:
        return [
            _question(coding, f"CodeableConcept.coding[{place}]")
            for place, coding in enumerate(concept.get("coding", ()))
        ]
    if coding:
        return [_question(coding, "Coding")]
    code = arguments.require("code", "coding", "codeableConcept")
    return [
        CodeQuestion(
            system=arguments.one("system"),
            version=arguments.one("systemVersion"),
            code=code,
            display=arguments.one("display"),
            place="",
        )
    ]


def _question(coding: Mapping[str, Any], place: str) -> CodeQuestion:
    return CodeQuestion(
        system=coding.get("system"),
        version=coding.get("version"),
        code=coding.get("code", ""),
        display=coding.get("display"),
        place=place,
    )


def _best(answers: list[CodeAnswer], arguments: Arguments) -> dict[str, Any]:
    """Answer for a concept: one coding that fits is enough."""
    if not answers:
        raise missing("codeableConcept.coding")
    best = next((answer for answer in answers if answer.is_valid), answers[0])
    if best.concept and best.concept.is_abstract and arguments.one("abstract") is False:
        best = refused_as_abstract(best)
    return to_parameters(
        in_language(best, arguments.one("displayLanguage")),
        codeable_concept=arguments.one("codeableConcept"),
    )


def look_up_code(
    parameters: Mapping[str, Any], library: Library, _now: datetime.datetime
) -> dict[str, Any]:
    """Carry out CodeSystem/$lookup."""
    arguments = Arguments(parameters)
    coding = arguments.one("coding")
    if coding:
        named = [
            {"name": name, "valueString": coding[name]}
            for name in ("system", "version", "code")
            if name in coding
        ]
        arguments = Arguments({"parameter": [*parameters["parameter"], *named]})
    system = _code_system(arguments, library, "system")
    return looking.look_up(
        system,
        arguments.require("code"),
        properties=[str(name) for name in arguments.every("property")],
        language=arguments.one("displayLanguage"),
    )


def subsumes_code(
    parameters: Mapping[str, Any], library: Library, _now: datetime.datetime
) -> dict[str, Any]:
    """Carry out CodeSystem/$subsumes."""
    arguments = Arguments(parameters)
    a, b = arguments.one("codingA") or {}, arguments.one("codingB") or {}
    code_a = a.get("code") or arguments.require("codeA")
    code_b = b.get("code") or arguments.require("codeB")
    named = [one["system"] for one in (a, b) if "system" in one]
    if len({*named, *arguments.every("system")}) > 1:
        raise differing_systems("system, codingA, codingB")
    given = [{"name": "system", "valueUri": system} for system in named]
    arguments = Arguments({"parameter": [*parameters["parameter"], *given]})
    return looking.subsumes(_code_system(arguments, library, "system"), code_a, code_b)


def translate_code(
    parameters: Mapping[str, Any], library: Library, _now: datetime.datetime
) -> dict[str, Any]:
    """Carry out ConceptMap/$translate, also backwards (`reverse`, or R5's `targetCode`).

    With `reverse`, the code and its system are those of the target, `source` and `target`
    change places, and what is answered is the source; with `targetCode` every name keeps its
    meaning, and the answer tells both.
    """
    arguments = Arguments(parameters)
    coding = arguments.one("coding", "sourceCoding", "targetCoding") or {}
    concept = arguments.one("codeableConcept", "sourceCodeableConcept")
    codings = concept.get("coding", []) if concept else [coding] if coding else []
    reverse = arguments.one("reverse") is True or bool(arguments.one("targetCode", "targetCoding"))
    system = arguments.one("system", "sourceSystem")
    target_system = arguments.one("targetsystem", "targetSystem")
    source = arguments.one("source", "sourceScope")
    target = arguments.one("target", "targetScope")
    if arguments.one("reverse") is True:
        system, target_system, source, target = target_system, system, target, source
    if not codings:
        code = arguments.require("code", "sourceCode", "targetCode", "coding", "codeableConcept")
        codings = [{"code": code}]
    codings = [one for one in codings if "code" in one]
    if not codings:
        raise missing("coding.code")
    maps = _maps(arguments, library)

    def find_map(canonical: str) -> Mapping[str, Any] | None:
        return library.find("ConceptMap", canonical)

    dependencies = dependencies_of(arguments.whole("dependency"))
    translated = translation.Translated()
    for one in codings:
        own = one.get("system")
        question = translation.TranslationQuestion(
            code=one["code"],
            system=(system if reverse else own or system),
            target_system=(own or target_system) if reverse else target_system,
            source=source,
            target=target,
            reverse=reverse,
            dependencies=dependencies,
        )
        translated.add(translation.translate(question, maps, find_map))
    asks_as_r5 = arguments.one("targetCode", "targetCoding", "sourceCode", "sourceCoding")
    way = "back" if arguments.one("reverse") is True else "both" if reverse else "forth"
    return translation.to_parameters(translated, way=way, tells_source=not asks_as_r5)


def _maps(arguments: Arguments, library: Library) -> list[Mapping[str, Any]]:
    given = arguments.one("conceptMap")
    if given:
        return [given]
    url = arguments.one("url")
    if url is None:
        return list(library.concept_maps())
    version = arguments.one("conceptMapVersion")
    url = f"{url}|{version}" if version and "|" not in url else url
    found = library.find("ConceptMap", url)
    if found is None:
        raise NotFound(
            Issue(
                code="not-found",
                key="concept-map-not-found",
                text_en=f"The concept map {url} is not known",
                text_zh=f"找不到概念映射 {url}",
                fix_en="Create the ConceptMap first, or correct its canonical address.",
                fix_zh="请先创建该概念映射，或更正其规范地址。",
            )
        )
    return [found]


Operation = Callable[[Mapping[str, Any], Library, datetime.datetime], dict[str, Any]]

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("ValueSet", "expand"): expand_value_set,
    ("ValueSet", "validate-code"): validate_value_set_code,
    ("CodeSystem", "validate-code"): validate_code_system_code,
    ("CodeSystem", "lookup"): look_up_code,
    ("CodeSystem", "subsumes"): subsumes_code,
    ("ConceptMap", "translate"): translate_code,
}
"""Every terminology operation by resource type and name."""

_WHICH_SET = frozenset({"url", "valueSet", "valueSetVersion", "tx-resource", "useSupplement"})
_WHICH_CODE = frozenset({"code", "system", "systemVersion", "display", "coding", "codeableConcept",
                         "abstract", "displayLanguage"})  # fmt: skip
_WHICH_SYSTEM = frozenset({"system", "version", "systemVersion", "useSupplement"})
PARAMETERS: Mapping[tuple[str, str], frozenset[str]] = {
    ("ValueSet", "expand"): _WHICH_SET
    | {"filter", "offset", "count", "activeOnly", "excludeNested", "includeDesignations",
       "designation", "includeDefinition", "displayLanguage", "property", "exclude-system"},
    ("ValueSet", "validate-code"): _WHICH_SET | _WHICH_CODE,
    ("CodeSystem", "validate-code"): _WHICH_CODE
    | {"url", "codeSystem", "version", "useSupplement"},
    ("CodeSystem", "lookup"): _WHICH_SYSTEM | {"code", "coding", "displayLanguage", "property"},
    ("CodeSystem", "subsumes"): _WHICH_SYSTEM | {"codeA", "codeB", "codingA", "codingB"},
    ("ConceptMap", "translate"): frozenset(
        {"url", "conceptMap", "conceptMapVersion", "code", "system", "source", "target",
         "targetsystem", "reverse", "coding", "codeableConcept", "sourceCode", "sourceCoding",
         "sourceCodeableConcept", "sourceSystem", "sourceScope", "targetCode", "targetCoding",
         "targetSystem", "targetScope", "dependency"}
    ),
}  # fmt: skip
"""The parameters that each operation reads; it answers as if others had not been sent."""
