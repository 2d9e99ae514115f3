"""Synthetic lives of contracts: each made by the rules of `care`, at the day it happened.

One resident has one contract; the states come round in a fixed order, most of them in effect for
nearly two years, with the services of that time.
"""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from care.contract import application, changes, ending, signing
from care.contract.application import Application
from care.contract.evidence import Signing
from care.contract.surroundings import ADULT_YEARS, Surroundings, age_of
from care.effects import Decision, Effect, Hold, LetGo, Put, Resource
from care.fulfilment.completing import Proof, completed, period_of_task
from care.fulfilment.items import SERVICE_ITEM
from care.fulfilment.schedule import tasks_for
from care.package.content import price_of
from care.periods import LOCAL, day_of
from conformance.cphc import BASE

_NAMES = uuid.UUID("5f0b8b1e-5d55-4d0e-9c0e-6f3a5b0d9990")
_EXTENSION = f"{BASE}/StructureDefinition/cphc-"
_HASH = "9" * 64  # nobody agreed to anything
_DAY = datetime.timedelta(days=1)
_SIGNED_DAYS_AGO = 700
# What is published only retires: a change here is a new version, and with it new resources.
VERSION = "1.1.0"
HYPERTENSION = f"PlanDefinition/package-hypertension-{VERSION}"
BASIC = f"PlanDefinition/package-basic-{VERSION}"
ADVICE = f"PlanDefinition/package-advice-{VERSION}"

# Residents have these in turn.
STATES: tuple[str, ...] = (
    *("effective",) * 9, "applied", "effective", "supplement", "approved", "signed", "rejected",
    "amending", "disputed", "ended", "revoked", "cancelled", "effective", "none", "void",
    "renewed", "amended", "reviewed-once", "amended-unpaid",
)  # fmt: skip


def packages(version: str = VERSION) -> list[dict[str, Any]]:
    """Return the items and packages of the demonstration."""
    return [
        _item(version, "health-check", "年度健康检查", 1, 12),
        _item(version, "hypertension-visit", "高血压随访", 4, 3),
        _package(version, "package-basic", "基础包", "basic", "0.00", ["health-check"], None),
        _package(
            version, "package-hypertension", "高血压个性化包", "personalised", "120.00",
            ["hypertension-visit"], "hypertension",
        ),
        _item(version, "advice", "健康咨询", 4, 3),
        _package(
            version, "package-advice", "健康咨询包", "personalised", "60.00", ["advice"], None,
            is_paid_first=True,
        ),
    ]  # fmt: skip


def _item(version: str, id_: str, title: str, quota: int, months: int) -> dict[str, Any]:
    return {
        "resourceType": "ActivityDefinition",
        "id": f"item-{id_}-{version}",
        "url": f"{BASE}/ActivityDefinition/demo-{id_}",
        "version": version,
        "status": "active",
        "title": title,
        "code": {
            "coding": [{"system": SERVICE_ITEM, "code": id_}],
            "text": title,
        },
        "extension": [{"url": f"{_EXTENSION}service-quota", "valueInteger": quota}],
        "timingTiming": {"repeat": {"frequency": 1, "period": months, "periodUnit": "mo"}},
    }


def _package(
    version: str,
    id_: str,
    title: str,
    category: str,
    price: str,
    items: Sequence[str],
    focus: str | None,
    *,
    is_paid_first: bool = False,
) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "resourceType": "PlanDefinition",
        "id": f"{id_}-{version}",
        "url": f"{BASE}/PlanDefinition/demo-{id_}",
        "version": version,
        "status": "active",
        "title": title,
        "extension": [
            {"url": f"{_EXTENSION}contract-category", "valueCode": category},
            {
                "url": f"{_EXTENSION}package-price",
                "valueMoney": {"value": Decimal(price), "currency": "CNY"},
            },
        ],
        "action": [
            {"definitionCanonical": f"{BASE}/ActivityDefinition/demo-{item}|{version}"}
            for item in items
        ],
    }
    if is_paid_first:
        paid = {"url": f"{_EXTENSION}effective-on-payment", "valueBoolean": True}
        plan["extension"].append(paid)
    if focus is not None:
        coding = {"system": f"{BASE}/CodeSystem/cphc-key-population", "code": focus}
        usage = "http://terminology.hl7.org/CodeSystem/usage-context-type"
        plan["useContext"] = [
            {
                "code": {"system": usage, "code": "focus"},
                "valueCodeableConcept": {"coding": [coding]},
            }
        ]
    return plan


