"""Contracts whose term is over are renewed where the resident's recorded consent says so."""

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.contract import content
from care.contract.renewal import (
    AUTO_RENEWAL,
    CONSENT_CATEGORY,
    consent_to_renew,
    not_renewed,
    renew_by_consent,
)
from care.contract.states import State, state_of
from care.contract.surroundings import Surroundings, members_at
from care.effects import Decision, Effect
from care.package.content import populations_of, price_of
from conformance import resource_json
from conformance.problem import BusinessRule
from fhir_store.search.query import parse_query
from fhir_store.search.searcher import Searcher
from fhir_store.transaction import Transaction
from fhir_store.versions import Key, reference_key
from routes.operations.contract_facts import MaySign, populations_in
from routes.operations.contract_writing import Following

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRenewals:
    """Decides what follows contracts that end; `actor` is who does it."""

    following: Following
    may_sign: MaySign
    actor: str

    async def effects(
        self, transaction: Transaction, ended: Iterable[Resource], now: datetime.datetime
    ) -> list[tuple[str, Sequence[Effect]]]:
        """Return for each contract with a consent what renews it, or tells why it is not renewed.

        `ended` are contracts as they were in effect.
        """
        wanted = [one for one in ended if state_of(one) is State.EFFECTIVE]
        consents = await self._consents(transaction, map(content.resident_of, wanted))
        wanted = [one for one in wanted if consents.get(content.resident_of(one))]
        if not wanted:
            return []
        known = await transaction.read_current(list(_around(wanted)))
        decided: list[tuple[Decision, Mapping[str, Resource]]] = []
        told: list[tuple[str, Sequence[Effect]]] = []
        for contract in wanted:
            consent = consent_to_renew(contract, consents[content.resident_of(contract)], now)
            if consent is None:
                continue
            around = await self._surroundings(transaction, contract, known, now)
            try:
                decision = renew_by_consent(around, contract, consent)
            except BusinessRule as no:
                why = f"{no.issues[0].text_zh} ({no.issues[0].text_en})"
                task = not_renewed(around, contract, why)
                told.append((content.reference_to(contract), [task]))
            else:
                decided.append((decision, around.packages))
        made = await self.following.effects(transaction, decided, now)
        names = [content.reference_to(decision.contract) for decision, _ in decided]
        return [*told, *zip(names, made, strict=True)]

    async def _consents(
        self, transaction: Transaction, residents: Iterable[str]
    ) -> dict[str, list[Resource]]:
        named = ",".join(dict.fromkeys(residents))
        if not named:
            return {}
        category = f"{CONSENT_CATEGORY}|{AUTO_RENEWAL}"
        pairs = [("patient", named), ("category", category), ("status", "active")]
        found: dict[str, list[Resource]] = {}
        for one in await _found(self.following.searcher, transaction, "Consent", pairs):
            found.setdefault(str(one.get("patient", {}).get("reference")), []).append(one)
        return found

    async def _surroundings(
        self,
        transaction: Transaction,
        contract: Resource,
        known: Mapping[Key, Resource],
        now: datetime.datetime,
    ) -> Surroundings:
        resident = known.get(reference_key(content.resident_of(contract)), {})
        team = known.get(reference_key(content.team_of(contract)), {})
        packages = {one: reference_key(one) for one in content.packages_of(contract)}
        plans = {one: known[key] for one, key in packages.items() if key in known}
        doctors = [one for one in members_at(team, now) if one.startswith("Practitioner/")]
        populations = frozenset[str]()
        if any(map(populations_of, plans.values())):
            populations = await populations_in(self.following.searcher, transaction, resident, now)
        return Surroundings(
            now=now,
            actor=self.actor,
            resident=resident,
            packages=plans,
            team=team,
            qualified=await self.may_sign(transaction, doctors, now) if doctors else frozenset(),
            prices={reference: price_of(plan) for reference, plan in plans.items()},
            new_id=lambda: str(uuid.uuid4()),
            populations=populations,
        )


def _around(contracts: Iterable[Resource]) -> Iterable[Key]:
    references = dict.fromkeys(
        reference
        for one in contracts
        for reference in (
            content.resident_of(one),
            content.team_of(one),
            *content.packages_of(one),
        )
    )
    return map(reference_key, references)


async def _found(
    searcher: Searcher, transaction: Transaction, type_: str, pairs: list[tuple[str, str]]
) -> list[Resource]:
    query = parse_query(type_, [*pairs, ("_count", "1000")])
    page = await searcher.search(transaction.connection, query)
    return [resource_json.parse(version.body) for version in page.matches]
