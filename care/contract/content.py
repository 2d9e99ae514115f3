"""The contract and its companions (Task, Provenance) as FHIR content."""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from care.contract.surroundings import Surroundings
from care.effects import Put, Resource
from conformance.cphc import BASE

LEGAL_STATE = "http://hl7.org/fhir/contract-legalstate"
ACTIVITY = f"{BASE}/CodeSystem/cphc-contract-activity"
TASK = f"{BASE}/CodeSystem/cphc-contract-task"
NUMBER = "urn:qiao:contract"
SM3 = "urn:qiao:sm3"
CANONICAL = "urn:ietf:rfc:3986"
_EXTENSION = f"{BASE}/StructureDefinition/cphc-"
_LONGEST_ID = 64


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
    changed = without_extension(resource, name)
    return {**changed, "extension": [*changed.get("extension", ()), extension(name, kind, value)]}


def without_extension(resource: Resource, name: str) -> dict[str, Any]:
    """Return the resource without an extension of the package."""
    kept = [e for e in resource.get("extension", ()) if e.get("url") != _EXTENSION + name]
    changed = {k: v for k, v in resource.items() if k != "extension"}
    return {**changed, "extension": kept} if kept else changed


def with_status(contract: Resource, status: str, legal: str | None = None) -> dict[str, Any]:
    """Return the contract in a status; the legal state follows it unless named."""
    coding = {"system": LEGAL_STATE, "code": legal or status}
    return {**contract, "status": status, "legalState": {"coding": [coding]}}


def legal_state_of(contract: Resource) -> str:
    """Return the code of the legal state."""
    codings = contract.get("legalState", {}).get("coding", ())
    return str(codings[0].get("code", "")) if codings else ""


def term(package: str, team: str, price: Decimal, pinned: str = "", text: str = "") -> Any:
    """Return the term of one package, served by one team.

    `pinned` is the package's `url|version` on the day of signing, `text` what was agreed beside
    the clauses of the template.
    """
    words = "http://hl7.org/fhir/contract-action-status"
    made: dict[str, Any] = {
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
    if pinned:
        made["identifier"] = {"system": CANONICAL, "value": pinned}
    if text:
        made["text"] = text
    return made


def packages_of(contract: Resource) -> list[str]:
    """Return the references of the packages."""
    return [one["offer"]["topic"]["reference"] for one in contract.get("term", ())]


def prices_of(contract: Resource) -> dict[str, Decimal]:
    """Return what was agreed to be paid for each package."""
    return {
        one["offer"]["topic"]["reference"]: Decimal(
            str(one["asset"][0]["valuedItem"][0]["net"]["value"])
        )
        for one in contract.get("term", ())
    }


def team_of(contract: Resource) -> str:
    """Return the reference of the team."""
    reference: str = contract["term"][0]["action"][0]["performer"]["reference"]
    return reference


def with_team(contract: Resource, team: str) -> dict[str, Any]:
    """Return the contract served by another team."""
    terms = [
        {
            **one,
            "action": [{**action, "performer": {"reference": team}} for action in one["action"]],
        }
        for one in contract["term"]
    ]
    return {**contract, "term": terms}


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


def task_id(contract_id: str, code: str) -> str:
    """Return the id of the one Task that a contract has for a step."""
    plain = f"{contract_id}-{code}"
    if len(plain) <= _LONGEST_ID:
        return plain
    digest = hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()
    return f"{digest}-{code}"


def task(
    around: Surroundings,
    code: str,
    contract: Resource,
    status: str,
    reason: str = "",
    *,
    id_: str = "",
    more: Mapping[str, Any] | None = None,
) -> Put:
    """Return the Task of a step in a status: the one that is there, or its beginning.

    `id_` is for steps that happen several times to a contract.
    """
    known = around.tasks.get(code, {}) if not id_ else {}
    content: dict[str, Any] = {
        "resourceType": "Task",
        "id": id_ or task_id(str(contract["id"]), code),
        "basedOn": [{"reference": reference_to(contract)}],
        "status": status,
        "intent": "order",
        "code": {"coding": [{"system": TASK, "code": code}]},
        "focus": {"reference": reference_to(contract)},
        "for": {"reference": resident_of(contract)},
        "authoredOn": known.get("authoredOn", around.now.isoformat()),
        "lastModified": around.now.isoformat(),
        "requester": known.get("requester", who(around.actor)),
        "owner": {"reference": team_of(contract)},
        **(more or {}),
    }
    if reason:
        content["statusReason"] = {"text": reason}
    return Put(content)


def provenance(
    around: Surroundings,
    activity: str,
    targets: Sequence[Resource],
    *,
    more: Mapping[str, Any] | None = None,
) -> Put:
    """Return who did what to which resources; a doctor standing in acts on another's behalf."""
    agent: dict[str, Any] = {"who": who(around.actor)}
    if around.acting_for:
        agent["onBehalfOf"] = {"reference": around.acting_for}
    content: dict[str, Any] = {
        "resourceType": "Provenance",
        "id": around.new_id(),
        "target": [{"reference": reference_to(target)} for target in targets],
        "recorded": around.now.isoformat(),
        "activity": {"coding": [{"system": ACTIVITY, "code": activity}]},
        "agent": [agent],
        **(more or {}),
    }
    return Put(content, is_new=True)
