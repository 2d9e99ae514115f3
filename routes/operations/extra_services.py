"""`Contract/[id]/$charge-service`: a service beyond what the package promises, with its price."""

import datetime
from dataclasses import dataclass

from care.contract import content
from care.effects import Resource, refuse
from care.fulfilment import matching
from care.fulfilment.beyond_quota import Extra, charge
from care.package.content import canonical_of
from care.periods import LOCAL
from conformance import resource_json
from conformance.cphc.operations import definition_of
from fhir_store.search.query import parse_query
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.contract_facts import key_of, require_agreement, unknown
from routes.operations.contract_parameters import given_in
from routes.operations.contract_writing import Following, operations_of, require_may_act
from routes.operations.parameters import bad_parameter
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import context_of, once

_MOST = "1000"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraServices:
    """The operation; `following` reads the items of a package."""

    following: Following

    def promises(self) -> tuple[Promise, ...]:
        """Return the operation as the registry wants it."""
        return (
            Promise(
                code="charge-service",
                definition=definition_of("Contract", "charge-service"),
                levels=frozenset({"instance"}),
                types=frozenset({"Contract"}),
                handler=self.charge_service,
                affects_state=True,
            ),
        )

    async def charge_service(self, hub: Hub, request: Request) -> Answer:
        """Charge a service; `item` (its definition's url or url|version), `source`, `performed`."""
        given = given_in(hub, request)
        name, source = given.text("item"), given.text("source")
        now = datetime.datetime.now(LOCAL)
        performed = given.instant("performed") or now
        actor = request.caller.fhir_user or request.caller.subject

        async def work(transaction: Transaction) -> Answer:
            key = ("Contract", request.address.id)
            contract = (await transaction.read_for_update([key])).get(key)
            if contract is None:
                raise unknown(*key)
            require_agreement(contract)
            resident = content.resident_of(contract)
            await require_may_act(hub, request, transaction, resident, unknown(*key))
            _require_staff(actor)
            found = await transaction.read_current([key_of(resident, "Patient", "resident")])
            await _require_source(transaction, source, resident)
            item = await self._item(transaction, contract, name)
            effects = charge(
                contract,
                next(iter(found.values()), {}),
                await _services(hub, transaction, contract),
                Extra(item=item, source=source, performed=performed),
                actor=actor,
                now=now,
            )
            operations = operations_of(effects)
            written = await transaction.apply(operations, context=context_of(request))
            body = next(one.version.body for one in written if one.version.type == "ChargeItem")
            return Answer(status=201, body=body, kind="resource")

        return await once(hub, request, work)

    async def _item(self, transaction: Transaction, contract: Resource, name: str) -> Resource:
        """Return the item of this name that a package of the contract promises."""
        keys = [key_of(one, "PlanDefinition", "item") for one in content.packages_of(contract)]
        plans = await transaction.read_current(keys)
        for plan in plans.values():
            for item in await self.following.items_of(transaction, plan):
                if name in (canonical_of(item), item.get("url")):
                    return item
        raise bad_parameter(
            "item", "Name an item of the contract's packages.", "请指定协议服务包中的服务项目。"
        )


def _require_staff(actor: str) -> None:
    if actor.startswith(("Patient/", "RelatedPerson/")):
        raise refuse(
            "staff-only",
            "$charge-service is for the team",
            "$charge-service 须由签约团队办理",
            "Ask the team to do it.",
            "请联系签约团队办理。",
        )


async def _require_source(transaction: Transaction, source: str, resident: str) -> None:
    kind, _, id_ = source.partition("/")
    known = await transaction.read_current([(kind, id_)]) if kind in matching.SOURCES else {}
    record = known.get((kind, id_), {})
    if record.get("subject", {}).get("reference") != resident:
        raise bad_parameter(
            "source", "Name a record of this very resident.", "请指定该居民本人的服务记录。"
        )


async def _services(hub: Hub, transaction: Transaction, contract: Resource) -> list[Resource]:
    own = content.reference_to(contract)
    query = parse_query("Task", [("based-on", own), ("_count", _MOST)])
    page = await hub.store.searcher.search(transaction.connection, query)
    tasks = [resource_json.parse(version.body) for version in page.matches]
    return [one for one in tasks if "instantiatesCanonical" in one]
