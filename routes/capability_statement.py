"""The CapabilityStatement, generated from the tables that the dispatcher and the search use.

https://hl7.org/fhir/R4/http.html#capabilities
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from care.subscription import BACKPORT
from care.topics import TOPICS
from conformance.r4.tables import load
from conformance.search_parameters import parameters_of
from fhir_store.custom_parameters import State
from routes.registry import Level, Operation, Registry
from routes.search_support import COMMON, SUPPORTED_TYPES, include_paths, is_supported

_SEARCH_DEFINITION = "http://hl7.org/fhir/SearchParameter/Resource-"
_SECURITY_SERVICE = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_TOPIC = BACKPORT + "capabilitystatement-subscriptiontopic-canonical"
_LEFT_OUT = (
    "Contained resources are not searched: _contained and _containedType are taken with their"
    " defaults false and container only, and chains do not look into contained resources."
)
_OAUTH = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"


def capability_statement(
    registry: Registry,
    *,
    base: str,
    version: str,
    at: datetime,
    oauth: Mapping[str, str] | None = None,
    custom: Sequence[State] = (),
) -> dict[str, Any]:
    """Return what this server does; `oauth` maps authorize, token … to their addresses.

    `custom` are the search parameters of stored SearchParameter resources, with their state.
    """
    rest: dict[str, Any] = {
        "mode": "server",
        "documentation": _LEFT_OUT,
        "security": _security(oauth),
        "resource": [_resource(registry, type_, custom) for type_ in sorted(load().resource_types)],
        "interaction": [{"code": code} for code in _codes(registry, {"system"})],
        "searchParam": _common_parameters(),
        "operation": _operations(registry, "system", None),
        "compartment": [
            f"http://hl7.org/fhir/CompartmentDefinition/{name.lower()}"
            for name in sorted(load().compartments)
        ],
    }
    return {
        "resourceType": "CapabilityStatement",
        "id": "qiao",
        "url": f"{base}/metadata",
        "version": version,
        "name": "Qiao",
        "title": "Qiao (桥)",
        "status": "active",
        "date": at.isoformat(timespec="seconds"),
        "publisher": "Qiao",
        "kind": "instance",
        "software": {"name": "Qiao", "version": version},
        "implementation": {"description": "Qiao FHIR R4 store", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
        "patchFormat": [
            "application/json-patch+json",
            "application/xml-patch+xml",
            "application/fhir+json",
            "application/fhir+xml",
        ],
        "rest": [rest],
    }


def _codes(registry: Registry, levels: set[Level]) -> list[str]:
    found = [i.code for i in registry.interactions if i.is_promised and i.level in levels]
    if "batch" in found:  # one address answers both
        found.append("transaction")
    return list(dict.fromkeys(found))


def _resource(registry: Registry, type_: str, custom: Sequence[State]) -> dict[str, Any]:
    parameters = parameters_of(type_)
    includes, revincludes = include_paths(type_)
    written: dict[str, Any] = {
        "type": type_,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{type_}",
        "interaction": [{"code": code} for code in _codes(registry, {"type", "instance"})],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "logical", "local"],
        "searchInclude": ["*", *includes],
        "searchRevInclude": revincludes,
        "searchParam": [
            {"name": code, "definition": parameters[code].url, "type": parameters[code].type}
            for code in sorted(parameters)
            if is_supported(parameters[code]) and code not in COMMON
        ]
        + [_custom(one) for one in custom if one.parameter.base == type_],
        "operation": [
            *_operations(registry, "type", type_),
            *_operations(registry, "instance", type_),
        ],
    }
    if type_ == "Subscription":
        written |= _topics()
    unique = {operation["definition"]: operation for operation in written["operation"]}
    written["operation"] = list(unique.values())
    return {name: value for name, value in written.items() if value != []}


def _custom(state: State) -> dict[str, str]:
    """Return a custom parameter, with how far it is while it is being built."""
    one = state.parameter
    told = {"name": one.code, "definition": one.url, "type": one.type}
    if state.percent < 100:
        told["documentation"] = f"building {state.percent} %: results may be missing"
    return told


def _topics() -> dict[str, Any]:
    """Return what an app can subscribe to; in R4 topics are no resources but are told here.

    https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/StructureDefinition-capabilitystatement-subscriptiontopic-canonical.html
    """
    return {
        "supportedProfile": [BACKPORT + "backport-subscription"],
        "extension": [{"url": _TOPIC, "valueCanonical": one.canonical} for one in TOPICS],
    }


def _operations(registry: Registry, level: Level, type_: str | None) -> list[dict[str, str]]:
    def applies(operation: Operation) -> bool:
        return level in operation.levels and (type_ is None or operation.is_for(type_))

    return [
        {"name": operation.code, "definition": operation.definition}
        for operation in registry.operations
        if applies(operation)
    ]


def _common_parameters() -> list[dict[str, str]]:
    return [
        {"name": code, "definition": _SEARCH_DEFINITION + code.removeprefix("_"), "type": type_}
        for code, type_ in COMMON.items()
        if type_ in SUPPORTED_TYPES
    ]


def _security(oauth: Mapping[str, str] | None) -> dict[str, Any]:
    security: dict[str, Any] = {
        "cors": False,
        "service": [{"coding": [{"system": _SECURITY_SERVICE, "code": "SMART-on-FHIR"}]}],
    }
    if oauth:
        parts = [{"url": name, "valueUri": address} for name, address in oauth.items()]
        security["extension"] = [{"url": _OAUTH, "extension": parts}]
    return security
