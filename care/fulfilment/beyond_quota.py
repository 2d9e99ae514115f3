"""A service beyond what a package promises: charged at the item's price, once for its source.

Where the source is gone the charge is taken back, unless a bill has gone out: then people decide.
"""

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.contract.states import State, state_of
from care.contract.surroundings import is_deceased
from care.effects import Effect, Hold, LetGo, Put, Resource, refuse
from care.fulfilment.completing import EVIDENCE_CLAIM, OPEN, SOURCE_USED, period_of_task
from care.fulfilment.matching import MATCH_TASK, SOURCES
from care.package.content import canonical_of, price_of
from care.periods import day_of

_NAMES = uuid.UUID("0a1d7c1e-3f0c-4f5c-9c55-2f3a2b6d1e56")
_SKEW = datetime.timedelta(minutes=5)
_GONE = frozenset({"cancelled", "entered-in-error", "not-done"})
_VOID = frozenset({"aborted", "entered-in-error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A service that was given: which item of a package, proven by which record, when."""

    item: Resource
    source: str
    performed: datetime.datetime


def charge(
    contract: Resource,
    resident: Resource,
    tasks: Iterable[Resource],
    extra: Extra,
    *,
    actor: str,
    now: datetime.datetime,
) -> list[Effect]:
    """Charge a service, or refuse while the package still promises one on that day.

    `tasks` are the services of the contract. The source is claimed as that of a service is, so that
    it neither fulfils one nor is charged again.
    """
    _require_lawful(contract, resident, extra, now)
    day = day_of(extra.performed)
    left = [one for one in tasks if _promises(one, extra.item, day)]
    if left:
        named = content.reference_to(min(left, key=lambda one: period_of_task(one)[1]))
        raise refuse(
            "quota-left",
            "The package still promises this service",
            "服务包内仍有该项服务额度",
            f"Complete {named} with $complete-service.",
            f"请对 {named} 执行 $complete-service。",
            "Task",
        )
    price = price_of(extra.item)
    if price <= 0:
        raise refuse(
            "item-without-price",
            "The item states no price of one service",
            "该服务项目未标明单次价格",
            "Publish a version of the item with extension package-price.",
            "请发布带 package-price 扩展的服务项目版本。",
            "ActivityDefinition.extension",
        )
    item = _charge_item(contract, extra, actor=actor, now=now)
    own = content.reference_to(item)
    told = {
        "resourceType": "Provenance",
        "id": f"{item['id']}-charge",
        "target": [{"reference": own}],
        "recorded": now.isoformat(),
        "activity": {"coding": [{"system": content.ACTIVITY, "code": "charge-service"}]},
        "agent": [{"who": content.who(actor)}],
        "entity": [{"role": "source", "what": {"reference": extra.source}}],
    }
    claim = Hold(kind=EVIDENCE_CLAIM, key=extra.source, holder=own, taken=SOURCE_USED)
    return [claim, Put(item), Put(told)]


def is_charge(holder: str) -> bool:
    """Say whether the holder of a source's claim is a charge, which keeps it."""
    return holder.startswith("ChargeItem/")


def claims_of_change(before: Resource | None, after: Resource | None) -> tuple[Hold | LetGo, ...]:
    """Return what a change of a ChargeItem claims and gives up, whoever writes it."""
    held, wanted = _held(before), _held(after)
    if held == wanted:
        return ()
    given_up = (LetGo(kind=EVIDENCE_CLAIM, holder=held.holder),) if held else ()
    return (*given_up, wanted) if wanted else given_up


def is_void(charged: Resource) -> bool:
    """Say whether a charge was taken back, so that its source is free again."""
    return charged.get("status") in _VOID


def source_of_charge(charged: Resource) -> str | None:
    """Return the record that proved a service beyond a package; None of other charges."""
    named = [str(one.get("reference", "")) for one in charged.get("supportingInformation", ())]
    if not any(one.startswith("Contract/") for one in named):
        return None
    return next((one for one in named if one.partition("/")[0] in SOURCES), None)


def review_id(holder: str) -> str:
    """Return the id of the Task about a charge (`ChargeItem/id`) that was billed for nothing."""
    return str(uuid.uuid5(_NAMES, f"review {holder}"))


def stands(charged: Resource, source: Resource | None) -> bool:
    """Say whether what was charged is still proven: its source is there, and the resident's."""
    return (
        source is not None
        and source.get("status") not in _GONE
        and source.get("subject") == charged.get("subject")
    )


def taken_back(charged: Resource, now: datetime.datetime) -> tuple[Effect, ...]:
    """Return the charge whose source is gone as an error, or a Task where it was billed already."""
    if charged.get("status") == "billed":
        return (Put(_to_be_reviewed(charged, now)),)
    said = {
        "time": now.isoformat(),
        "text": "服务记录已删除、取消或改为他人 (its source is gone, cancelled or another's)",
    }
    changed = {key: value for key, value in charged.items() if key != "meta"}
    notes = [*charged.get("note", ()), said]
    release = LetGo(kind=EVIDENCE_CLAIM, holder=content.reference_to(charged))
    return release, Put({**changed, "status": "entered-in-error", "note": notes})


def _to_be_reviewed(charged: Resource, now: datetime.datetime) -> dict[str, Any]:
    """Return the Task by which the team pays back, or restores the record; once per charge."""
    own = content.reference_to(charged)
    return {
        "resourceType": "Task",
        "id": review_id(own),
        "status": "requested",
        "intent": "order",
        "code": {
            "coding": [{"system": MATCH_TASK, "code": "review-charge"}],
            "text": "已开账单的服务记录已撤销，请退费或恢复记录 (billed, and its source is gone)",
        },
        "focus": {"reference": own},
        "for": dict(charged["subject"]),
        "owner": dict(charged["performer"][0]["actor"]),
        "authoredOn": now.isoformat(),
    }


def _held(charged: Resource | None) -> Hold | None:
    source = source_of_charge(charged) if charged else None
    if charged is None or source is None or is_void(charged):
        return None
    own = content.reference_to(charged)
    return Hold(kind=EVIDENCE_CLAIM, key=source, holder=own, taken=SOURCE_USED)


def _promises(task: Resource, item: Resource, day: datetime.date) -> bool:
    """Say whether a Task is an open service of the item that may be done on the day."""
    return (
        task.get("status") in OPEN
        and task.get("instantiatesCanonical") in (canonical_of(item), item.get("url"))
        and period_of_task(task)[0] <= day
    )


def _charge_item(
    contract: Resource, extra: Extra, *, actor: str, now: datetime.datetime
) -> dict[str, Any]:
    own = content.reference_to(contract)
    seed = f"{own} {canonical_of(extra.item)} {extra.source}"
    found: dict[str, Any] = {
        "resourceType": "ChargeItem",
        "id": str(uuid.uuid5(_NAMES, seed)),
        "status": "billable",
        "definitionCanonical": [canonical_of(extra.item)],
        "code": extra.item.get("code", {"text": extra.item.get("title", "")}),
        "subject": {"reference": content.resident_of(contract)},
        "occurrenceDateTime": extra.performed.isoformat(),
        "performer": [{"actor": {"reference": content.team_of(contract)}}],
        "quantity": {"value": 1},
        "priceOverride": {"value": price_of(extra.item), "currency": "CNY"},
        "overrideReason": "超出服务包次数 (beyond what the package promises)",
        "enteredDate": now.isoformat(),
        "supportingInformation": [{"reference": own}, {"reference": extra.source}],
    }
    if "/" in actor:
        found["enterer"] = {"reference": actor}
    if extra.source.startswith("Encounter/"):
        found["context"] = {"reference": extra.source}
    return found


def _require_lawful(
    contract: Resource, resident: Resource, extra: Extra, now: datetime.datetime
) -> None:
    begin, end = content.period_of(contract)
    is_in_term = begin <= day_of(extra.performed) <= end
    is_past = extra.performed <= now + _SKEW
    if (
        state_of(contract) is State.EFFECTIVE
        and is_in_term
        and is_past
        and not is_deceased(resident)
    ):
        return
    raise refuse(
        "charge-not-possible",
        "Only a service that was given, within the term of a contract in effect, is charged",
        "仅对履约中协议期限内已提供的服务计费",
        "Correct performed, or charge it outside the contract.",
        "请更正 performed，或在协议之外收费。",
        "Contract.applies",
    )
