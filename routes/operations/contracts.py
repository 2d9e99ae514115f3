"""The steps of a family-doctor contract (家庭医生签约) as operations on Contract.

Each reads what it needs under lock, lets `care.contract` decide, and writes everything in the same
commit; an Idempotency-Key makes a repeat (from a device that was offline, say) harmless.
"""

import datetime
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from care.contract import content, lifecycle
from care.contract.lifecycle import Application, Signing
from care.contract.states import Event, require_lawful
from care.contract.surroundings import Surroundings
from care.effects import Decision, Effect, Hold, Put
from conformance import resource_json
from conformance.cphc import BASE
from conformance.problem import Issue, NotFound
from conformance.structure import require_valid
from fhir_store.operations import Claim, Operation, Release, Update
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.guard import guarded
from routes.hub import Hub
from routes.operations.parameters import Part, bad_parameter, parameters_in, parts_of, value_of
from routes.registry import Handler, Level
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of, once

PRICE = f"{BASE}/StructureDefinition/cphc-package-price"
Resource = Mapping[str, Any]
Step = Callable[["Given", Surroundings, Resource], Decision]


@dataclass(frozen=True, slots=True)
class Given:
    """The parameters of a step by name."""

    parts: list[Part]

    def text(self, name: str) -> str:
        """Return a text, code, date or reference that must be there."""
        found = self.maybe(name)
        if found is None:
            raise bad_parameter(name, f"Give {name}.", f"请给出 {name}。")
        return found

    def maybe(self, name: str) -> str | None:
        """Return a text, code, date or reference, or None."""
        for part in self.parts:
            if part["name"] == name:
                value = value_of(part)
                if isinstance(value, Mapping):
                    value = value.get("reference")
                if not isinstance(value, str) or not value:
                    raise bad_parameter(name, "Send it as text.", "请以文本发送。")
                return value
        return None

    def day(self, name: str) -> datetime.date:
        """Return a calendar day."""
        try:
            return datetime.date.fromisoformat(self.text(name))
        except ValueError:
            raise bad_parameter(name, "Write YYYY-MM-DD.", "请写成 YYYY-MM-DD。") from None

    def packages(self) -> dict[str, Decimal]:
        """Return the packages with the price of each; parts `definition` and `price`."""
        found = {}
        for part in self.parts:
            if part["name"] == "package":
                inner = Given(parts_of(part.get("part")))
                price = next((value_of(p) for p in inner.parts if p["name"] == "price"), 0)
                amount = price.get("value", 0) if isinstance(price, Mapping) else price
                found[inner.text("definition")] = Decimal(str(amount))
        if not found:
            raise bad_parameter("package", "Give at least one package.", "请至少选择一个服务包。")
        return found

    def signing(self) -> Signing:
        """Return both signatures."""
        signatures = {}
        for side in ("resident", "doctor"):
            name = f"{side}Signature"
            part = next((p for p in self.parts if p["name"] == name), {})
            signature = part.get("valueSignature")
            if not isinstance(signature, Mapping):
                raise bad_parameter(
                    name, "Send it as valueSignature.", "请以 valueSignature 发送。"
                )
            signatures[side] = signature
        return Signing(
            resident=self.text("residentParty"),
            doctor=self.text("doctorParty"),
            signatures=signatures,
            agreement_hash=self.text("agreementHash"),
            evidence=tuple(signatures.values()),
        )


def contract_operations() -> tuple[Promise, ...]:
    """Return the operations as the registry wants them."""
    rows: tuple[tuple[str, Handler, frozenset[Level]], ...] = (
        ("submit-application", submit_application, frozenset({"type", "instance"})),
        *(
            (code, _on_instance(step), frozenset[Level]({"instance"}))
            for code, step in _STEPS.items()
        ),
    )
    return tuple(
        Promise(
            code=code,
            definition=f"{BASE}/OperationDefinition/Contract-{code}",
            levels=levels,
            types=frozenset({"Contract"}),
            handler=handler,
            affects_state=True,
        )
        for code, handler, levels in rows
    )


async def submit_application(hub: Hub, request: Request) -> Answer:
    """Take an application, or one again that was supplemented (at the instance)."""
    if request.address.id:
        return await _on_instance(
            lambda given, around, contract: lifecycle.resubmit(
                around, contract, given.text("agreementHash")
            )
        )(hub, request)
    given = Given(parameters_in(hub, request))
    contract_id = given.maybe("contractId") or str(uuid.uuid4())
    application = Application(
        contract_id=contract_id,
        number=given.maybe("number") or contract_id,
        resident=given.text("resident"),
        team=given.text("team"),
        packages=given.packages(),
        start=given.day("start"),
        end=given.day("end"),
        agreement_hash=given.text("agreementHash"),
        mode=given.maybe("mode") or "consulting-room",
        pay_first=any(p["name"] == "payFirst" and value_of(p) is True for p in given.parts),
    )

    async def work(transaction: Transaction) -> Answer:
        around = await _surroundings(
            request, transaction, application.resident, application.team, [*application.packages]
        )
        return await _carry_out(
            hub, request, transaction, lifecycle.submit(around, application), 201
        )

    return await once(hub, request, work)


def _on_instance(step: Step) -> Handler:
    async def handle(hub: Hub, request: Request) -> Answer:
        given = Given(parameters_in(hub, request))

        async def work(transaction: Transaction) -> Answer:
            contract = await _locked(transaction, request.address.id)
            packages = {*content.packages_of(contract)}
            if any(part["name"] == "package" for part in given.parts):
                packages |= given.packages().keys()
            team = given.maybe("team") or content.team_of(contract)
            resident = content.resident_of(contract)
            around = await _surroundings(request, transaction, resident, team, sorted(packages))
            return await _carry_out(hub, request, transaction, step(given, around, contract), 200)

        return await once(hub, request, work)

    return handle


