"""A service beyond what a package promises: charged at the item's price, once for its source."""

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.contract.states import State, state_of
from care.contract.surroundings import is_deceased
from care.effects import Effect, Hold, Put, Resource, refuse
from care.fulfilment.completing import EVIDENCE_CLAIM, OPEN, SOURCE_USED, period_of_task
from care.package.content import canonical_of, price_of
from care.periods import day_of

_NAMES = uuid.UUID("0a1d7c1e-3f0c-4f5c-9c55-2f3a2b6d1e56")
_SKEW = datetime.timedelta(minutes=5)


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
