"""What the R4 tables keep of a definition: facts (paths, numbers, codes, expressions), no prose."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
_FHIR_TYPE = _STRUCTURE + "structuredefinition-fhir-type"
_REGEX = _STRUCTURE + "regex"
_SYSTEM = "http://hl7.org/fhirpath/System."
_PROSE = {
    *("text", "meta", "contact", "publisher", "description", "purpose", "copyright", "date"),
    *("experimental", "useContext", "jurisdiction", "title", "language", "mapping"),
    *("short", "definition", "comment", "requirements", "alias", "isModifierReason", "condition"),
    *("orderMeaning", "meaningWhenMissing", "example", "xpath", "human", "documentation"),
    *("designation", "_description", "snapshot", "base", "immutable", "lockedDate", "comments"),
}
# Extensions of code systems and value sets are about committees and ballots, save these.
_EXTENSIONS_KEPT = {
    _STRUCTURE + "codesystem-conceptOrder",
    _STRUCTURE + "valueset-conceptOrder",
    _STRUCTURE + "itemWeight",
    _STRUCTURE + "ordinalValue",
    _STRUCTURE + "codesystem-ordinalValue",
    _STRUCTURE + "valueset-ordinalValue",
}


def short_of(canonical: str) -> str:
    """Return the bare name of an HL7 type's canonical address, others unchanged."""
    return canonical.removeprefix(_STRUCTURE)


def type_facts(definition: Json, constraints: dict[tuple[str, str, str], int]) -> Json:
    """Return the facts of a type's StructureDefinition; new constraints are numbered."""
    facts: Json = {
        "kind": definition["kind"],
        "base": short_of(definition.get("baseDefinition", "")) or None,
        "elements": [
            element_facts(element, definition["kind"], constraints)
            for element in definition["snapshot"]["element"]
        ],
    }
    if definition["abstract"]:
        facts["abstract"] = True
    if definition.get("derivation") == "constraint":
        facts["constraint"] = True
    for regex in _regexes_of(definition):
        facts["regex"] = regex
    return facts


def _regexes_of(definition: Json) -> Iterator[str]:
    for element in definition["snapshot"]["element"]:
        if definition["kind"] == "primitive-type" and element["path"].endswith(".value"):
            for of_type in element["type"]:
                for extension in of_type.get("extension", []):
                    if extension["url"] == _REGEX:
                        yield extension["valueString"]


def element_facts(element: Json, kind: str, constraints: dict[tuple[str, str, str], int]) -> Json:
    """Return the facts of one element; what has the usual value is left out."""
    facts: Json = {"path": element["path"], "min": element["min"], "max": element["max"]}
    types = [type_reference(of_type, element["path"], kind) for of_type in element.get("type", [])]
    if types:
        facts["types"] = types
    if "contentReference" in element:
        facts["content"] = element["contentReference"].removeprefix("#")
    if "valueSet" in element.get("binding", {}):
        binding = element["binding"]
        facts["binding"] = [binding["strength"], binding["valueSet"].removesuffix("|4.0.1")]
    numbers = []
    for rule in element.get("constraint", []):
        key = (rule["key"], rule["severity"], rule.get("expression", ""))
        numbers.append(constraints.setdefault(key, len(constraints)))
    if numbers:
        facts["constraints"] = numbers
    for flag in ("isModifier", "isSummary"):
        if element.get(flag):
            facts[flag] = True
    if "xmlAttr" in element.get("representation", []):
        facts["xml"] = "attribute"
    return facts


def type_reference(of_type: Json, path: str, kind: str) -> list[Any]:
    """Return `[code]`, `[code, targets]` or `[code, targets, profiles]`."""
    code = of_type["code"]
    if code.startswith(_SYSTEM):
        named = [e["valueUrl"] for e in of_type.get("extension", []) if e["url"] == _FHIR_TYPE]
        if path.endswith(".value"):
            code = code.removeprefix("http://hl7.org/fhirpath/")
        elif kind == "resource" and path.count(".") == 1:
            code = "id"  # resource.html: Resource.id is an id; the snapshot says string
        else:
            code = named[0] if named else "string"
    targets = [short_of(target) for target in of_type.get("targetProfile", [])]
    profiles = [short_of(profile) for profile in of_type.get("profile", [])]
    if profiles:
        return [code, targets, profiles]
    return [code, targets] if targets else [code]


def search_parameter_facts(parameter: Json) -> Json:
    """Return the facts of a SearchParameter."""
    kept = (
        *("url", "code", "base", "type", "expression", "target", "multipleOr", "multipleAnd"),
        *("comparator", "modifier", "chain", "xpathUsage"),
    )
    facts = {name: parameter[name] for name in kept if name in parameter}
    if "component" in parameter:
        facts["component"] = [
            [part["definition"], part["expression"]] for part in parameter["component"]
        ]
    return facts


def compartment_facts(definition: Json) -> Json:
    """Return type → codes of the search parameters that put it into the compartment."""
    return {r["code"]: r["param"] for r in definition["resource"] if r.get("param")}


def bare(node: Any) -> Any:
    """Return a resource without prose: same shape, fewer elements."""
    if isinstance(node, list):
        return [bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept: Json = {}
    for name, value in node.items():
        if name in _PROSE or (name.startswith("_") and name.removeprefix("_") in _PROSE):
            continue
        if name in {"extension", "_valueString"}:
            value = [e for e in value if e["url"] in _EXTENSIONS_KEPT] if name[0] == "e" else []
        if name == "contained":
            value = [bare(item) for item in value]
        elif isinstance(value, dict | list):
            value = bare(value)
        if value not in ([], {}):
            kept[name] = value
    return kept


def definition_facts(definition: Json) -> Json:
    """Return a profile or extension without prose, with its differential only."""
    kept = bare({k: v for k, v in definition.items() if k not in {"extension", "snapshot"}})
    kept["differential"] = {
        "element": [_differential_facts(e) for e in definition["differential"]["element"]]
    }
    return kept  # type: ignore[no-any-return]


def _differential_facts(element: Json) -> Json:
    kept: Json = {}
    for name, value in element.items():
        if name in _PROSE or name in {"extension", "isSummary", "label"}:
            continue
        if name == "constraint":
            rules = ("key", "severity", "expression", "source")
            value = [{k: rule[k] for k in rules if k in rule} for rule in value]
        elif name == "binding":
            value = {k: value[k] for k in ("strength", "valueSet") if k in value}
        elif name == "slicing":
            value = {k: v for k, v in value.items() if k != "description"}
        kept[name] = value  # fixed and pattern values stay whole
    return kept
