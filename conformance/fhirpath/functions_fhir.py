"""Functions that FHIR adds (https://hl7.org/fhir/R4/fhirpath.html#functions) and time's own."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.evaluation import (
    Collection,
    Frame,
    single,
    single_text,
    wrong_type,
)
from conformance.fhirpath.faults import invalid_use, no_port
from conformance.fhirpath.nodes import (
    Node,
    TypeName,
    children,
    root_of,
    system_type_of,
    system_value,
)
from conformance.fhirpath.temporal import Temporal
from conformance.narrative import check_narrative

_STRUCTURES = "http://hl7.org/fhir/StructureDefinition/"
_SUBSUMES_SYSTEM_KINDS = ("Coding", "CodeableConcept")


def extension(_frame: Frame, focus: Collection, url: Collection) -> Collection:
    """`extension(url)`."""
    wanted = single_text(url, "extension()")
    return [
        found
        for item in focus
        if isinstance(item, Node)
        for found in children(item, "extension")
        if isinstance(found.value, Mapping) and found.value.get("url") == wanted
    ]


def has_value(_frame: Frame, focus: Collection) -> Collection:
    """`hasValue()`: one primitive that has more than extensions."""
    if len(focus) != 1:
        return [False]
    item = focus[0]
    if not isinstance(item, Node):
        return [True]
    return [item.value is not None and not isinstance(item.value, Mapping)]


def get_value(_frame: Frame, focus: Collection) -> Collection:
    """`getValue()`: the System value of one primitive."""
    if len(focus) != 1:
        return []
    value = system_value(focus[0])
    return [] if value is None or isinstance(value, Node) else [value]


def resolve(frame: Frame, focus: Collection) -> Collection:
    """`resolve()`: what references point to; what cannot be found is left out."""
    found: Collection = []
    for item in focus:
        target = _resolved(frame, item)
        if target is not None:
            found.append(target)
    return found


def reference_of(item: Any) -> str | None:
    """Return the reference that an item holds as text."""
    if isinstance(item, Node):
        value = item.value
        if type(value) is dict or isinstance(value, Mapping):
            value = value.get("reference")
        return value if isinstance(value, str) else None
    return item if isinstance(item, str) else None


def _resolved(frame: Frame, item: Any) -> Node | None:
    reference = reference_of(item)
    if not reference:
        return None
    frame.run.charge(1)
    root = frame.run.root[0] if frame.run.root else None
    if isinstance(root, Node) and isinstance(root.value, Mapping):
        if reference.startswith("#"):
            return _contained(frame, item, root, reference[1:])
        if root.type == "Bundle":
            within = _bundled(frame, root, reference)
            if within is not None:
                return within
    if frame.run.ports.resolver is None:
        return None
    resource = frame.run.ports.resolver(reference)
    return None if resource is None else root_of(resource)


def _contained(frame: Frame, item: Any, root: Node, id_: str) -> Node | None:
    container = _owner(item) or root
    if not id_:
        return container
    for candidate in children(container, "contained"):
        frame.run.charge(1)
        if candidate.value.get("id") == id_:
            return candidate
    return None


def _owner(item: Any) -> Node | None:
    """Return the resource in which an element stands, the container for a contained one."""
    node = item if isinstance(item, Node) else None
    while node is not None:
        if model.is_resource(node.type) and node.key != "contained":
            return node
        node = node.parent
    return None


def _bundled(frame: Frame, bundle: Node, reference: str) -> Node | None:
    for entry in children(bundle, "entry"):
        frame.run.charge(1)
        resource = entry.value.get("resource")
        if not isinstance(resource, Mapping):
            continue
        full_url = entry.value.get("fullUrl")
        name = f"{resource.get('resourceType')}/{resource.get('id')}"
        if full_url == reference or (name == reference and "id" in resource):
            return children(entry, "resource")[0]
    return None


def type_of_reference(reference: str) -> str | None:
    """Return the resource type that a literal reference names."""
    parts = reference.split("/_history/")[0].rsplit("/", 2)
    name = parts[-2] if len(parts) > 1 else ""
    return name if model.is_resource(name) else None


def member_of(frame: Frame, focus: Collection, value_set: Collection) -> Collection:
    """`memberOf(valueset)`: for a code, Coding or CodeableConcept; empty where unknown."""
    item = single(focus, "memberOf()")
    url = single_text(value_set, "memberOf()")
    if item is None or url is None:
        return []
    terminology = frame.run.ports.terminology
    if terminology is None:
        raise no_port("memberOf", "terminology service")
    verdict = terminology.member_of(item.value if isinstance(item, Node) else item, url)
    return [] if verdict is None else [verdict]


def subsumes(frame: Frame, focus: Collection, code: Collection) -> Collection:
    """`subsumes(code)`."""
    return _subsumption(frame, focus, code, "subsumes")


def subsumed_by(frame: Frame, focus: Collection, code: Collection) -> Collection:
    """`subsumedBy(code)`."""
    return _subsumption(frame, code, focus, "subsumedBy")


def _subsumption(frame: Frame, broad: Collection, narrow: Collection, name: str) -> Collection:
    one, other = single(broad, f"{name}()"), single(narrow, f"{name}()")
    if one is None or other is None:
        return []
    for item in (one, other):
        if not isinstance(item, Node) or item.type not in _SUBSUMES_SYSTEM_KINDS:
            raise wrong_type(f"{name}()", "a Coding or CodeableConcept", system_value(item))
    terminology = frame.run.ports.terminology
    if terminology is None:
        raise no_port(name, "terminology service")
    verdict = terminology.subsumes(one.value, other.value)
    return [] if verdict is None else [verdict]


def conforms_to(frame: Frame, focus: Collection, structure: Collection) -> Collection:
    """`conformsTo(structure)`: base R4 types without help, other profiles through the port."""
    item = single(focus, "conformsTo()")
    canonical = single_text(structure, "conformsTo()")
    if item is None or canonical is None:
        return []
    name = canonical.partition("|")[0].removeprefix(_STRUCTURES)
    if canonical.startswith(_STRUCTURES) and model.is_known(name):
        return [isinstance(item, Node) and model.is_kind_of(item.type, name)]
    check = frame.run.ports.conforms_to
    verdict = None
    if check is not None and isinstance(item, Node) and isinstance(item.value, Mapping):
        verdict = check(item.value, canonical)
    if verdict is None:
        raise invalid_use(
            "conformsTo() names a profile that is not known here",
            "conformsTo() 引用了未知的 profile",
            fix_en="Load the StructureDefinition, or correct the canonical address.",
            fix_zh="请装载该 StructureDefinition，或更正其规范地址。",
        )
    return [verdict]


def html_checks(_frame: Frame, focus: Collection) -> Collection:
    """`htmlChecks()`: the narrative has only permitted markup and is not blank."""
    item = single(focus, "htmlChecks()")
    value = item.value if isinstance(item, Node) else item
    return [check_narrative(value) is None]


def type_(_frame: Frame, focus: Collection) -> Collection:
    """`type()`: namespace and name of each item's type."""
    found: Collection = []
    for item in focus:
        if isinstance(item, Node):
            found.append(TypeName("FHIR", item.type))
        else:
            found.append(TypeName("System", system_type_of(item) or "Any"))
    return found


def now(frame: Frame, _focus: Collection) -> Collection:
    """`now()`: the same moment all through one evaluation."""
    moment = frame.run.now
    offset = moment.utcoffset()
    zone = 0 if offset is None else int(offset.total_seconds() // 60)
    second = Decimal(moment.second) + Decimal(moment.microsecond // 1000) / 1000
    fields = (*_date_fields(frame), moment.hour, moment.minute, second.quantize(Decimal("0.001")))
    return [Temporal("DateTime", fields, zone)]


def today(frame: Frame, _focus: Collection) -> Collection:
    """`today()`."""
    return [Temporal("Date", _date_fields(frame))]


def time_of_day(frame: Frame, _focus: Collection) -> Collection:
    """`timeOfDay()`."""
    return [Temporal("Time", now(frame, [])[0].fields[3:])]


def _date_fields(frame: Frame) -> tuple[int, int, int]:
    moment = frame.run.now
    return moment.year, moment.month, moment.day
