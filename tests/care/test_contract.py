"""The life of a contract: every state meets every event; each guard refuses what it must."""

import datetime
import itertools
from decimal import Decimal
from typing import Any

import pytest

from care.contract import application as applying
from care.contract import by_calendar, changes, delegation, ending, qr, signing
from care.contract.application import Application
from care.contract.content import extension_value
from care.contract.delegation import Delegation
from care.contract.evidence import Place, Signing
from care.contract.qr import Invitation
from care.contract.renewal import renewal_reminders
from care.contract.signing import Payment
from care.contract.states import Event, State, state_of
from care.contract.surroundings import Surroundings, members_at, stands_in_for
from care.effects import Decision, Hold, LetGo, Put
from care.periods import LOCAL
from conformance.problem import BusinessRule
from conformance.structure import check

PACKAGE, EXTRA = "PlanDefinition/basic", "PlanDefinition/chronic"
PRICES = {PACKAGE: Decimal("0.00"), EXTRA: Decimal("120.00")}
TODAY = datetime.date(2026, 3, 2)
HASH = "a" * 64
TEAM = {
    "resourceType": "CareTeam",
    "id": "t1",
    "status": "active",
    "participant": [{"member": {"reference": "Practitioner/d1"}}],
}
numbers = itertools.count(1)