@dataclass(slots=True, kw_only=True)
class Life:
    """Everything that one resident's contract left: resources by reference, claims by holder."""

    resources: dict[str, Resource] = field(default_factory=dict)
    claims: dict[tuple[str, str], Hold] = field(default_factory=dict)

    def take(self, effects: Sequence[Effect]) -> None:
        """Keep the last of each resource, and the claims that are held at the end."""
        for effect in effects:
            if isinstance(effect, Put):
                one = effect.resource
                self.resources[f"{one['resourceType']}/{one['id']}"] = one
            elif isinstance(effect, Hold):
                self.claims[effect.kind, effect.holder] = effect
            elif isinstance(effect, LetGo):
                self.claims.pop((effect.kind, effect.holder), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Who signs: the resident (and the relative who signs for a child), the team, its doctor."""

    resident: Resource
    relative: Resource | None
    team: Resource
    doctor: str
    is_hypertensive: bool

    @property
    def reference(self) -> str:
        """Return `Patient/id`."""
        return f"Patient/{self.resident['id']}"


class Author:
    """Writes the life of one contract up to a state."""

    def __init__(
        self, parties: Parties, plans: Mapping[str, Resource], items: Sequence[Resource],
        now: datetime.datetime,
    ) -> None:  # fmt: skip
        self._parties = parties
        self._plans = plans
        self._items = items
        self._now = now
        self._made = 0
        self._life = Life()

    def life(self, state: str) -> Life:
        """Return what a contract in this state has left by now."""
        if state == "none" or not self._may_be_signed():
            return self._life
        if state in ("applied", "supplement", "approved", "rejected", "reviewed-once"):
            self._apply(state)
        elif state == "signed":
            start = day_of(self._now) + 10 * _DAY
            self._sign(self._now - 3 * _DAY, start, start + 364 * _DAY)
        elif state == "ended":
            contract = self._in_effect(years=1)
            start = day_of(self._now - _SIGNED_DAYS_AGO * _DAY)
            over = datetime.datetime.combine(start + 366 * _DAY, datetime.time(1), LOCAL)
            self._take(ending.expire(self._around(over), contract), over)
        else:
            self._go_on(state, self._in_effect(years=2))
        return self._life

    def _may_be_signed(self) -> bool:
        signed = day_of(self._now - _SIGNED_DAYS_AGO * _DAY)
        age = age_of(self._parties.resident, signed)
        if age is None or age < 0:
            return False
        return age >= ADULT_YEARS or self._parties.relative is not None

    def _apply(self, state: str) -> None:
        at = self._now - 5 * _DAY
        stages = 2 if state == "reviewed-once" else 1
        wish = replace(self._application(day_of(self._now), 364), review_stages=stages)
        decision = application.submit(self._around(at), wish)
        self._take(decision, at)
        verdict = {
            "supplement": "supplement",
            "approved": "approve",
            "reviewed-once": "approve",
            "rejected": "reject",
        }
        if state in verdict:
            at += _DAY
            reason = "" if verdict[state] == "approve" else "材料不清晰，请重新上传 (unreadable)"
            around = self._around(at)
            self._take(application.review(around, decision.contract, verdict[state], reason), at)

    def _in_effect(self, *, years: int) -> Resource:
        at = self._now - _SIGNED_DAYS_AGO * _DAY
        start = day_of(at)
        return self._sign(at, start, start + (365 * years - 1) * _DAY)

    def _go_on(self, state: str, contract: Resource) -> None:
        at = self._now - 20 * _DAY
        around = self._around(at)
        other = {BASIC: price_of(self._plans[BASIC])}
        match state:
            case "amending" | "amended" | "amended-unpaid":
                if state == "amended-unpaid":
                    around = self._around(at, ADVICE)
                    other[ADVICE] = price_of(self._plans[ADVICE])
                drafted = changes.amend(around, contract, other, _HASH)
                self._take(drafted, at)
                if state != "amending":
                    around = replace(around, predecessor=contract)
                    self._take(signing.sign(around, drafted.contract, self._signing(at)), at)
            case "disputed":
                self._take(changes.dispute(around, contract, "随访未按时进行 (visit late)"), at)
            case "revoked":
                self._take(ending.terminate(around, contract, "02", "迁往外地 (moved)"), at)
            case "cancelled":
                self._take(ending.terminate(around, contract, "01", "多次联系不上 (lost)"), at)
            case "void":
                self._take(changes.void(around, contract, "录入错误 (entered in error)"), at)
            case "renewed":
                _, end = str(contract["applies"]["start"]), contract["applies"]["end"]
                until = datetime.date.fromisoformat(end[:10]) + 365 * _DAY
                id_ = f"{contract['id']}-next"
                self._take(
                    signing.renew(
                        around, contract, contract_id=id_, number=id_, end=until,
                        signing=self._signing(at),
                    ),
                    at,
                )  # fmt: skip

    def _sign(self, at: datetime.datetime, start: datetime.date, end: datetime.date) -> Resource:
        wish = replace(self._application(start, 0), end=end)
        decision = signing.sign_at_once(self._around(at), wish, self._signing(at))
        self._take(decision, at)
        return decision.contract

    def _take(self, decision: Decision, at: datetime.datetime) -> None:
        """Keep what was decided, with the services that begin or end with it."""
        self._life.take(decision.effects)
        for package in decision.begun:
            plan = self._plans[package]
            for task in tasks_for(decision.contract, package, plan, self._items, now=at):
                self._serve(task)
        if decision.ended:
            tasks = [one for one in self._life.resources.values() if "groupIdentifier" in one]
            still = [one for one in tasks if one["status"] in ending.OPEN]
            self._life.take(list(ending.cancelled_tasks(decision, still)))

    def _serve(self, task: dict[str, Any]) -> None:
        """Write a service Task, done in its period by a visit where that is over."""
        begin, end = period_of_task(task)
        middle = begin + (end - begin) // 2
        when = datetime.datetime.combine(middle, datetime.time(9, 30), LOCAL)
        if when >= self._now:
            self._life.take([Put(task)])
            return
        visit = f"visit-{task['id']}"[:64]
        encounter = {
            "resourceType": "Encounter",
            "id": visit,
            "status": "finished",
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                "code": "AMB",
            },
            "subject": {"reference": self._parties.reference},
            "period": {
                "start": when.isoformat(),
                "end": (when + datetime.timedelta(minutes=20)).isoformat(),
            },
            "participant": [{"individual": {"reference": self._parties.doctor}}],
        }
        proof = Proof(performed=when, source=f"Encounter/{visit}")
        self._life.take([Put(encounter), Put(completed(task, when, proof))])

    def _application(self, start: datetime.date, days: int) -> Application:
        wanted = [BASIC, *([HYPERTENSION] if self._parties.is_hypertensive else [])]
        id_ = f"contract-{self._parties.resident['id']}"
        return Application(
            contract_id=id_,
            number=id_,
            resident=self._parties.reference,
            team=f"CareTeam/{self._parties.team['id']}",
            packages={one: price_of(self._plans[one]) for one in wanted},
            start=start,
            end=start + days * _DAY,
            agreement_hash=_HASH,
        )

    def _signing(self, at: datetime.datetime) -> Signing:
        relative = self._parties.relative
        own = self._parties.reference if relative is None else f"RelatedPerson/{relative['id']}"
        sides = {"resident": own, "doctor": self._parties.doctor}
        kind = [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}]
        signatures = {
            side: {"type": kind, "when": at.isoformat(), "who": {"reference": who}}
            for side, who in sides.items()
        }
        return Signing(
            resident=own,
            doctor=self._parties.doctor,
            signatures=signatures,
            agreement_hash=_HASH,
        )

    def _around(self, at: datetime.datetime, *more: str) -> Surroundings:
        plans = {one: self._plans[one] for one in (BASIC, HYPERTENSION, *more)}
        return Surroundings(
            now=at,
            actor=self._parties.doctor,
            resident=self._parties.resident,
            packages=plans,
            team=self._parties.team,
            qualified=frozenset({self._parties.doctor}),
            prices={one: price_of(plan) for one, plan in plans.items()},
            new_id=self._new_id,
            relative=self._parties.relative,
            populations=frozenset({"hypertension"} if self._parties.is_hypertensive else ()),
        )

    def _new_id(self) -> str:
        self._made += 1
        return str(uuid.uuid5(_NAMES, f"{self._parties.reference} {self._made}"))
