"""From the wish to sign to the first review: submit, review, supplement."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from care.agreement.text import Agreement, archived
from care.contract import content
from care.contract.evidence import OLDEST, require_mode
from care.contract.states import Event, State, amended_by, require_lawful
from care.contract.steps import AMENDMENT, decide, require_reason, require_term
from care.contract.surroundings import (
    Surroundings,
    require_alive,
    require_packages_valid,
    require_prices,
    require_staff,
    require_suits,
    require_team,
)
from care.effects import Decision, LetGo, Put, Resource, refuse
from care.package.content import canonical_of, is_paid_first, review_stages_of
from conformance.cphc import BASE

READ_CONFIRM = f"{BASE}/Questionnaire/contract-read-confirm"
_HEX = frozenset("0123456789abcdef")
_VERDICTS = {
    "approve": Event.APPROVE,
    "supplement": Event.ASK_SUPPLEMENT,
    "reject": Event.REJECT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A wish to sign: who, with which team, which packages at which price, from when to when.

    `agreement_hash` is the SM3 of the agreement that `reader` has read at `read_at`; `agreement`
    is that text where the hub made it, `edits` what was agreed beside the clauses, by package.
    `override` is why a package may be taken that is for others.
    """

    contract_id: str
    number: str
    resident: str
    team: str
    packages: Mapping[str, Decimal]
    start: datetime.date
    end: datetime.date
    agreement_hash: str
    mode: str = "consulting-room"
    pay_first: bool = False
    agreement: Agreement | None = None
    edits: Mapping[str, str] | None = None
    reader: str = ""
    read_at: datetime.datetime | None = None
    review_stages: int = 1
    override: str = ""


def submit(around: Surroundings, application: Application) -> Decision:
    """Take an application: 申请中."""
    contract = drafted(around, application)
    contract, confirmation = with_read_confirmation(around, contract, application)
    contract, text = with_agreement(around, contract, application.agreement)
    task = content.task(around, "review-contract", contract, "requested")
    return decide(around, contract, "application", [task], more=[*confirmation, *text], is_new=True)


def drafted(around: Surroundings, application: Application) -> dict[str, Any]:
    """Return the contract of an application that may be made."""
    require_alive(around.resident)
    require_term(application.start, application.end, around.today)
    _require_recent(application.start, around.today)
    require_packages_valid(around, list(application.packages), application.start)
    require_prices(around, application.packages)
    require_suits(around, list(application.packages), application.override)
    require_team(around)
    require_hash(application.agreement_hash)
    require_mode(application.mode)
    edits = application.edits or {}
    contract: dict[str, Any] = {
        "resourceType": "Contract",
        "id": application.contract_id,
        "extension": [
            content.extension("sign-mode", "valueCode", application.mode),
            content.extension("contract-agreement-hash", "valueString", application.agreement_hash),
        ],
        "identifier": [{"system": content.NUMBER, "value": application.number}],
        "issued": around.now.isoformat(),
        "applies": {
            "start": application.start.isoformat(),
            "end": application.end.isoformat(),
        },
        "subject": [{"reference": application.resident}],
        "term": [
            content.term(
                package,
                application.team,
                price,
                canonical_of(around.packages[package]),
                edits.get(package, ""),
            )
            for package, price in application.packages.items()
        ],
    }
    if application.pay_first or any(map(is_paid_first, around.packages.values())):
        contract["extension"].append(
            content.extension("effective-on-payment", "valueBoolean", True)
        )
    stages = stages_asked(around, application)
    if stages > 1:
        contract["extension"].append(content.extension("review-stages", "valueInteger", stages))
    if application.override:
        contract["extension"].append(
            content.extension("suitability-override", "valueString", application.override)
        )
    return content.with_status(contract, "offered")


def _require_recent(start: datetime.date, today: datetime.date) -> None:
    """Refuse a term that begins before any signature of it that would count."""
    if start < today - OLDEST:
        raise refuse(
            "contract-backdated",
            f"The term begins more than {OLDEST.days} days ago, before it can have been signed",
            f"协议开始日早于 {OLDEST.days} 天前，早于有效签字",
            "Begin today, or on the day when the paper was signed; bring older contracts in with "
            "$import.",
            "请从今天或纸质协议签署之日开始；更早的历史协议请用 $import 导入。",
            "Contract.applies.start",
        )


def stages_asked(around: Surroundings, application: Application) -> int:
    """Return how many reviews an application needs, as the hub or a package asks: two at most."""
    asked = map(review_stages_of, around.packages.values())
    return min(2, max(application.review_stages, *asked, 1))


def with_read_confirmation(
    around: Surroundings, contract: dict[str, Any], application: Application
) -> tuple[dict[str, Any], list[Put]]:
    """Return the contract with the confirmation that the agreement was read, if it was given."""
    if application.read_at is None:
        return contract, []
    receipt = read_receipt(
        around.new_id(),
        resident=application.resident,
        reader=application.reader or application.resident,
        digest=application.agreement_hash,
        template=application.agreement.template if application.agreement else "",
        at=application.read_at,
    )
    reference = {"reference": content.reference_to(receipt.resource)}
    return {**contract, "supportingInfo": [reference]}, [receipt]


def read_receipt(
    id_: str, *, resident: str, reader: str, digest: str, template: str, at: datetime.datetime
) -> Put:
    """Return the answer that somebody read the agreement of this digest at an instant."""
    answers: list[dict[str, Any]] = [
        {"linkId": "agreement-hash", "answer": [{"valueString": digest}]},
        {"linkId": "confirmed", "answer": [{"valueBoolean": True}]},
    ]
    if template:
        answers.insert(0, {"linkId": "template", "answer": [{"valueString": template}]})
    response: dict[str, Any] = {
        "resourceType": "QuestionnaireResponse",
        "id": id_,
        "questionnaire": READ_CONFIRM,
        "status": "completed",
        "subject": {"reference": resident},
        "authored": at.isoformat(),
        "author": {"reference": reader},
        "item": answers,
    }
    return Put(response, is_new=True)