def around(on: datetime.date = TODAY, **changed: Any) -> Surroundings:
    facts: dict[str, Any] = {
        "now": datetime.datetime.combine(on, datetime.time(10), LOCAL),
        "actor": "Practitioner/d1",
        "resident": {"resourceType": "Patient", "id": "p1", "birthDate": "1960-05-01"},
        "packages": {
            name: {
                "resourceType": "PlanDefinition",
                "id": name.partition("/")[2],
                "status": "active",
                "url": f"urn:{name}",
                "version": "1",
            }
            for name in PRICES
        },
        "team": TEAM,
        "qualified": frozenset({"Practitioner/d1"}),
        "prices": PRICES,
        "new_id": lambda: f"id-{next(numbers)}",
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


def signed_by(**changed: Any) -> Signing:
    signature = {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": "2026-03-02T10:00:00+08:00",
        "data": "iVBORw0KGgo=",
    }
    facts: dict[str, Any] = {
        "resident": "Patient/p1",
        "doctor": "Practitioner/d1",
        "agreement_hash": HASH,
    }
    facts |= changed
    facts.setdefault(
        "signatures",
        {side: {**signature, "who": {"reference": facts[side]}} for side in ("resident", "doctor")},
    )
    return Signing(**facts)


def applied(**changed: Any) -> Any:
    return applying.submit(around(), application(**changed)).contract


def approved(**changed: Any) -> Any:
    return applying.review(around(), applied(**changed), "approve").contract


def effective() -> Any:
    return signing.sign(around(), approved(), signed_by()).contract


def amending() -> Any:
    return changes.amend(around(), effective(), {EXTRA: PRICES[EXTRA]}, HASH).contract


def supplemented() -> Any:
    return applying.review(around(), applied(), "supplement", "缺材料").contract


def unpaid() -> Any:
    return signing.sign(around(), approved(pay_first=True), signed_by()).contract


def later() -> Any:
    wish = application(start=datetime.date(2026, 4, 1), end=datetime.date(2027, 3, 31))
    contract = applying.submit(around(), wish).contract
    contract = applying.review(around(), contract, "approve").contract
    return signing.sign(around(), contract, signed_by()).contract


def drafted() -> Surroundings:
    return around(predecessor=effective())


STATES = {
    State.APPLIED: applied,
    State.SUPPLEMENT: lambda: applying.review(around(), applied(), "supplement", "缺材料").contract,
    State.APPROVED: approved,
    State.REJECTED: lambda: applying.review(around(), applied(), "reject", "不在辖区").contract,
    State.SIGNED: unpaid,
    State.EFFECTIVE: effective,
    State.AMENDING: amending,
    State.AMENDED: lambda: next(
        one
        for one in resources_of(signing.sign(drafted(), amending(), signed_by()))
        if one["resourceType"] == "Contract" and one["id"] != "c1"
    ),
    State.DISPUTED: lambda: changes.dispute(around(), effective(), "投诉").contract,
    State.ENDED: lambda: ending.expire(around(datetime.date(2027, 3, 2)), effective()).contract,
    State.REVOKED: lambda: ending.terminate(around(), effective(), "02").contract,
    State.CANCELLED: lambda: ending.terminate(around(), effective(), "04").contract,
    State.VOID: lambda: changes.void(around(), effective(), "录入错误").contract,
}
LATE = datetime.date(2027, 3, 2)
PAID = Payment(invoice="Invoice/i1", resident="Patient/p1", amount=Decimal("0.00"))
LEAVE = Delegation(
    from_="Practitioner/d1",
    to="Practitioner/d2",
    start=datetime.datetime(2026, 3, 2, tzinfo=LOCAL),
    end=datetime.datetime(2026, 3, 9, tzinfo=LOCAL),
)
EVENTS = {
    Event.APPROVE: lambda c: applying.review(around(), c, "approve"),
    Event.ASK_SUPPLEMENT: lambda c: applying.review(around(), c, "supplement", "缺材料"),
    Event.REJECT: lambda c: applying.review(around(), c, "reject", "不在辖区"),
    Event.RESUBMIT: lambda c: applying.resubmit(around(), c, HASH),
    Event.SIGN: lambda c: signing.sign(drafted(), c, signed_by()),
    Event.PAY: lambda c: signing.pay(around(), c, PAID),
    Event.START: lambda c: signing.start(
        around(datetime.date(2026, 4, 1)), later() if state_of(c) is State.SIGNED else c
    ),
    Event.AMEND: lambda c: changes.amend(around(), c, {EXTRA: PRICES[EXTRA]}, HASH),
    Event.DELEGATE: lambda c: delegation.delegate(around(), c, LEAVE),
    Event.REASSIGN: lambda c: changes.reassign(around(), c, "CareTeam/t2"),
    Event.RENEW: lambda c: signing.renew(
        around(),
        c,
        contract_id="c2",
        number="N2",
        end=datetime.date(2028, 3, 1),
        signing=signed_by(),
    ),
    Event.EXPIRE: lambda c: ending.expire(around(LATE), c),
    Event.TERMINATE: lambda c: ending.terminate(around(), c, "02"),
    Event.DISPUTE: lambda c: changes.dispute(around(), c, "投诉"),
    Event.RESOLVE: lambda c: changes.resolve(around(), c, "已沟通"),
    Event.VOID: lambda c: changes.void(around(), c, "录入错误"),
}
# Written by hand from the life of a contract, not from the code: state → events that may happen.
TABLE = {
    State.APPLIED: "APPROVE ASK_SUPPLEMENT REJECT TERMINATE VOID",
    State.SUPPLEMENT: "RESUBMIT REJECT TERMINATE VOID",
    State.APPROVED: "SIGN REJECT TERMINATE VOID",
    State.REJECTED: "",
    State.SIGNED: "PAY START EXPIRE TERMINATE VOID",
    State.EFFECTIVE: "AMEND DELEGATE REASSIGN RENEW EXPIRE TERMINATE DISPUTE VOID",
    State.AMENDING: "SIGN REJECT TERMINATE VOID",
    State.AMENDED: "",
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
    refused("resident-deceased", lambda: applying.submit(dead, application()))
    refused("resident-deceased", lambda: signing.sign(dead, approved(), signed_by()))
    closed = ending.terminate(dead, effective(), "03")
    assert state_of(closed.contract) is State.REVOKED
    assert any(isinstance(effect, LetGo) for effect in closed.effects)


MOTHER = {
    "resourceType": "RelatedPerson",
    "id": "mother",
    "patient": {"reference": "Patient/p1"},
    "birthDate": "1985-01-01",
}


def test_a_minor_needs_a_guardian_who_is_on_record() -> None:
    child = around(resident={"id": "p1", "birthDate": "2008-03-03"}, relative=MOTHER)
    by_mother = signed_by(resident="RelatedPerson/mother")
    refused("guardian-required", lambda: signing.sign(child, approved(), signed_by()))
    guarded = signing.sign(child, approved(), by_mother)
    assert state_of(guarded.contract) is State.EFFECTIVE
    eighteen = around(resident={"id": "p1", "birthDate": "2008-03-02"})
    assert signing.sign(eighteen, approved(), signed_by())
    for stranger in (
        {**MOTHER, "patient": {"reference": "Patient/p2"}},
        {**MOTHER, "active": False},
        {**MOTHER, "birthDate": "2010-01-01"},
        {**MOTHER, "period": {"end": "2026-03-01"}},
        None,
    ):
        nobody = around(resident={"id": "p1", "birthDate": "2015-01-01"}, relative=stranger)
        refused("signer-not-related", lambda: signing.sign(nobody, approved(), by_mother))  # noqa: B023


@pytest.mark.parametrize("birth", [{}, {"birthDate": "2008"}, {"birthDate": "2008-03"}])
def test_whoever_may_be_a_minor_needs_a_guardian(birth: dict[str, str]) -> None:
    unsure = around(resident={"id": "p1", **birth})
    refused("guardian-required", lambda: signing.sign(unsure, approved(), signed_by()))
    grown = around(resident={"id": "p1", "birthDate": "1980"})
    assert signing.sign(grown, approved(), signed_by())


def test_a_suspended_doctor_signs_nothing() -> None:
    nobody = around(qualified=frozenset())
    refused("team-not-qualified", lambda: signing.sign(nobody, approved(), signed_by()))
    other = signed_by(doctor="Practitioner/stranger")
    refused("signer-not-qualified", lambda: signing.sign(around(), approved(), other))


def test_a_retired_package_and_a_wrong_price_are_refused() -> None:
    retired = around(packages={PACKAGE: {"status": "retired"}})
    refused("package-not-valid", lambda: applying.submit(retired, application()))
    ended = around(
        packages={PACKAGE: {"status": "active", "effectivePeriod": {"end": "2026-03-01"}}}
    )
    refused("package-not-valid", lambda: applying.submit(ended, application()))
    cheap = application(packages={EXTRA: Decimal("1.00")})
    refused("contract-price", lambda: applying.submit(around(), cheap))


def test_the_agreement_that_was_read_is_the_one_that_is_signed() -> None:
    other = signed_by(agreement_hash="b" * 64)
    refused("agreement-changed", lambda: signing.sign(around(), approved(), other))


def test_one_contract_at_a_time_is_claimed_to_local_midnight() -> None:
    decision = signing.sign(around(), approved(), signed_by())
    (hold,) = [effect for effect in decision.effects if isinstance(effect, Hold)]
    assert hold.key == "Patient/p1"
    assert hold.start.isoformat() == "2026-03-02T00:00:00+08:00"
    assert hold.end
    assert hold.end.isoformat() == "2027-03-02T00:00:00+08:00"


def test_the_last_day_belongs_to_the_contract() -> None:
    last = datetime.date(2027, 3, 1)
    refused("contract-runs", lambda: ending.expire(around(last), effective()))
    late = datetime.datetime(2027, 3, 1, 15, 59, tzinfo=datetime.UTC)  # 23:59 in China
    refused("contract-runs", lambda: ending.expire(around(now=late), effective()))
    over = datetime.datetime(2027, 3, 1, 16, 0, tzinfo=datetime.UTC)  # 00:00 in China
    ended = ending.expire(around(now=over), effective())
    assert extension_value(ended.contract, "termination-reason") == "07"


def test_payment_or_a_later_start_is_waited_for() -> None:
    waiting = unpaid()
    assert state_of(waiting) is State.SIGNED
    refused("contract-not-due", lambda: signing.start(around(), waiting))
    for wrong in (
        Payment(invoice="Invoice/i1", resident="Patient/p1", amount=Decimal(1)),
        Payment(invoice="Invoice/i1", resident="Patient/p2", amount=Decimal(0)),
    ):
        refused("payment-differs", lambda: signing.pay(around(), waiting, wrong))  # noqa: B023
    paid = signing.pay(around(), waiting, PAID)
    assert state_of(paid.contract) is State.EFFECTIVE
    assert paid.begun == (PACKAGE,)
    contract = later()
    assert state_of(contract) is State.SIGNED
    refused("payment-not-awaited", lambda: signing.pay(around(), contract, PAID))
    refused("contract-not-due", lambda: signing.start(around(), contract))
    night = datetime.datetime(2026, 3, 31, 15, 59, tzinfo=datetime.UTC)  # 23:59 in China
    refused("contract-not-due", lambda: signing.start(around(now=night), contract))
    first = around(now=datetime.datetime(2026, 3, 31, 16, 0, tzinfo=datetime.UTC))
    started = signing.start(first, contract)
    assert state_of(started.contract) is State.EFFECTIVE
    assert started.begun == (PACKAGE,)


def test_an_amendment_takes_the_old_ones_place_when_it_is_signed() -> None:
    draft = changes.amend(around(), effective(), {EXTRA: PRICES[EXTRA]}, HASH).contract
    assert draft["id"] != "c1"
    decision = signing.sign(drafted(), draft, signed_by())
    contracts = [r for r in resources_of(decision) if r["resourceType"] == "Contract"]
    by_id = {contract["id"]: contract for contract in contracts}
    assert by_id["c1"]["legalState"]["coding"][0]["code"] == "amended"
    assert by_id["c1"]["term"][0]["offer"]["topic"]["reference"] == EXTRA
    assert by_id["c1"]["term"][0]["identifier"]["value"] == f"urn:{EXTRA}|1"
    assert state_of(by_id[draft["id"]]) is State.AMENDED
    assert (decision.begun, decision.ended) == ((EXTRA,), (PACKAGE,))


def test_a_package_that_is_added_is_appended() -> None:
    both = {PACKAGE: PRICES[PACKAGE], EXTRA: PRICES[EXTRA]}
    draft = changes.amend(around(), effective(), both, HASH).contract
    decision = signing.sign(drafted(), draft, signed_by())
    assert decision.contract["legalState"]["coding"][0]["code"] == "appended"
    assert (decision.begun, decision.ended) == ((EXTRA,), ())


def test_a_version_of_a_contract_that_has_ended_cannot_be_signed() -> None:
    ended = ending.terminate(around(), effective(), "02").contract
    gone = around(predecessor=ended)
    refused("contract-amended-ended", lambda: signing.sign(gone, amending(), signed_by()))


def test_what_changed_meanwhile_is_kept_by_an_amendment() -> None:
    draft = amending()
    moved = changes.reassign(around(), effective(), "CareTeam/t2").contract
    in_force = signing.sign(around(predecessor=moved), draft, signed_by()).contract
    assert in_force["term"][0]["action"][0]["performer"]["reference"] == "CareTeam/t2"


def test_signing_away_from_the_consulting_room_leaves_its_proof() -> None:
    at_home = approved(mode="home")
    bare = signed_by()
    refused("evidence-missing", lambda: signing.sign(around(), at_home, bare))
    place = Place(latitude=Decimal("22.55"), longitude=Decimal("114.1"), system="GCJ-02")
    photo = {"contentType": "image/jpeg", "data": "/9j/"}
    decision = signing.sign(around(), at_home, signed_by(place=place, photo=photo))
    written = {one["resourceType"]: one for one in resources_of(decision)}
    who = written["Provenance"]
    assert written["DocumentReference"]["content"][0]["attachment"] == photo
    assert extension_value(who, "geolocation") == "22.55,114.1 GCJ-02"
    document = f"DocumentReference/{written['DocumentReference']['id']}"
    assert extension_value(who, "sign-evidence") == {"reference": document}
    assert who["entity"][0]["what"]["identifier"]["value"] == HASH
    assert who["occurredDateTime"] == "2026-03-02T10:00:00+08:00"
    assert len(who["signature"]) == 2


def test_a_signature_is_by_who_signs_and_of_a_time_that_can_be() -> None:
    def with_resident(**changed: Any) -> Signing:
        good = signed_by().signatures
        return signed_by(signatures={**good, "resident": {**good["resident"], **changed}})

    other = with_resident(who={"reference": "Patient/p2"})
    refused("signature-of-another", lambda: signing.sign(around(), approved(), other))
    for when in ("2026-03-02T10:06:00+08:00", "2026-01-01T10:00:00+08:00", "2026-03-02"):
        wrong = with_resident(when=when)
        refused("signature-time", lambda: signing.sign(around(), approved(), wrong))  # noqa: B023


def test_the_residents_side_cannot_do_the_teams_work() -> None:
    himself = around(actor="Patient/p1")
    refused("staff-only", lambda: applying.review(himself, applied(), "approve"))
    refused("staff-only", lambda: signing.sign(himself, approved(), signed_by()))
    refused("staff-only", lambda: ending.terminate(himself, effective(), "02"))
    own_wish = ending.terminate(himself, effective(), "04")
    assert state_of(own_wish.contract) is State.CANCELLED


def test_a_team_that_does_not_cover_the_resident_is_refused() -> None:
    def living_in(code: str) -> Any:
        region = "https://fhir.qiao.example/cphc/StructureDefinition/cphc-region-code"
        return {
            "id": "p1",
            "birthDate": "1960-05-01",
            "address": [{"extension": [{"url": region, "valueCode": code}]}],
        }

    area = "https://fhir.qiao.example/cphc/StructureDefinition/cphc-service-area"
    team = {**TEAM, "extension": [{"url": area, "valueCode": "999001"}]}
    near = around(team=team, resident=living_in("999001002"))
    assert applying.submit(near, application())
    far = around(team=team, resident=living_in("440305"))
    refused("team-does-not-cover", lambda: applying.submit(far, application()))


def test_a_delegation_ends_by_itself_and_speaks_for_whom_it_stands_in() -> None:
    decision = delegation.delegate(around(), effective(), LEAVE)
    team = next(r for r in resources_of(decision) if r["resourceType"] == "CareTeam")
    assert check(team) == []
    last = datetime.datetime(2026, 3, 8, 23, 59, 59, tzinfo=LOCAL)
    over = datetime.datetime(2026, 3, 9, tzinfo=LOCAL)
    assert members_at(team, last) == {"Practitioner/d1", "Practitioner/d2"}
    assert members_at(team, over) == {"Practitioner/d1"}
    assert stands_in_for(team, "Practitioner/d2", last) == "Practitioner/d1"
    assert stands_in_for(team, "Practitioner/d1", last) is None
    both = frozenset({"Practitioner/d1", "Practitioner/d2"})
    standing_in = around(
        now=last,
        actor="Practitioner/d2",
        team=team,
        qualified=both,
        acting_for="Practitioner/d1",
    )
    by_d2 = signed_by(
        doctor="Practitioner/d2",
        signatures={
            side: {**one, "who": {"reference": who}, "when": "2026-03-08T20:00:00+08:00"}
            for (side, one), who in zip(
                signed_by().signatures.items(), ("Patient/p1", "Practitioner/d2"), strict=True
            )
        },
    )
    signed = signing.sign(standing_in, approved(), by_d2)
    who = next(r for r in resources_of(signed) if r["resourceType"] == "Provenance")
    assert who["agent"][0]["onBehalfOf"] == {"reference": "Practitioner/d1"}
    too_late = around(now=over, team=team, qualified=both)
    refused("signer-not-qualified", lambda: signing.sign(too_late, approved(), by_d2))


def test_a_delegation_can_be_taken_back() -> None:
    decision = delegation.delegate(around(), effective(), LEAVE)
    written = {r["resourceType"]: r for r in resources_of(decision)}
    now = datetime.datetime(2026, 3, 4, 12, tzinfo=LOCAL)
    later_on = around(now=now, team=written["CareTeam"])
    back = delegation.cancel(later_on, effective(), written["Task"])
    team = next(r for r in resources_of(back) if r["resourceType"] == "CareTeam")
    assert members_at(team, now) == {"Practitioner/d1"}
    over = next(r for r in resources_of(back) if r["resourceType"] == "Task")
    assert over["status"] == "cancelled"
    refused("delegation-over", lambda: delegation.cancel(later_on, effective(), over))


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("delegation-from", {"from_": "Practitioner/d9"}),
        ("delegation-to", {"to": "Practitioner/d1"}),
        ("delegation-to", {"to": "Patient/p1"}),
        ("delegation-period", {"end": datetime.datetime(2026, 3, 1, tzinfo=LOCAL)}),
        ("delegation-period", {"end": datetime.datetime(2028, 3, 1, tzinfo=LOCAL)}),
    ],
)
def test_a_delegation_that_cannot_be_is_refused(key: str, changed: dict[str, Any]) -> None:
    names = ("from_", "to", "start", "end")
    wish = Delegation(**({name: getattr(LEAVE, name) for name in names} | changed))
    refused(key, lambda: delegation.delegate(around(), effective(), wish))


