"""The life of a contract: every state meets every event, and a small model watches at random."""

import datetime
import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from care.contract import lifecycle
from care.contract.content import extension_value
from care.contract.lifecycle import Application, Signing
from care.contract.states import Event, State, state_of
from care.contract.surroundings import LOCAL, Surroundings
from care.effects import Decision, Hold, LetGo, Put
from conformance.problem import BusinessRule
from conformance.structure import check

PACKAGE, EXTRA = "PlanDefinition/basic", "PlanDefinition/chronic"
PRICES = {PACKAGE: Decimal("0.00"), EXTRA: Decimal("120.00")}
TODAY = datetime.date(2026, 3, 2)
HASH = "a" * 64
numbers = itertools.count(1)


def around(on: datetime.date = TODAY, **changed: Any) -> Surroundings:
    facts: dict[str, Any] = {
        "now": datetime.datetime.combine(on, datetime.time(10), LOCAL),
        "actor": "Practitioner/d1",
        "resident": {"resourceType": "Patient", "id": "p1", "birthDate": "1960-05-01"},
        "packages": {
            name: {"resourceType": "PlanDefinition", "status": "active"} for name in PRICES
        },
        "team": {"status": "active", "participant": [{"member": {"reference": "Practitioner/d1"}}]},
        "qualified": frozenset({"Practitioner/d1"}),
        "prices": PRICES,
        "ids": [f"id-{next(numbers)}" for _ in range(3)],
    }
    return Surroundings(**(facts | changed))


def application(**changed: Any) -> Application:
    facts: dict[str, Any] = {
        "contract_id": "c1",
        "number": "N1",
        "resident": "Patient/p1",
        "team": "CareTeam/t1",
        "packages": {PACKAGE: PRICES[PACKAGE]},
        "start": TODAY,
        "end": datetime.date(2027, 3, 1),
        "agreement_hash": HASH,
    }
    return Application(**(facts | changed))


def signing(**changed: Any) -> Signing:
    signature = {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": "2026-03-02T10:00:00+08:00",
        "who": {"reference": "Patient/p1"},
    }
    facts: dict[str, Any] = {
        "resident": "Patient/p1",
        "doctor": "Practitioner/d1",
        "signatures": {"resident": signature, "doctor": signature},
        "agreement_hash": HASH,
    }
    return Signing(**(facts | changed))


def applied(**changed: Any) -> Any:
    return lifecycle.submit(around(), application(**changed)).contract


def approved(**changed: Any) -> Any:
    return lifecycle.review(around(), applied(**changed), "approve").contract


def effective() -> Any:
    return lifecycle.sign(around(), approved(), signing()).contract


def amending() -> Any:
    return lifecycle.amend(around(), effective(), {EXTRA: PRICES[EXTRA]}, HASH).contract


def supplemented() -> Any:
    return lifecycle.review(around(), applied(), "supplement", "缺材料").contract


def paid(contract: Any) -> Any:
    kept = [e for e in contract["extension"] if "effective-on-payment" not in e["url"]]
    return {**contract, "extension": kept}


