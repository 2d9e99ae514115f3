"""What a package still promises is not charged; what it does not is, once for its source."""

import datetime
from typing import Any

import pytest

from care.effects import Hold, Put
from care.fulfilment import beyond_quota
from care.fulfilment.beyond_quota import Extra, charge
from care.fulfilment.completing import EVIDENCE_CLAIM
from care.package.content import PRICE
from conformance.problem import BusinessRule
from conformance.structure import require_valid

NOW = datetime.datetime(2026, 3, 10, 10, tzinfo=datetime.UTC)
ITEM: dict[str, Any] = {
    "resourceType": "ActivityDefinition",
    "id": "bp",
    "url": "urn:item:bp",
    "version": "1",
    "code": {"text": "测血压"},
    "extension": [{"url": PRICE, "valueMoney": {"value": 15.00, "currency": "CNY"}}],
}
CONTRACT: dict[str, Any] = {
    "resourceType": "Contract",
    "id": "c1",
    "status": "executed",
    "subject": [{"reference": "Patient/p1"}],
    "applies": {"start": "2026-01-01", "end": "2026-12-31"},
    "term": [{"action": [{"performer": {"reference": "CareTeam/t1"}}]}],
}
RESIDENT = {"resourceType": "Patient", "id": "p1"}


def task(status: str, start: str, end: str) -> dict[str, Any]:
    return {
        "resourceType": "Task",
        "id": f"t-{start}",
        "status": status,
        "instantiatesCanonical": "urn:item:bp|1",
        "restriction": {"period": {"start": start, "end": end}},
    }


DONE, LATER = task("completed", "2026-01-01", "2026-03-31"), task(
    "requested", "2026-04-01", "2026-06-30"
)  # fmt: skip
DUE = task("ready", "2026-01-01", "2026-03-31")


def charged(
    *tasks: dict[str, Any],
    item: dict[str, Any] = ITEM,
    contract: dict[str, Any] = CONTRACT,
    performed: datetime.datetime = NOW,
    source: str = "Encounter/e1",
) -> list[Any]:
    extra = Extra(item=item, source=source, performed=performed)
    return charge(contract, RESIDENT, tasks, extra, actor="Practitioner/d1", now=NOW)


def refused(*tasks: dict[str, Any], **more: Any) -> str:
    with pytest.raises(BusinessRule) as no:
        charged(*tasks, **more)
    return no.value.issues[0].key


def test_beyond_the_quota_a_service_is_charged_at_the_price_of_its_item() -> None:
    claim, item, told = charged(DONE, LATER)
    assert isinstance(claim, Hold)
    assert (claim.kind, claim.key) == (EVIDENCE_CLAIM, "Encounter/e1")
    assert isinstance(item, Put)
    for one in (item, told):
        require_valid(one.resource)
    assert str(item.resource["priceOverride"]["value"]) == "15.0"
    assert item.resource["context"] == {"reference": "Encounter/e1"}
    again = charged(DONE, LATER)[1].resource["id"]
    other = charged(DONE, LATER, source="Encounter/e2")[1].resource["id"]
    assert (again == item.resource["id"], other == again) == (True, False)


def test_what_is_promised_on_the_day_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(DUE, LATER) == "quota-left"
    april = datetime.datetime(2026, 3, 31, 16, tzinfo=datetime.UTC)  # its first minute in China
    assert [one.key for one in charged(DONE, LATER)[:1]] == ["Encounter/e1"]
    monkeypatch.setattr(beyond_quota, "_SKEW", datetime.timedelta(days=60))
    assert refused(DONE, LATER, performed=april) == "quota-left"
    before = april - datetime.timedelta(seconds=1)
    assert charged(DONE, LATER, performed=before)
    monkeypatch.setattr(beyond_quota, "_promises", lambda *_: False)
    assert charged(DUE, LATER), "the twin: nothing else keeps it from being charged"


def test_what_cannot_be_charged_is_refused() -> None:
    assert refused(DONE, item={**ITEM, "extension": []}) == "item-without-price"
    for contract in ({**CONTRACT, "status": "terminated"}, {**CONTRACT, "status": "offered"}):
        assert refused(DONE, contract=contract) == "charge-not-possible"
    for days in (1, 400, -100):
        at = NOW + datetime.timedelta(days=days)
        assert refused(DONE, performed=at) == "charge-not-possible"
