"""The contract and its companions (Task, Provenance) as FHIR content."""

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from care.contract.surroundings import Surroundings
from care.effects import Put, Resource
from conformance.cphc import BASE

LEGAL_STATE = "http://hl7.org/fhir/contract-legalstate"
SIGNATURE_TYPE = "urn:iso-astm:E1762-95:2013"
ACTIVITY = f"{BASE}/CodeSystem/cphc-contract-activity"
_EXTENSION = f"{BASE}/StructureDefinition/cphc-"


def extension(name: str, kind: str, value: Any) -> dict[str, Any]:
    """Return an extension of the package."""
    return {"url": _EXTENSION + name, kind: value}


def extension_value(resource: Resource, name: str) -> Any:
    """Return the value of an extension of the package, or None."""
    for one in resource.get("extension", ()):
        if one.get("url") == _EXTENSION + name:
            return next((v for k, v in one.items() if k.startswith("value")), None)
    return None


def with_extension(resource: Resource, name: str, kind: str, value: Any) -> dict[str, Any]:
    """Return the resource with an extension set."""
    others = [e for e in resource.get("extension", ()) if e.get("url") != _EXTENSION + name]
    return {**resource, "extension": [*others, extension(name, kind, value)]}


def with_status(contract: Resource, status: str, legal: str | None = None) -> dict[str, Any]:
    """Return the contract in a status; the legal state follows it unless named."""
    coding = {"system": LEGAL_STATE, "code": legal or status}
    return {**contract, "status": status, "legalState": {"coding": [coding]}}


def term(package: str, team: str, price: Decimal) -> dict[str, Any]:
    """Return the term of one package, served by one team."""
    words = "http://hl7.org/fhir/contract-action-status"
    return {
        "offer": {"topic": {"reference": package}},
        "asset": [{"valuedItem": [{"net": {"value": price, "currency": "CNY"}}]}],
        "action": [
            {
                "type": {"text": "履约 (fulfil)"},
                "intent": {"text": "家庭医生签约服务 (family-doctor services)"},
                "status": {"coding": [{"system": words, "code": "complete"}]},
                "performer": {"reference": team},
            }
        ],
    }


def packages_of(contract: Resource) -> list[str]:
    """Return the references of the packages."""
    return [one["offer"]["topic"]["reference"] for one in contract.get("term", ())]


def team_of(contract: Resource) -> str:
    """Return the reference of the team."""
    reference: str = contract["term"][0]["action"][0]["performer"]["reference"]
    return reference


def resident_of(contract: Resource) -> str:
    """Return the reference of the resident."""
    reference: str = contract["subject"][0]["reference"]
    return reference


def period_of(contract: Resource) -> tuple[datetime.date, datetime.date]:
    """Return first and last day; the contract ends at the end of its last day, local time."""
    applies = contract["applies"]
    return (
        datetime.date.fromisoformat(applies["start"][:10]),
        datetime.date.fromisoformat(applies["end"][:10]),
    )


def reference_to(resource: Resource) -> str:
    """Return `Type/id`."""
    return f"{resource['resourceType']}/{resource['id']}"


def who(actor: str) -> dict[str, Any]:
    """Return a reference to a person of the record, or the name of a system."""
    return {"reference": actor} if "/" in actor else {"display": actor}


def task(
    around: Surroundings, id_: str, code: str, contract: Resource, status: str, reason: str = ""
) -> Put:
    """Return the Task that a step leaves or closes."""
    content: dict[str, Any] = {
        "resourceType": "Task",
        "id": id_,
        "status": status,
        "intent": "order",
        "code": {"text": code},
        "focus": {"reference": reference_to(contract)},
        "for": {"reference": resident_of(contract)},
        "authoredOn": around.now.isoformat(),
        "requester": who(around.actor),
    }
    if reason:
        content["statusReason"] = {"text": reason}
    return Put(content)


def provenance(
    around: Surroundings,
    id_: str,
    activity: str,
    targets: Sequence[Resource],
    *,
    evidence: Sequence[Mapping[str, Any]] = (),
    on_behalf_of: str | None = None,
) -> Put:
    """Return who did what to which resources, with the evidence of a signature."""
    agent: dict[str, Any] = {"who": who(around.actor)}
    if on_behalf_of:
        agent["onBehalfOf"] = {"reference": on_behalf_of}
    content: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": id_,
        "target": [{"reference": reference_to(target)} for target in targets],
        "recorded": around.now.isoformat(),
        "activity": {"coding": [{"system": ACTIVITY, "code": activity}]},
        "agent": [agent],
    }
    if evidence:
        content["signature"] = list(evidence)
    return Put(content)