STATES = {
    State.APPLIED: applied,
    State.SUPPLEMENT: lambda: (
        lifecycle.review(around(), applied(), "supplement", "缺材料").contract
    ),
    State.APPROVED: approved,
    State.REJECTED: lambda: lifecycle.review(around(), applied(), "reject", "不在辖区").contract,
    State.SIGNED: lambda: lifecycle.sign(around(), approved(pay_first=True), signing()).contract,
    State.EFFECTIVE: effective,
    State.AMENDING: amending,
    State.DISPUTED: lambda: lifecycle.dispute(around(), effective(), "投诉").contract,
    State.ENDED: lambda: lifecycle.expire(around(datetime.date(2027, 3, 2)), effective()).contract,
    State.REVOKED: lambda: lifecycle.terminate(around(), effective(), "02").contract,
    State.CANCELLED: lambda: lifecycle.terminate(around(), effective(), "04").contract,
    State.VOID: lambda: lifecycle.void(around(), effective(), "录入错误").contract,
}
LATE = datetime.date(2027, 3, 2)
EVENTS = {
    Event.APPROVE: lambda c: lifecycle.review(around(), c, "approve"),
    Event.ASK_SUPPLEMENT: lambda c: lifecycle.review(around(), c, "supplement", "缺材料"),
    Event.REJECT: lambda c: lifecycle.review(around(), c, "reject", "不在辖区"),
    Event.RESUBMIT: lambda c: lifecycle.resubmit(around(), c, HASH),
    Event.SIGN: lambda c: lifecycle.sign(around(), c, signing()),
    Event.PAY: lambda c: lifecycle.pay(around(), c),
    Event.START: lambda c: lifecycle.start(around(), paid(c)),
    Event.AMEND: lambda c: lifecycle.amend(around(), c, {EXTRA: PRICES[EXTRA]}, HASH),
    Event.REASSIGN: lambda c: lifecycle.reassign(around(), c, "CareTeam/t2"),
    Event.RENEW: lambda c: lifecycle.renew(
        around(), c, contract_id="c2", number="N2", end=datetime.date(2028, 3, 1), signing=signing()
    ),
    Event.EXPIRE: lambda c: lifecycle.expire(around(LATE), c),
    Event.TERMINATE: lambda c: lifecycle.terminate(around(), c, "02"),
    Event.DISPUTE: lambda c: lifecycle.dispute(around(), c, "投诉"),
    Event.RESOLVE: lambda c: lifecycle.resolve(around(), c, "已沟通"),
    Event.VOID: lambda c: lifecycle.void(around(), c, "录入错误"),
}
# Written by hand from the life of a contract, not from the code: state → events that may happen.
TABLE = {
    State.APPLIED: "APPROVE ASK_SUPPLEMENT REJECT TERMINATE VOID",
    State.SUPPLEMENT: "RESUBMIT REJECT TERMINATE VOID",
    State.APPROVED: "SIGN REJECT TERMINATE VOID",
    State.REJECTED: "",
    State.SIGNED: "PAY START TERMINATE VOID",
    State.EFFECTIVE: "AMEND REASSIGN RENEW EXPIRE TERMINATE DISPUTE VOID",
    State.AMENDING: "SIGN REJECT TERMINATE VOID",
    State.DISPUTED: "RESOLVE EXPIRE TERMINATE",
    State.ENDED: "",
    State.REVOKED: "",
    State.CANCELLED: "",
    State.VOID: "",
}


@pytest.mark.parametrize("state", list(STATES), ids=lambda s: s.name)
def test_each_state_is_reached_and_read_back(state: State) -> None:
    assert state_of(STATES[state]()) is state


@pytest.mark.parametrize(
    ("state", "event"),
    list(itertools.product(STATES, EVENTS)),
    ids=lambda value: value.name,
)
def test_every_event_in_every_state_is_carried_out_or_refused_with_advice(
    state: State, event: Event
) -> None:
    contract = STATES[state]()
    if event.name in TABLE[state].split():
        assert isinstance(EVENTS[event](contract), Decision)
        return
    with pytest.raises(BusinessRule) as caught:
        EVENTS[event](contract)
    (issue,) = caught.value.issues
    assert issue.fix_en
    assert issue.fix_zh
    assert issue.key in ("contract-state", "contract-final")


def test_the_advice_of_a_refusal_can_be_followed() -> None:
    """Whatever a refusal says is possible now is possible now."""
    for state in STATES:
        for event in EVENTS:
            if event.name in TABLE[state].split():
                continue
            with pytest.raises(BusinessRule) as caught:
                EVENTS[event](STATES[state]())
            advised = [e for e in EVENTS if e.value in caught.value.issues[0].fix_en]
            for other in advised if caught.value.issues[0].key == "contract-state" else ():
                EVENTS[other](STATES[state]())


def resources_of(decision: Decision) -> list[Any]:
    return [effect.resource for effect in decision.effects if isinstance(effect, Put)]


@pytest.mark.parametrize("event", list(EVENTS), ids=lambda e: e.name)
def test_every_step_leaves_valid_resources_with_who_did_it(event: Event) -> None:
    state = next(state for state in STATES if event.name in TABLE[state].split())
    decision = EVENTS[event](STATES[state]())
    written = resources_of(decision)
    assert {"Contract", "Task", "Provenance"} <= {r["resourceType"] for r in written}
    for resource in written:
        assert check(resource) == [], resource["resourceType"]


