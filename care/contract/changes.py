"""What happens to a contract in effect: amended, reassigned, disputed; or taken back."""

from collections.abc import Mapping
from decimal import Decimal

from care.agreement.text import Agreement
from care.contract import content
from care.contract.application import require_hash, with_agreement
from care.contract.states import AMENDING, Event, require_lawful
from care.contract.steps import AMENDMENT, VERSION_OPEN, decide, let_go, require_reason
from care.contract.surroundings import (
    Surroundings,
    require_alive,
    require_packages_valid,
    require_prices,
    require_staff,
    require_suits,
    require_team,
)
from care.effects import Decision, Hold, Put, Resource, refuse
from care.package.content import canonical_of


def amend(
    around: Surroundings,
    contract: Resource,
    packages: Mapping[str, Decimal],
    agreement_hash: str,
    agreement: Agreement | None = None,
    override: str = "",
) -> Decision:
    """Draft a new version with other packages; the old one stays in effect until it is signed."""
    require_lawful(contract, Event.AMEND)
    require_alive(around.resident)
    require_packages_valid(around, list(packages), around.today)
    require_prices(around, packages)
    override = override or str(content.extension_value(contract, "suitability-override") or "")
    require_suits(around, list(packages), override)
    require_hash(agreement_hash)
    own = content.reference_to(contract)
    draft = {
        **{k: v for k, v in contract.items() if k not in ("signer", "meta")},
        "id": around.new_id(),
        "term": [
            content.term(
                package, content.team_of(contract), price, canonical_of(around.packages[package])
            )
            for package, price in packages.items()
        ],
    }
    draft["extension"] = [
        *content.without_extension(contract, "effective-on-payment").get("extension", ()),
        {"url": AMENDING, "valueReference": {"reference": own}},
    ]
    draft = content.with_extension(draft, "contract-agreement-hash", "valueString", agreement_hash)
    if override:
        draft = content.with_extension(draft, "suitability-override", "valueString", override)
    draft = content.with_status(draft, "negotiable")
    draft, text = with_agreement(around, draft, agreement)
    claim = Hold(kind=AMENDMENT, key=own, holder=content.reference_to(draft), taken=VERSION_OPEN)
    task = content.task(around, "amend-contract", draft, "requested")
    return decide(around, draft, "amend", [task], more=[claim, *text])


def reassign(around: Surroundings, contract: Resource, team: str, reason: str = "") -> Decision:
    """Give the contract to another team, which must be able to serve it; the resident is told."""
    require_lawful(contract, Event.REASSIGN)
    require_staff(around, "$reassign")
    require_alive(around.resident)
    require_team(around)
    if team == content.team_of(contract):
        raise refuse(
            "reassign-same-team",
            "The contract is with this team already",
            "该协议已由该团队负责",
            "Name another team.",
            "请指定其他团队。",
            "Contract.term.action.performer",
        )
    changed = content.with_team(contract, team)
    task = content.task(
        around, "reassign-contract", changed, "completed", reason, id_=around.new_id()
    )
    notice = {
        "resourceType": "CommunicationRequest",
        "id": around.new_id(),
        "basedOn": [{"reference": content.reference_to(contract)}],
        "status": "active",
        "category": [{"coding": [{"system": content.TASK, "code": "reassign-contract"}]}],
        "priority": "routine",
        "subject": {"reference": content.resident_of(contract)},
        "about": [{"reference": content.reference_to(contract)}],
        "recipient": [{"reference": content.resident_of(contract)}],
        "payload": [
            {
                "contentString": "您的家庭医生签约服务已转由"
                f"{around.team.get('name') or '新的团队'}负责。"
            }
        ],
        "authoredOn": around.now.isoformat(),
    }
    return decide(
        around, changed, "reassign", [task], more=[Put(notice)], reason=reason, new_team=team
    )


def dispute(around: Surroundings, contract: Resource, complaint: str) -> Decision:
    """Note a complaint; services go on."""
    require_lawful(contract, Event.DISPUTE)
    require_reason(complaint, "A complaint", "投诉")
    changed = content.with_status(contract, "disputed")
    task = content.task(around, "complaint", contract, "requested", complaint)
    return decide(around, changed, "dispute", [task])


def resolve(around: Surroundings, contract: Resource, outcome: str) -> Decision:
    """Settle a dispute; the contract goes on."""
    require_lawful(contract, Event.RESOLVE)
    require_staff(around, "$resolve")
    require_reason(outcome, "The end of a dispute", "争议处理结果")
    changed = content.with_status(contract, "executed", "resolved")
    task = content.task(around, "complaint", contract, "completed", outcome)
    return decide(around, changed, "resolve", [task])


def void(around: Surroundings, contract: Resource, reason: str) -> Decision:
    """Take back a contract that should never have been written."""
    require_lawful(contract, Event.VOID)
    require_staff(around, "$void")
    require_reason(reason, "Voiding", "作废")
    changed = content.with_status(contract, "entered-in-error")
    task = content.task(around, "void-contract", contract, "completed", reason)
    return decide(
        around,
        changed,
        "nullify",
        [task],
        more=let_go(contract),
        ended=tuple(content.packages_of(contract)),
        reason=reason,
    )
