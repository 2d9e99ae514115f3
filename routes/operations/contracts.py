"""The steps of a family-doctor contract (家庭医生签约) as operations on Contract.

Each reads what it needs under lock, lets `care.contract` decide, and writes everything in the same
commit; an Idempotency-Key makes a repeat (from a device that was offline, say) harmless.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from care.agreement.text import Agreement, Terms
from care.contract import application, content, delegation, signing
from care.contract.application import Application
from care.contract.evidence import Signing
from care.contract.states import Event, State, require_lawful, state_of
from care.contract.steps import OVERLAP
from care.contract.surroundings import Surroundings
from care.effects import Decision, Resource, refuse
from conformance.cphc.operations import definition_of
from conformance.problem import (
    BusinessRule,
    EditConflict,
    NotFound,
)
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.care_relations import roles_of
from routes.hub import Hub
from routes.operations.agreements import TEMPLATE, composed
from routes.operations.contract_facts import (
    FindPayment,
    MaySign,
    key_of,
    locked_contract,
    may_sign_by_record,
    no_resident,
    require_agreement,
    settled_invoice,
    surroundings,
    unknown,
    with_authority,
)
from routes.operations.contract_parameters import Given, given_in
from routes.operations.contract_steps import (
    STEPS,
    Step,
    not_given_over,
    reassign,
    resubmit,
    terms_of,
    terms_of_wish,
)
from routes.operations.contract_writing import (
    Following,
    carry_out,
    require_may_act,
    require_may_see,
)
from routes.operations.invitations import read_invitation
from routes.operations.parameters import bad_parameter, parameters_answer
from routes.registry import Handler, Level
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import once

MOST_AT_ONCE = 500
"""Contracts that one request may reassign; they are one commit."""
_BEFORE_SECOND_REVIEW = frozenset({State.APPLIED, State.SECOND_REVIEW})
_INSTANCE: frozenset[Level] = frozenset({"instance"})
_BOTH: frozenset[Level] = frozenset({"type", "instance"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractOperations:
    """The operations and what others lend them.

    `may_sign` says which doctors may, `find_payment` what settled an invoice, `following` what
    begins and ends with a contract; `review_stages` how many reviews an application needs at least.
    """

    following: Following
    may_sign: MaySign = may_sign_by_record
    find_payment: FindPayment = settled_invoice
    review_stages: int = 1

    def promises(self) -> tuple[Promise, ...]:
        """Return the operations as the registry wants them."""
        rows: list[tuple[str, Handler, frozenset[Level]]] = [
            ("submit-application", self.submit_application, _BOTH),
            ("sign", self.sign, _BOTH),
            ("agreement", self.agreement, frozenset[Level]({"type"})),
            ("confirm-payment", self.confirm_payment, _INSTANCE),
            ("delegate", self.delegate, _INSTANCE),
            ("reassign", self.reassign, _BOTH),
            ("cancel-delegation", self.cancel_delegation, _INSTANCE),
            *((code, self.on_instance(step), _INSTANCE) for code, step in STEPS.items()),
        ]
        return tuple(
            Promise(
                code=code,
                definition=definition_of("Contract", code),
                levels=levels,
                types=frozenset({"Contract"}),
                handler=handler,
                affects_state=code != "agreement",
            )
            for code, handler, levels in rows
        )

    async def submit_application(self, hub: Hub, request: Request) -> Answer:
        """Take an application, or one again that was supplemented (at the instance)."""
        if request.address.id:
            return await self.on_instance(resubmit)(hub, request)
        given = given_in(hub, request)

        async def work(transaction: Transaction) -> Answer:
            wish = await self._application(transaction, given)
            around = await self._around_wish(hub, request, transaction, wish, None)
            wish = await self._with_agreement(transaction, given, around, wish)
            decision = application.submit(around, wish)
            return await carry_out(request, transaction, self.following, decision, around, 201)

        return await once(hub, request, work)

    async def sign(self, hub: Hub, request: Request) -> Answer:
        """Sign a reviewed contract, or apply and sign in one step (at the type)."""
        given = given_in(hub, request)
        signed = given.signing()

        async def work(transaction: Transaction) -> Answer:
            if request.address.id:
                contract, around = await self._read(hub, request, transaction, given)
                status = 200

                def decide() -> Decision:
                    return signing.sign(around, contract, signed)
            else:
                wish = await self._application(transaction, given)
                around = await self._around_wish(hub, request, transaction, wish, signed)
                wish = await self._with_agreement(transaction, given, around, wish)
                contract = application.drafted(around, wish)
                status = 201

                def decide() -> Decision:
                    return signing.sign_at_once(around, wish, signed)

            decision = decide()
            if not signed.is_offline:
                return await carry_out(
                    request, transaction, self.following, decision, around, status
                )
            try:
                async with transaction.savepoint():
                    return await carry_out(
                        request, transaction, self.following, decision, around, status
                    )
            except EditConflict as conflict:
                if OVERLAP not in conflict.issues:
                    raise
            late = signing.reject_taken(around, contract, signed)
            return await carry_out(request, transaction, self.following, late, around, status)

        return await once(hub, request, work)

    async def confirm_payment(self, hub: Hub, request: Request) -> Answer:
        """Note that the invoice of a contract was paid."""
        given = given_in(hub, request)
        invoice = given.text("invoice")

        async def work(transaction: Transaction) -> Answer:
            contract, around = await self._read(hub, request, transaction, given)
            require_lawful(contract, Event.PAY)
            payment = await self.find_payment(transaction, invoice)
            if payment is None:
                raise refuse(
                    "payment-open",
                    "The invoice is not known or not paid",
                    "账单不存在或尚未支付",
                    "Wait until Invoice.status is balanced, then confirm again.",
                    "请待账单支付完成（Invoice.status 为 balanced）后重试。",
                    "Invoice.status",
                )
            decision = signing.pay(around, contract, payment)
            return await carry_out(request, transaction, self.following, decision, around)

        return await once(hub, request, work)

    async def delegate(self, hub: Hub, request: Request) -> Answer:
        """Let another doctor or team stand in for a while."""
        given = given_in(hub, request)

        async def work(transaction: Transaction) -> Answer:
            contract, around = await self._read(hub, request, transaction, given, locks_team=True)
            require_lawful(contract, Event.DELEGATE)
            wish = given.delegation(around.now, around.actor)
            kind, _, id_ = wish.to.partition("/")
            known = await transaction.read_current([(kind, id_)]) if id_ else {}
            if kind in ("Practitioner", "CareTeam") and (kind, id_) not in known:
                raise unknown(kind, id_)
            decision = delegation.delegate(around, contract, wish)
            return await carry_out(request, transaction, self.following, decision, around)

        return await once(hub, request, work)

    async def cancel_delegation(self, hub: Hub, request: Request) -> Answer:
        """Take a delegation back before its time."""
        given = given_in(hub, request)
        key = key_of(given.text("task"), "Task", "task")

        async def work(transaction: Transaction) -> Answer:
            contract, around = await self._read(hub, request, transaction, given, locks_team=True)
            task = (await transaction.read_for_update([key])).get(key)
            if task is None or task.get("focus", {}).get("reference") != content.reference_to(
                contract
            ):
                raise unknown(*key)
            decision = delegation.cancel(around, contract, task, given.maybe("reason") or "")
            return await carry_out(request, transaction, self.following, decision, around)

        return await once(hub, request, work)

    async def reassign(self, hub: Hub, request: Request) -> Answer:
        """Give one contract to another team, or many of them (at the type), each or not at all."""
        if request.address.id:
            return await self.on_instance(reassign)(hub, request)
        given = given_in(hub, request)
        ids = sorted({key_of(one, "Contract", "contract")[1] for one in given.texts("contract")})
        if not 0 < len(ids) <= MOST_AT_ONCE:
            raise bad_parameter(
                "contract",
                f"Name 1 to {MOST_AT_ONCE} contracts as Contract/id.",
                f"请给出 1 至 {MOST_AT_ONCE} 份协议（Contract/id）。",
            )

        async def work(transaction: Transaction) -> Answer:
            refused: list[dict[str, Any]] = []
            for id_ in ids:
                address = msgspec.structs.replace(request.address, id=id_)
                single = msgspec.structs.replace(request, address=address)
                try:
                    async with transaction.savepoint():
                        contract, around = await self._read(hub, single, transaction, given)
                        decision = reassign(given, around, contract, None)
                        await carry_out(single, transaction, self.following, decision, around)
                except (BusinessRule, NotFound) as no:
                    refused.append(not_given_over(id_, no))
            done = {"name": "reassigned", "valueInteger": len(ids) - len(refused)}
            return parameters_answer([done, *refused])

        return await once(hub, request, work)

    def on_instance(self, step: Step) -> Handler:
        """Return the handler of a step that needs nothing beside the surroundings."""

        async def handle(hub: Hub, request: Request) -> Answer:
            given = given_in(hub, request)

            async def work(transaction: Transaction) -> Answer:
                contract, around = await self._read(hub, request, transaction, given)
                agreement = await self._agreement(
                    transaction, given, around, lambda: terms_of(given, contract)
                )
                decision = step(given, around, contract, agreement)
                return await carry_out(request, transaction, self.following, decision, around)

            return await once(hub, request, work)

        return handle

    async def _read(
        self,
        hub: Hub,
        request: Request,
        transaction: Transaction,
        given: Given,
        *,
        locks_team: bool = False,
    ) -> tuple[Resource, Surroundings]:
        contract, tasks = await locked_contract(transaction, request.address.id)
        missing = unknown("Contract", request.address.id)
        require_agreement(contract)
        resident = content.resident_of(contract)
        await require_may_act(hub, request, transaction, resident, missing)
        if given.named("deceased"):
            await require_may_see(hub, request, transaction, resident, missing, "u")
        packages = {*content.packages_of(contract)}
        if given.named("package"):
            packages |= given.packages().keys()
        around = await surroundings(
            request,
            transaction,
            resident=resident,
            team=given.maybe("team") or content.team_of(contract),
            packages=sorted(packages),
            contract=contract,
            tasks=tasks,
            relative=given.maybe("residentParty"),
            locks_team=locks_team,
            may_sign=self.may_sign,
            searcher=self.following.searcher,
            begins=given.maybe("contractId") or "" if request.address.operation == "renew" else "",
            evidence=given.maybe("evidence"),
        )
        if state_of(contract) in _BEFORE_SECOND_REVIEW:

            async def roles(actor: str) -> list[dict[str, Any]]:
                return await roles_of(hub.store, actor)

            around = await with_authority(around, transaction, roles)
        return contract, around

    async def _around_wish(
        self,
        hub: Hub,
        request: Request,
        transaction: Transaction,
        wish: Application,
        signed: Signing | None,
        *,
        begins: bool = True,
    ) -> Surroundings:
        missing = no_resident()
        await require_may_act(hub, request, transaction, wish.resident, missing)
        return await surroundings(
            request,
            transaction,
            resident=wish.resident,
            team=wish.team,
            packages=[*wish.packages],
            relative=signed.resident if signed else None,
            may_sign=self.may_sign,
            searcher=self.following.searcher,
            begins=wish.contract_id if begins else "",
        )

    async def agreement(self, hub: Hub, request: Request) -> Answer:
        """Return the text to be read and its digest, before anything is applied for."""
        given = given_in(hub, request)
        async with hub.store.begin() as transaction:
            wish = await self._application(transaction, given)
            around = await self._around_wish(hub, request, transaction, wish, None, begins=False)
            terms = terms_of_wish(wish)
            template = given.maybe("template") or TEMPLATE
            made = await composed(transaction, self.following, around, terms, template)
        return parameters_answer(
            [
                {"name": "text", "valueString": made.text},
                {"name": "agreementHash", "valueString": made.digest},
                {"name": "template", "valueReference": {"reference": made.template}},
            ]
        )

    async def _with_agreement(
        self, transaction: Transaction, given: Given, around: Surroundings, wish: Application
    ) -> Application:
        made = await self._agreement(transaction, given, around, lambda: terms_of_wish(wish))
        return dataclasses.replace(wish, agreement=made)

    async def _agreement(
        self,
        transaction: Transaction,
        given: Given,
        around: Surroundings,
        terms: Callable[[], Terms],
    ) -> Agreement | None:
        """Return the agreement that the template given makes; None where none is given."""
        template = given.maybe("template")
        if template is None:
            return None
        return await composed(transaction, self.following, around, terms(), template)

    async def _application(self, transaction: Transaction, given: Given) -> Application:
        contract_id = given.maybe("contractId") or str(uuid.uuid4())
        token = given.maybe("invitation")
        invitation = await read_invitation(transaction, token) if token else None
        read_at = given.instant("readAt")
        return Application(
            contract_id=contract_id,
            number=given.maybe("number") or contract_id,
            resident=given.text("resident"),
            team=invitation.team if invitation else given.text("team"),
            packages=given.packages(),
            start=given.day("start"),
            end=given.day("end"),
            agreement_hash=given.maybe("agreementHash") or "",
            mode="qr" if invitation else given.maybe("mode") or "consulting-room",
            pay_first=given.flag("payFirst"),
            edits=given.edits(),
            reader=given.maybe("reader") or "",
            read_at=read_at and min(read_at, datetime.datetime.now(datetime.UTC)),
            review_stages=self.review_stages,
            override=given.maybe("suitabilityOverride") or "",
        )
