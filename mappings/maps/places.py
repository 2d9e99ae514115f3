"""Places (PL) as Locations, each part of the next wider one, and back; called by rows."""

from collections.abc import Mapping
from typing import Any

from mappings.engine.context import Context, Made
from mappings.engine.forward import PythonCall
from mappings.engine.naming import system_of_authority
from mappings.engine.sinks import Sink
from mappings.hl7.escape import unescape
from mappings.translated import DERIVED_KEY, key_of

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
_TRACED = ("Location.name", "Location.identifier[0]", "Location.mode", "Location.physicalType")
_TRACED_WITHIN = (*_TRACED, "Location.partOf")


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
        outer = _outer(call, (texts[number], kind, name), path, (outer, f"{call.source}.{number}"))
    number, kind, name = given[-1]
    path.append(f"{kind}:{texts[number]}")
    call.out.update(_one((texts[number], kind, name), _derived(path, call), outer))
    _detail(call)
    for target in _TRACED if outer is None else _TRACED_WITHIN:
        call.trace(target, f"{call.source}.{number}")


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
            for part in comprehensive.split(separators.subcomponent or "\0")
        ]
        value, namespace, universal, kind = (*parts, "", "", "")[:4]
        identifier = {"value": value}
        system = system_of_authority(namespace, universal, kind, call.context)
        if system:
            identifier["system"] = system
        if value:
            call.out["identifier"].append(identifier)
            call.trace("Location.identifier[1]", f"{call.source}.10")


def _described(call: PythonCall) -> None:
    """Write a place known by its description only."""
    description = call.text(9)
    if description:
        system, value = _derived([call.context.facility, description], call)
        call.out.update({"description": description, "name": description, "mode": "instance"})
        call.out["identifier"] = [{"system": system, "value": value}]
        for target in ("name", "identifier[0]", "mode", "description"):
            call.trace(f"Location.{target}", f"{call.source}.9")


def _derived(path: list[str], call: PythonCall) -> tuple[str, str]:
    return f"{call.context.sender.namespace}/{DERIVED_KEY}", key_of("Location", *path)


def _one(
    place: tuple[str, str, str], identity: tuple[str, str], outer: Made | None
) -> dict[str, Any]:
    text, kind, name = place
    system, value = identity
    resource: dict[str, Any] = {
        "identifier": [{"system": system, "value": value}],
        "name": text,
        "mode": "instance",
        "physicalType": {"coding": [{"system": _PHYSICAL_TYPES, "code": kind, "display": name}]},
    }
    if outer is not None:
        resource["partOf"] = {"reference": f"urn:uuid:{outer.key}"}
    return resource


def _outer(
    call: PythonCall,
    place: tuple[str, str, str],
    path: list[str],
    around: tuple[Made | None, str],
) -> Made:
    """Return the wider place, made where the message has not named it before."""
    context = call.context
    system, value = _derived(path, call)
    known = context.by_identity.get(("Location", system, value))
    if known is not None:
        context.joined += 1
        return known
    outer, source = around
    made = Made(
        key_of("Location", system, value),
        {"resourceType": "Location", **_one(place, (system, value), outer)},
        "PL-Location",
        [(path, source, call.row.id) for path in (_TRACED if outer is None else _TRACED_WITHIN)],
        source,
        [(system, value)],
        [("Location", system, value)],
        is_joining=True,
    )
    made.is_silent = True
    context.made.append(made)
    context.by_identity[("Location", system, value)] = made
    return made


def place_back(element: Mapping[str, Any], sink: Sink, context: Context) -> None:
    """Write a place and those around it as the parts of a PL."""
    texts: dict[int, str] = {}
    if element.get("description"):
        texts[9] = str(element["description"])
    numbers = {kind: number for number, kind, _ in _PLACES}
    place: Mapping[str, Any] | None = element
    while place is not None and "physicalType" in place:
        number = numbers.get(place["physicalType"]["coding"][0]["code"])
        if number is None or number in texts:
            break
        texts[number] = str(place["name"])
        place = context.resources.get(str(place.get("partOf", {}).get("reference", "")))
    for number, text in texts.items():
        sink.put(str(number), text)