def refused(key: str, call: Any) -> None:
    with pytest.raises(BusinessRule) as caught:
        call()
    assert caught.value.issues[0].key == key


def test_nothing_new_for_the_dead() -> None:
    dead = around(resident={"id": "p1", "deceasedBoolean": True})
    refused("resident-deceased", lambda: lifecycle.submit(dead, application()))
    refused("resident-deceased", lambda: lifecycle.sign(dead, approved(), signing()))
    closed = lifecycle.terminate(dead, effective(), "03")
    assert state_of(closed.contract) is State.REVOKED
    assert any(isinstance(effect, LetGo) for effect in closed.effects)


def test_a_minor_needs_a_guardian() -> None:
    child = around(resident={"id": "p1", "birthDate": "2008-03-03"})
    refused("guardian-required", lambda: lifecycle.sign(child, approved(), signing()))
    guarded = lifecycle.sign(child, approved(), signing(resident="RelatedPerson/mother"))
    assert state_of(guarded.contract) is State.EFFECTIVE
    eighteen = around(resident={"id": "p1", "birthDate": "2008-03-02"})
    assert lifecycle.sign(eighteen, approved(), signing())


def test_a_suspended_doctor_signs_nothing() -> None:
    nobody = around(qualified=frozenset())
    refused("team-not-qualified", lambda: lifecycle.sign(nobody, approved(), signing()))
    other = signing(doctor="Practitioner/stranger")
    refused("signer-not-qualified", lambda: lifecycle.sign(around(), approved(), other))


def test_a_retired_package_and_a_wrong_price_are_refused() -> None:
    retired = around(packages={PACKAGE: {"status": "retired"}})
    refused("package-not-valid", lambda: lifecycle.submit(retired, application()))
    ended = around(
        packages={PACKAGE: {"status": "active", "effectivePeriod": {"end": "2026-03-01"}}}
    )
    refused("package-not-valid", lambda: lifecycle.submit(ended, application()))
    cheap = application(packages={EXTRA: Decimal("1.00")})
    refused("contract-price", lambda: lifecycle.submit(around(), cheap))


def test_the_agreement_that_was_read_is_the_one_that_is_signed() -> None:
    other = signing(agreement_hash="b" * 64)
    refused("agreement-changed", lambda: lifecycle.sign(around(), approved(), other))


def test_one_contract_at_a_time_is_claimed_to_local_midnight() -> None:
    decision = lifecycle.sign(around(), approved(), signing())
    (hold,) = [effect for effect in decision.effects if isinstance(effect, Hold)]
    assert hold.key == "Patient/p1"
    assert hold.start.isoformat() == "2026-03-02T00:00:00+08:00"
    assert hold.end
    assert hold.end.isoformat() == "2027-03-02T00:00:00+08:00"


def test_the_last_day_belongs_to_the_contract() -> None:
    last = datetime.date(2027, 3, 1)
    refused("contract-runs", lambda: lifecycle.expire(around(last), effective()))
    late = datetime.datetime(2027, 3, 1, 15, 59, tzinfo=datetime.UTC)  # 23:59 in China
    refused("contract-runs", lambda: lifecycle.expire(around(now=late), effective()))
    over = datetime.datetime(2027, 3, 1, 16, 0, tzinfo=datetime.UTC)  # 00:00 in China
    ended = lifecycle.expire(around(now=over), effective())
    assert extension_value(ended.contract, "termination-reason") == "07"


def test_payment_or_a_later_start_is_waited_for() -> None:
    waiting = lifecycle.sign(around(), approved(pay_first=True), signing()).contract
    assert state_of(waiting) is State.SIGNED
    refused("contract-not-due", lambda: lifecycle.start(around(), waiting))
    assert state_of(lifecycle.pay(around(), waiting).contract) is State.EFFECTIVE
    later = application(start=datetime.date(2026, 4, 1), end=datetime.date(2027, 3, 31))
    contract = lifecycle.submit(around(), later).contract
    contract = lifecycle.review(around(), contract, "approve").contract
    contract = lifecycle.sign(around(), contract, signing()).contract
    assert state_of(contract) is State.SIGNED
    refused("contract-not-due", lambda: lifecycle.start(around(), contract))
    first = around(datetime.date(2026, 4, 1))
    assert state_of(lifecycle.start(first, contract).contract) is State.EFFECTIVE


