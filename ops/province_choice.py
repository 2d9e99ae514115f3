"""What is owed to the province, told from the version that is being written alone."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from care.contract.submissions import step_of
from conformance.cphc import BASE
from fhir_store.operations import Written
from fhir_store.outbox import Delivery
from mappings.engine.library import default_folder
from mappings.engine.tables import table_of
from ops.province_documents import is_registration

NAME = "province"
INSTITUTION_CODE = "urn:oid:2.16.156.10011.1.5"
"""Identifier system of 机构代码: what carries it is an institution of the registry."""
_ACTIVITY = f"{BASE}/CodeSystem/cphc-contract-activity"
_RENEWS = f"{BASE}/StructureDefinition/cphc-renews"

Resource = Mapping[str, Any]


def choose_province(written: Written) -> Sequence[Delivery]:
    """Owe the province every new content of what it registers, parents first.

    A newer content of a resident, institution, doctor or team stands for an older one; each step of
    a contract is a delivery of its own, in the order of the contract. A record that was merged into
    another is not registered again.
    """
    choose = _BY_TYPE.get(written.version.type)
    if choose is None or not written.changed or written.version.deleted:
        return ()
    return choose(written, written.resource or {})


def _resident(_written: Written, patient: Resource) -> Sequence[Delivery]:
    if patient.get("active") is False:
        return ()
    return (Delivery(destination=NAME, is_latest_only=True),)


def _institution(_written: Written, organization: Resource) -> Sequence[Delivery]:
    systems = {one.get("system") for one in organization.get("identifier", ())}
    if INSTITUTION_CODE not in systems:
        return ()  # a sender's department or an insurer, as messages name them
    parents = _references([organization.get("partOf")])
    return (Delivery(destination=NAME, is_latest_only=True, depends_on=parents),)


def _doctor(_written: Written, practitioner: Resource) -> Sequence[Delivery]:
    if not practitioner.get("qualification"):
        return ()  # somebody whom a message names
    return (Delivery(destination=NAME, is_latest_only=True),)


def _registration(_written: Written, role: Resource) -> Sequence[Delivery]:
    doctor = _references([role.get("practitioner")])
    if not doctor or not is_registration(role):
        return ()
    parents = _references([role.get("organization")])
    return (Delivery(destination=NAME, order_key=doctor, is_latest_only=True, depends_on=parents),)


def _team(_written: Written, team: Resource) -> Sequence[Delivery]:
    if team.get("subject") is not None:
        return ()  # the people around one patient
    members = [one.get("member") for one in team.get("participant", ())]
    # A team that stands in is no parent: two teams may stand in for each other.
    doctors = [one for one in members if str((one or {}).get("reference")).startswith("Practit")]
    parents = _references([*team.get("managingOrganization", ()), *doctors])
    return (Delivery(destination=NAME, is_latest_only=True, depends_on=parents),)


def _contract(written: Written, contract: Resource) -> Sequence[Delivery]:
    step = step_of(written.previous, contract)
    if step is None or step not in submitted_steps():
        return ()
    parties = [one.get("party") for one in contract.get("signer", ())]
    doctors = [one for one in parties if str((one or {}).get("reference")).startswith("Practit")]
    renewed = [
        one.get("valueReference")
        for one in contract.get("extension", ())
        if one.get("url") == _RENEWS
    ]
    teams = [
        action.get("performer")
        for term in contract.get("term", ())
        for action in term.get("action", ())
    ]
    parents = _references([*contract.get("subject", ()), *teams, *doctors, *renewed])
    return (Delivery(destination=NAME, part=step, depends_on=parents),)


@functools.cache
def submitted_steps() -> frozenset[str]:
    """Return the steps of a contract that the province's table has a code for."""
    name = "ProvinceContractStep"
    file = default_folder() / "tables" / f"{name}.json"
    table = table_of(json.loads(file.read_text("utf-8")), name)
    return frozenset(code for system, code in table.backward if system == _ACTIVITY)


def _references(elements: Iterable[Any]) -> str | None:
    """Return the local references among the elements, each once, as an outbox wants its parents."""
    found = [str(one.get("reference", "")) for one in elements if isinstance(one, Mapping)]
    local = [one for one in found if one.count("/") == 1 and " " not in one]
    return " ".join(dict.fromkeys(local)) or None


_BY_TYPE: Mapping[str, Callable[[Written, Resource], Sequence[Delivery]]] = {
    "Patient": _resident,
    "Organization": _institution,
    "Practitioner": _doctor,
    "PractitionerRole": _registration,
    "CareTeam": _team,
    "Contract": _contract,
}
