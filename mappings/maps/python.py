"""Functions that rows call by `py:` where a row's words do not suffice."""

from typing import Any

from mappings.engine.codecs import system_of_authority
from mappings.engine.context import Made
from mappings.engine.forward import PythonCall
from mappings.hl7.escape import unescape
from mappings.translated import key_of

_PHYSICAL_TYPES = "http://terminology.hl7.org/CodeSystem/location-physical-type"
# PL, from the outside in: component, physical type, display. HL7 v2.5.1 2.A.53.
_PLACES = (
    (4, "si", "Site"),
    (7, "bu", "Building"),
    (8, "lvl", "Level"),
    (1, "wa", "Ward"),
    (2, "ro", "Room"),
    (3, "bd", "Bed"),
)


def telephone(call: PythonCall) -> None:
    """Write a number from its parts as `+86 755 12345678 X12` (XTN-5 to XTN-8)."""
    country, area, local, extension = (call.text(number) for number in (5, 6, 7, 8))
    text = local
    if area:
        text = f"{area} {text}"
        if country:
            text = f"+{country} {text}"
        if extension:
            text = f"{text} X{extension}"
    call.out["value"] = text
    call.trace(f"{call.target}.value", f"{call.source}.7")


def entity_system(call: PythonCall) -> None:
    """Write the system of an entity identifier from EI-2 to EI-4."""
    if not call.text(1):
        return
    system = system_of_authority(call.text(2), call.text(3), call.text(4), call.context)
    if system is None:
        context = call.context
        system = f"{context.sender.namespace}/{context.facility or 'sender'}"
    call.out["system"] = system
    call.trace(f"{call.target}.system", f"{call.source}.2")


def place(call: PythonCall) -> None:
    """Write a bed, room, ward, level, building or site, each part of the next wider one."""
    context = call.context
    texts = {number: call.text(number) for number, _, _ in _PLACES}
    given = [(number, kind, name) for number, kind, name in _PLACES if texts[number]]
    if not given:
        _described(call)
        return
    path: list[str] = [context.facility]
    outer: Made | None = None
    for number, kind, name in given[:-1]:
        path.append(f"{kind}:{texts[number]}")
        resource = _one(call, number, kind, name, path, outer)
        outer = _known(call, resource, path, f"{call.source}.{number}")
    number, kind, name = given[-1]
    path.append(f"{kind}:{texts[number]}")
    call.out.update(_one(call, number, kind, name, path, outer))
    _detail(call)
    call.trace("Location.name", f"{call.source}.{number}")
    call.trace("Location.identifier[0].value", f"{call.source}.{number}")


def _detail(call: PythonCall) -> None:
    description = call.text(9)
    if description:
        call.out["description"] = description
        call.trace("Location.description", f"{call.source}.9")
    comprehensive = call.part(10)
    if comprehensive:
        separators = call.context.separators
        parts = [
            unescape(part, separators, call.context.codec)
            for part in comprehensive.split(separators.subcomponent)
        ]
        value, namespace, universal, kind = (*parts, "", "", "")[:4]
        identifier = {"value": value}
        system = system_of_authority(namespace, universal, kind, call.context)
        if system:
            identifier["system"] = system
        if value:
            call.out["identifier"].append(identifier)
            call.trace("Location.identifier[1].value", f"{call.source}.10")


def _described(call: PythonCall) -> None:
    """Write a place known by its description only."""
    description = call.text(9)
    if description:
        system, value = _derived([call.context.facility, description], call)
        call.out.update({"description": description, "name": description, "mode": "instance"})
        call.out["identifier"] = [{"system": system, "value": value}]
        call.trace("Location.description", f"{call.source}.9")


def _derived(path: list[str], call: PythonCall) -> tuple[str, str]:
    return f"{call.context.sender.namespace}/derived-key", key_of("Location", *path)


def _one(
    call: PythonCall, number: int, kind: str, name: str, path: list[str], outer: Made | None
) -> dict[str, Any]:
    system, value = _derived(path, call)
    resource: dict[str, Any] = {
        "identifier": [{"system": system, "value": value}],
        "name": call.text(number),
        "mode": "instance",
        "physicalType": {"coding": [{"system": _PHYSICAL_TYPES, "code": kind, "display": name}]},
    }
    if outer is not None:
        resource["partOf"] = {"reference": f"urn:uuid:{outer.key}"}
    return resource


def _known(call: PythonCall, resource: dict[str, Any], path: list[str], source: str) -> Made:
    context = call.context
    system, value = _derived(path, call)
    known = context.by_identity.get(("Location", system, value))
    if known is not None:
        return known
    made = Made(
        key=key_of("Location", system, value),
        resource={"resourceType": "Location", **resource},
        map_name="PL-Location",
        identity=[(system, value)],
        trace=[("Location.name", source, call.row.id)],
    )
    context.made.append(made)
    context.by_identity[("Location", system, value)] = made
    return made