async def _locked(transaction: Transaction, id_: str) -> Resource:
    found = await transaction.read_for_update([("Contract", id_)])
    if ("Contract", id_) not in found:
        raise NotFound(
            Issue(
                code="not-found",
                key="not-found",
                text_en=f"Contract/{id_} is not known",
                text_zh=f"Contract/{id_} 不存在",
                fix_en="Check the id, or search for the contract by its resident.",
                fix_zh="请核对标识，或按居民检索协议。",
                expression="Contract.id",
            )
        )
    return found[("Contract", id_)]


async def _surroundings(
    request: Request, transaction: Transaction, resident: str, team: str, packages: list[str]
) -> Surroundings:
    """Read the facts of a decision; the resident is kept from other writers until the end."""
    key = _key_of(resident, "Patient", "resident")
    residents = await transaction.read_for_update([key])
    if key not in residents:
        raise bad_parameter("resident", "Name a Patient that exists.", "请指定已建档的居民。")
    others = [_key_of(team, "CareTeam", "team")]
    others += [_key_of(package, "PlanDefinition", "package") for package in packages]
    known = await transaction.read_current(others)
    found_team = known.get(others[0], {})
    now = datetime.datetime.now(datetime.UTC)
    doctors = [
        ("Practitioner", reference.partition("/")[2])
        for participant in found_team.get("participant", ())
        if (reference := participant.get("member", {}).get("reference", "")).startswith(
            "Practitioner/"
        )
    ]
    practitioners = await transaction.read_current(doctors) if doctors else {}
    plans = {"/".join(k): plan for k, plan in known.items() if k[0] == "PlanDefinition"}
    return Surroundings(
        now=now,
        actor=request.caller.fhir_user or request.caller.subject,
        resident=residents[key],
        packages=plans,
        team=found_team,
        qualified=frozenset("/".join(k) for k, p in practitioners.items() if _may_sign(p)),
        prices={reference: _price_of(plan) for reference, plan in plans.items()},
        ids=[str(uuid.uuid4()) for _ in range(3)],
    )


def _key_of(reference: str, type_: str, name: str) -> tuple[str, str]:
    kind, _, id_ = reference.partition("/")
    if kind != type_ or not id_ or "/" in id_:
        raise bad_parameter(name, f"Write {type_}/id.", f"请写成 {type_}/id。")
    return kind, id_


def _may_sign(practitioner: Resource) -> bool:
    """Say whether a doctor is active and has a qualification that was reviewed."""
    return practitioner.get("active") is not False and bool(practitioner.get("qualification"))


def _price_of(plan: Resource) -> Decimal:
    for extension in plan.get("extension", ()):
        if extension.get("url") == PRICE:
            return Decimal(str(extension["valueMoney"]["value"]))
    return Decimal(0)


async def _carry_out(
    hub: Hub, request: Request, transaction: Transaction, decision: Decision, status: int
) -> Answer:
    operations = [_operation(effect) for effect in decision.effects]
    for operation in operations:
        if isinstance(operation, Update):
            require_valid(operation.resource)

    async def apply() -> Any:
        return await transaction.apply(operations, context=context_of(request))

    written = await guarded(hub, request, transaction, operations, apply)
    own = content.reference_to(decision.contract)
    version = next(one.version for one in written if f"{one.version.type}/{one.version.id}" == own)
    headers = ((b"location", f"{request.base}/{own}/_history/{version.version}".encode()),)
    return Answer(status=status, body=version.body, kind="resource", headers=headers)


def _operation(effect: Effect) -> Operation:
    if isinstance(effect, Put):
        resource = resource_json.parse(resource_json.dump(effect.resource))
        return Update(resource=resource)
    if isinstance(effect, Hold):
        return Claim(
            kind=effect.kind,
            key=effect.key,
            holder=effect.holder,
            period=(effect.start, effect.end),
        )
    return Release(kind=effect.kind, holder=effect.holder)


def _renew(given: Given, around: Surroundings, contract: Resource) -> Decision:
    contract_id = given.maybe("contractId") or str(uuid.uuid4())
    return lifecycle.renew(
        around,
        contract,
        contract_id=contract_id,
        number=given.maybe("number") or contract_id,
        end=given.day("end"),
        signing=given.signing(),
    )


def _terminate(given: Given, around: Surroundings, contract: Resource) -> Decision:
    require_lawful(contract, Event.TERMINATE)
    return lifecycle.terminate(around, contract, given.text("reason"))


_STEPS: Mapping[str, Step] = {
    "review": lambda given, around, contract: lifecycle.review(
        around, contract, given.text("verdict"), given.maybe("reason") or ""
    ),
    "sign": lambda given, around, contract: lifecycle.sign(around, contract, given.signing()),
    "amend": lambda given, around, contract: lifecycle.amend(
        around, contract, given.packages(), given.text("agreementHash")
    ),
    "reassign": lambda given, around, contract: lifecycle.reassign(
        around, contract, given.text("team")
    ),
    "renew": _renew,
    "terminate": _terminate,
    "dispute": lambda given, around, contract: lifecycle.dispute(
        around, contract, given.text("complaint")
    ),
    "resolve": lambda given, around, contract: lifecycle.resolve(
        around, contract, given.text("outcome")
    ),
    "void": lambda given, around, contract: lifecycle.void(around, contract, given.text("reason")),
}