def test_an_invitation_is_believed_while_it_lasts_and_unchanged() -> None:
    invitation = Invitation(team="CareTeam/t1", doctor="Practitioner/d1", nonce="n")
    now = datetime.datetime(2026, 3, 2, 10, tzinfo=LOCAL)
    expires = now + qr.LIFETIME
    token = qr.issue(b"key", invitation, expires)
    assert qr.read(b"key", token, now) == invitation
    refused("qr-expired", lambda: qr.read(b"key", token, expires))
    refused("qr-forged", lambda: qr.read(b"other", token, now))
    refused("qr-forged", lambda: qr.read(b"key", "x" + token, now))
    refused("qr-forged", lambda: qr.read(b"key", "nonsense", now))


def test_the_calendar_begins_what_is_signed_ends_that_of_the_dead_and_leaves_the_rest() -> None:
    on = datetime.date.fromisoformat(later()["applies"]["start"])
    begun = by_calendar.begin(around(on), later())
    assert begun is not None
    assert state_of(begun.contract) is State.EFFECTIVE
    dead = {**around(on).resident, "deceasedBoolean": True}
    ended = by_calendar.begin(around(on, resident=dead), later())
    assert ended is not None
    assert state_of(ended.contract) is State.REVOKED
    assert ended.closes_messages
    assert by_calendar.begin(around(), effective()) is None
    assert not by_calendar.is_settled(effective())
    template = {"resourceType": "Contract", "id": "t", "status": "policy"}
    assert all(by_calendar.is_settled(one) for one in (None, template, ended.contract))