def test_an_amendment_takes_the_old_ones_place_when_it_is_signed() -> None:
    draft = lifecycle.amend(around(), effective(), {EXTRA: PRICES[EXTRA]}, HASH).contract
    assert draft["id"] != "c1"
    decision = lifecycle.sign(around(), draft, signing())
    contracts = [r for r in resources_of(decision) if r["resourceType"] == "Contract"]
    by_id = {contract["id"]: contract for contract in contracts}
    assert by_id["c1"]["legalState"]["coding"][0]["code"] == "amended"
    assert by_id["c1"]["term"][0]["offer"]["topic"]["reference"] == EXTRA
    assert state_of(by_id[draft["id"]]) is State.VOID


def test_a_renewal_begins_the_day_after_and_leaves_the_old_one() -> None:
    old = effective()
    decision = lifecycle.renew(
        around(), old, contract_id="c2", number="N2", end=datetime.date(2028, 3, 1),
        signing=signing(),
    )  # fmt: skip
    following = decision.contract
    assert following["applies"]["start"] == "2027-03-02"
    assert following["legalState"]["coding"][0]["code"] == "renewed"
    assert [r["id"] for r in resources_of(decision) if r["resourceType"] == "Contract"] == ["c2"]


@pytest.mark.parametrize(
    ("start", "end"),
    [("2026-03-02", "2026-03-01"), ("2026-03-02", "2029-03-03"), ("2025-01-01", "2025-12-31")],
)
def test_a_term_that_cannot_be_is_refused(start: str, end: str) -> None:
    wish = application(
        start=datetime.date.fromisoformat(start), end=datetime.date.fromisoformat(end)
    )
    refused("contract-term", lambda: lifecycle.submit(around(), wish))


MOVES = {
    ("applied", "APPROVE"): "approved", ("applied", "ASK_SUPPLEMENT"): "supplement",
    ("applied", "REJECT"): "rejected", ("supplement", "RESUBMIT"): "applied",
    ("supplement", "REJECT"): "rejected", ("approved", "SIGN"): "effective",
    ("approved", "REJECT"): "rejected", ("effective", "DISPUTE"): "disputed",
    ("effective", "REASSIGN"): "effective", ("disputed", "RESOLVE"): "effective",
    ("effective", "EXPIRE"): "ended", ("disputed", "EXPIRE"): "ended",
    **{(s, "TERMINATE"): "revoked"
       for s in ("applied", "supplement", "approved", "effective", "disputed")},
    **{(s, "VOID"): "void" for s in ("applied", "supplement", "approved", "effective")},
}  # fmt: skip
NAMES = {
    "applied": State.APPLIED, "supplement": State.SUPPLEMENT, "approved": State.APPROVED,
    "rejected": State.REJECTED, "effective": State.EFFECTIVE, "disputed": State.DISPUTED,
    "ended": State.ENDED, "revoked": State.REVOKED, "void": State.VOID,
}  # fmt: skip
WATCHED = sorted({event for _, event in MOVES})


class Life(RuleBasedStateMachine):
    """A contract under random events, beside a model of eight lines that knows no FHIR."""

    def __init__(self) -> None:
        super().__init__()
        self.contract = applied()
        self.model = "applied"

    @rule(name=st.sampled_from(WATCHED))
    def happen(self, name: str) -> None:
        following = MOVES.get((self.model, name))
        try:
            decision = EVENTS[Event[name]](self.contract)
        except BusinessRule:
            assert following is None, (self.model, name)
            return
        assert following is not None, (self.model, name)
        if name not in ("AMEND", "RENEW"):
            self.contract, self.model = decision.contract, following
        assert state_of(self.contract) is NAMES[self.model]


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
