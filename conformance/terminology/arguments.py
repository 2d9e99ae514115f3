"""What a terminology operation is given: parameters by name, each of the kind its name asks for.

https://hl7.org/fhir/R4/terminology-service.html. Names that no operation here reads are let be.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.problem import InvalidContent, Issue
from conformance.terminology.concepts import value_of

_CODINGS = ("coding", "codingA", "codingB", "sourceCoding", "targetCoding")
_CONCEPTS = ("codeableConcept", "sourceCodeableConcept")
_BOOLEANS = (
    "abstract",
    "activeOnly",
    "excludeNested",
    "includeDesignations",
    "includeDefinition",
    "reverse",
)
_INTEGERS = ("offset", "count")
_RESOURCES = {"valueSet": "ValueSet", "codeSystem": "CodeSystem", "conceptMap": "ConceptMap"}
_TEXTS = (
    "url", "system", "version", "systemVersion", "valueSetVersion", "code", "display", "filter",
    "displayLanguage", "property", "useSupplement", "codeA", "codeB", "source", "target",
    "targetsystem", "targetSystem", "sourceSystem", "sourceCode", "targetCode", "sourceScope",
    "targetScope", "conceptMapVersion", "designation", "exclude-system",
)  # fmt: skip
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(_CODINGS, "Coding"),
    **dict.fromkeys(_CONCEPTS, "CodeableConcept"),
    **dict.fromkeys(_BOOLEANS, "boolean"),
    **dict.fromkeys(_INTEGERS, "integer"),
    **dict.fromkeys(_TEXTS, "string"),
    **_RESOURCES,
    "tx-resource": "Resource",
}


class Arguments:
    """The `parameter`s of an operation by name; raises InvalidContent on one of a wrong kind."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._by_name: dict[str, list[Any]] = {}
        self._parameters: Sequence[Mapping[str, Any]] = parameters.get("parameter", ())
        for parameter in self._parameters:
            name, value = parameter["name"], parameter.get("resource", value_of(parameter))
            kind = _KINDS.get(name)
            if kind is not None and not _is_of_kind(value, kind):
                raise _wrong_kind(name, kind)
            self._by_name.setdefault(name, []).append(value)

    def one(self, *names: str) -> Any:
        """Return the first value of the first of these names that is given, or None."""
        return next((self._by_name[name][0] for name in names if name in self._by_name), None)

    def every(self, name: str) -> list[Any]:
        """Return all values of a repeating parameter."""
        return self._by_name.get(name, [])

    def whole(self, name: str) -> list[Mapping[str, Any]]:
        """Return the parameters of a name as they were sent, for those that have parts."""
        return [one for one in self._parameters if one["name"] == name]

    def require(self, *names: str) -> Any:
        """Return a value, or raise InvalidContent naming what is missing."""
        value = self.one(*names)
        if value is None:
            raise missing(*names)
        return value


def _is_of_kind(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if not isinstance(value, Mapping):
        return False
    type_ = value.get("resourceType")
    if kind in ("Coding", "CodeableConcept"):
        return type_ is None
    return type_ == kind or (kind == "Resource" and isinstance(type_, str))


def _wrong_kind(name: str, kind: str) -> InvalidContent:
    place = "resource" if kind[0].isupper() and kind not in ("Coding", "CodeableConcept") else ""
    written = place or f"value{kind[0].upper()}{kind[1:]}"
    return InvalidContent(
        Issue(
            code="value",
            key="parameter-kind",
            text_en=f"The parameter {name} of the operation is no {kind}",
            text_zh=f"操作的参数 {name} 不是 {kind}",
            fix_en=f"Send a Parameters resource in which {name} is a {kind}, as {written}.",
            fix_zh=f"请发送 Parameters 资源，其中 {name} 为 {kind}，写作 {written}。",
            expression="Parameters.parameter",
        )
    )


def missing(*alternatives: str) -> InvalidContent:
    """Say that a parameter is missing; one of the alternatives is enough."""
    names, names_zh = " or ".join(alternatives), " 或 ".join(alternatives)
    return InvalidContent(
        Issue(
            code="required",
            key="parameter-missing",
            text_en=f"The operation needs the parameter {names}",
            text_zh=f"该操作缺少参数 {names_zh}",
            fix_en=f"Add {names} to the query or to the Parameters resource.",
            fix_zh=f"请在查询或 Parameters 资源中加上 {names_zh}。",
            expression="Parameters.parameter",
        )
    )


def differing_systems(names: str) -> InvalidContent:
    """Say that parameters which speak of one code system name several."""
    return InvalidContent(
        Issue(
            code="value",
            key="parameter-systems",
            text_en=f"The parameters {names} name different code systems",
            text_zh=f"参数 {names} 指向不同的代码系统",
            fix_en="Compare codes of one code system; use ConceptMap/$translate between two.",
            fix_zh="请比较同一代码系统中的代码；跨系统请用 ConceptMap/$translate。",
            expression="Parameters.parameter",
        )
    )