def test_what_ends_with_a_contract() -> None:
    def service(package: str, status: str = "requested") -> Any:
        return {
            "resourceType": "Task",
            "id": f"{package}-{status}",
            "status": status,
            "groupIdentifier": {"value": f"c1/{package}"},
        }

    tasks = [service("basic"), service("chronic"), service("basic", "completed")]
    over = ending.terminate(around(), effective(), "02")
    assert [p.resource["id"] for p in ending.cancelled_tasks(over, tasks)] == [
        "basic-requested",
        "chronic-requested",
    ]
    draft = changes.amend(around(), effective(), {EXTRA: PRICES[EXTRA]}, HASH).contract
    amended = signing.sign(drafted(), draft, signed_by())
    assert [p.resource["id"] for p in ending.cancelled_tasks(amended, tasks)] == ["basic-requested"]
    died = around(resident={**around().resident, "deceasedBoolean": True})
    dead = ending.terminate(died, effective(), "03")
    assert dead.closes_messages
    messages = [{"status": "active", "id": "1"}, {"status": "completed", "id": "2"}]
    assert [p.resource["id"] for p in ending.stopped_messages(messages)] == ["1"]


def test_the_reminders_of_a_renewal_are_data() -> None:
    assert [(r.on.isoformat(), r.days_left) for r in renewal_reminders(effective())] == [
        ("2027-01-30", 30), ("2027-02-22", 7), ("2027-03-01", 0),
    ]  # fmt: skip
    assert renewal_reminders(approved()) == ()


def test_a_renewal_begins_the_day_after_and_leaves_the_old_one() -> None:
    old = effective()
    decision = signing.renew(
        around(), old, contract_id="c2", number="N2", end=datetime.date(2028, 3, 1),
        signing=signed_by(),
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
    refused("contract-term", lambda: applying.submit(around(), wish))


def test_a_term_does_not_begin_before_a_signature_that_counts() -> None:
    days = [datetime.timedelta(days=n) for n in (30, 31)]
    for start in (TODAY, TODAY - days[0]):
        assert applying.submit(around(), application(start=start)).contract["applies"]["start"]
    refused(
        "contract-backdated", lambda: applying.submit(around(), application(start=TODAY - days[1]))
    )
    on_paper = application(start=TODAY - days[1])
    refused("contract-backdated", lambda: signing.sign_at_once(around(), on_paper, signed_by()))