def with_agreement(
    around: Surroundings, contract: Resource, agreement: Agreement | None
) -> tuple[dict[str, Any], list[Put]]:
    """Return the contract with the text it is about; refuse a text other than the one read."""
    bare = {k: v for k, v in contract.items() if k not in ("legal", "instantiatesCanonical")}
    if agreement is None:
        return bare, []
    if agreement.digest != content.extension_value(contract, "contract-agreement-hash"):
        raise refuse(
            "agreement-changed",
            "The digest is not that of the agreement as it stands now",
            "协议摘要值与当前协议文本不一致",
            "Show the agreement again (Contract/$agreement), confirm it, and send its digest.",
            "请重新展示协议（Contract/$agreement），确认后发送其摘要值。",
            "Contract.extension",
        )
    named, document = archived(around, bare, agreement)
    return named, [document]


def review(around: Surroundings, contract: Resource, verdict: str, reason: str = "") -> Decision:
    """Approve, reject, or ask for more; `verdict` is approve, supplement or reject."""
    event = _VERDICTS.get(verdict)
    if event is None:
        raise refuse(
            "review-verdict",
            "The verdict is none of approve, supplement, reject",
            "审核结论不是 approve、supplement 或 reject",
            "Give approve, supplement or reject.",
            "请给出 approve、supplement 或 reject。",
        )
    state = require_lawful(contract, event)
    require_staff(around, "$review")
    if event is Event.APPROVE:
        return _approve(around, contract, state)
    require_reason(reason, "A refusal or a request for more", "拒绝或要求补充")
    code = _REVIEW_TASK.get(state, "review-contract")
    if event is Event.ASK_SUPPLEMENT:
        unreviewed = content.without_extension(contract, "first-review")
        changed = content.with_status(unreviewed, "negotiable")
        task = content.task(around, code, contract, "on-hold", reason)
        return decide(around, changed, "review", [task])
    changed = content.with_status(contract, "rejected")
    task = content.task(around, code, contract, "rejected", reason)
    if amended_by(contract) is None:
        return decide(around, changed, "review", [task])
    free = LetGo(kind=AMENDMENT, holder=content.reference_to(contract))
    return decide(around, changed, "review", [task], more=[free])


def _approve(around: Surroundings, contract: Resource, state: State) -> Decision:
    """Pass a first review on to the second where there is one, and the last one to the signing."""
    require_alive(around.resident)
    is_second = state is State.SECOND_REVIEW
    code = _REVIEW_TASK.get(state, "review-contract")
    accepted = content.task(around, code, contract, "accepted")
    if not is_second and content.extension_value(contract, "review-stages") == 2:
        changed = content.with_extension(
            contract, "first-review", "valueReference", content.who(around.actor)
        )
        owner = {"owner": {"reference": around.authority}} if around.authority else {}
        second = content.task(around, "second-review-contract", contract, "requested", more=owner)
        return decide(around, changed, "review", [accepted, second])
    if is_second:
        _require_second_reviewer(around, contract)
    sign = content.task(around, "sign-contract", contract, "requested")
    return decide(around, content.with_status(contract, "executable"), "review", [accepted, sign])


def _require_second_reviewer(around: Surroundings, contract: Resource) -> None:
    """Refuse a second review by the first reviewer, or from within the team's own institution.

    A system without a person behind it is trusted to have asked one.
    """
    if "/" not in around.actor:
        return
    first = content.extension_value(contract, "first-review") or {}
    if first.get("reference") == around.actor or not around.stands_above:
        raise refuse(
            "second-review-authority",
            "The second review is for another person, who works above the team's institution",
            "复审须由签约机构的上级（社区或主管部门）的另一位人员办理",
            f"Let somebody of {around.authority or 'the health authority'} review it "
            "(PractitionerRole at an Organization above the team's).",
            f"请由上级机构（{around.authority or '主管部门'}）人员复审。",
            "Contract.extension",
        )


_REVIEW_TASK = {
    State.APPROVED: "sign-contract",
    State.SECOND_REVIEW: "second-review-contract",
    State.AMENDING: "amend-contract",
    State.AMENDMENT_UNPAID: "amend-contract",
}
"""The Task that a review settles, where it is not `review-contract`."""


def resubmit(
    around: Surroundings,
    contract: Resource,
    agreement_hash: str,
    agreement: Agreement | None = None,
) -> Decision:
    """Take up an application again after it was supplemented."""
    require_lawful(contract, Event.RESUBMIT)
    require_alive(around.resident)
    require_hash(agreement_hash)
    changed = content.with_extension(
        contract, "contract-agreement-hash", "valueString", agreement_hash
    )
    changed = content.with_status(changed, "offered")
    changed, text = with_agreement(around, changed, agreement)
    task = content.task(around, "review-contract", contract, "requested")
    return decide(around, changed, "application", [task], more=text)


def require_hash(text: str) -> None:
    """Refuse what is no SM3 digest: 64 small hexadecimal digits."""
    if len(text) != 64 or not set(text) <= _HEX:
        raise refuse(
            "agreement-hash",
            "The digest of the agreement is not 64 small hexadecimal digits (SM3)",
            "协议摘要值不是64位小写十六进制（SM3）",
            "Take it from Contract/$agreement.",
            "请使用 Contract/$agreement 返回的摘要值。",
            "Contract.extension",
        )
