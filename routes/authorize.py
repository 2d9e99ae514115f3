"""What a caller may see and do: one function, asked by every path.

From SMART scopes (version 1 and 2) to an `Authorization`, which the store compiles into the SQL
of reads, searches, chains, includes, histories and operations, before their LIMIT.
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from conformance.problem import Issue, NotAllowed, Problem
from conformance.r4.tables import load
from fhir_store.authorization import (
    EVERYTHING,
    MORE_MEMBERS,
    Authorization,
    Compartment,
    Criterion,
)
from fhir_store.permits import conditions_of
from fhir_store.rights_changes import grounds_of, rights_seen
from fhir_store.search.query import AllOf, IdTest, NotOf
from fhir_store.store import Store
from routes.bearer import Caller
from routes.care_relations import (
    allied_to,
    employers_of,
    organizations_of,
    patient_named,
    patients_of,
    patients_passing,
    roles_of,
)
from routes.consents import (
    is_proven,
    patients_refusing,
    patients_with,
    proxies_for,
    refusals,
    wards_of,
)
from routes.scopes import Scope
from routes.subscription_rights import SUBSCRIPTION, own_subscriptions
from routes.team_relations import patients_of_teams, teams_of

# Nobody's health is in them: whoever has a scope for the type may see them all.
OPEN_TYPES = frozenset(
    {
        *("ActivityDefinition", "CapabilityStatement", "CodeSystem", "CompartmentDefinition"),
        *("ConceptMap", "Endpoint", "EventDefinition", "GraphDefinition", "HealthcareService"),
        *("ImplementationGuide", "Library", "Location", "Measure", "Medication"),
        *("MedicationKnowledge", "MessageDefinition", "NamingSystem", "ObservationDefinition"),
        *("OperationDefinition", "Organization", "OrganizationAffiliation", "PlanDefinition"),
        *("Practitioner", "PractitionerRole", "Questionnaire", "Schedule", "SearchParameter"),
        *("Slot", "SpecimenDefinition", "StructureDefinition", "StructureMap", "Substance"),
        *("TerminologyCapabilities", "ValueSet"),
    }
)
# How long rights are remembered while nothing is written that they hang on: roles and consents
# also end by the clock.
_SECONDS = 3.0
# Whose rights hang on resources that others write.
_RELATED = frozenset({"Practitioner", "RelatedPerson"})
_REMEMBERED = 2_000

Criteria = tuple[Criterion, ...]


class Authorizer:
    """Turns callers into rights; remembers them for a moment."""

    def __init__(self, store: Store, *, are_relatives_proven: bool = False) -> None:
        """Judge by a store; with `are_relatives_proven` relatives act once their identity is."""
        self._are_relatives_proven = are_relatives_proven
        self._store = store
        self._known: dict[tuple[Caller, str], tuple[float, Authorization]] = {}
        store.when_rights_move(self._forget)

    async def authorize(self, caller: Caller, letter: str, type_: str = "") -> Authorization:
        """Return which resources the caller may c(reate), r(ead), u(pdate), d(elete) or s(earch).

        Raises NotAllowed (403) where no scope covers the type at all, or, without a type, no
        scope covers the letter. Which resources exist stays untold: they are just not there.
        """
        if caller.is_unrestricted:
            return EVERYTHING
        key = (caller, letter)
        known = self._known.get(key)
        if known is None or known[0] < time.monotonic():
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            rights, until = await self._rights(caller, letter)
            seconds = _SECONDS
            if until is not None:
                seconds = min(seconds, (until - datetime.now(UTC)).total_seconds())
            known = (time.monotonic() + seconds, rights)
            self._known[key] = known
        rights = known[1]
        is_covered = rights.criteria_of(type_) != () if type_ else _is_any(rights)
        if not is_covered:
            raise not_allowed()
        return rights

    def _forget(self, whose: Hashable) -> None:
        """Forget the rights of one caller, or of all where none is named."""
        for key in [key for key in self._known if whose is None or key[0] == whose]:
            del self._known[key]

    async def _rights(self, caller: Caller, letter: str) -> tuple[Authorization, datetime | None]:
        """Return the rights, and the instant at which a delegation changes them by itself."""
        scopes = [scope for scope in caller.scopes if letter in scope.letters]
        is_related = (caller.fhir_user or "").partition("/")[0] in _RELATED
        seen = await rights_seen(self._store.pool) if is_related else ()
        person = await self._person(caller, scopes)
        if caller.emergency is not None and person.emergency is None:
            raise not_allowed()
        by_type: dict[str, Criteria | None] = {}
        for type_ in load().resource_types:
            criteria = _criteria(type_, letter, scopes, person)
            if person.denied is not None and criteria != ():
                criteria = _without_denied(type_, criteria, person.denied)
            by_type[type_] = criteria
        grounds = None
        if is_related:
            grounds = await grounds_of(self._store.pool, person.grounds, seen)
        return Authorization(by_type=by_type, default=(), hangs_on=grounds), person.until

    async def _person(self, caller: Caller, scopes: list[Scope]) -> "_Person":
        """Return whose data the caller may see at the patient and user levels."""
        patient = user = None
        if caller.patient is not None:
            patient = Compartment(kind="Patient", ids=(caller.patient,))
        kind, _, id_ = (caller.fhir_user or "").partition("/")
        is_user = any(scope.level == "user" for scope in scopes) and bool(id_)
        if kind == "RelatedPerson" and id_:
            return await self._relative(caller, f"{kind}/{id_}", scopes)
        if kind == "Practitioner" and id_:
            return await self._clinician(caller, f"{kind}/{id_}", patient, is_user=is_user)
        if kind == "Patient" and is_user:
            user = Compartment(kind="Patient", ids=(id_,))
        return _Person(patient=patient, user=user)

    async def _relative(self, caller: Caller, reference: str, scopes: list[Scope]) -> "_Person":
        wards: dict[str, tuple[str, ...]] = {}
        letters = {letter for scope in scopes for letter in scope.letters}
        may_act = not self._are_relatives_proven or await is_proven(self._store, reference)
        for proxy in proxies_for(letters) if may_act else ():
            wards[proxy] = await patients_passing(self._store, wards_of(reference, proxy))
        return _Person(
            grounds=(reference,),
            relative=reference,
            wards=wards,
            launched=caller.patient,
            denied=await self._denied(reference, [reference]),
        )

    async def _clinician(
        self, caller: Caller, reference: str, patient: Compartment | None, *, is_user: bool
    ) -> "_Person":
        roles = await roles_of(self._store, reference)
        actors = [
            reference,
            *(f"PractitionerRole/{role['id']}" for role in roles),
            *(f"Organization/{id_}" for id_ in await employers_of(self._store, roles)),
        ]
        emergency: tuple[str, ...] | None = None
        if caller.emergency is not None and roles and is_user:
            named = patient_named(caller.emergency.patient)
            emergency = await patients_passing(self._store, named)
        denied = await self._denied(reference, actors, besides=emergency or ())
        if not is_user:
            return _Person(grounds=tuple(actors), patient=patient, denied=denied)
        teams = await teams_of(self._store, reference, datetime.now(UTC))
        served = patients_of_teams(self._store, reference, teams)
        organizations = await organizations_of(self._store, roles)
        allied = await allied_to(self._store, organizations)
        owners = patients_of([*organizations, *allied], served)
        grounds = (
            *actors,
            *(f"Organization/{id_}" for id_ in (*organizations, *allied)),
            *(f"CareTeam/{id_}" for id_ in (*teams.current, *teams.lapsed)),
        )
        return _Person(
            grounds=grounds,
            patient=patient,
            user=Compartment(kind="Patient", owners=owners),
            own=reference.partition("/")[2],
            emergency=emergency,
            denied=denied,
            until=teams.until,
        )

    async def _denied(
        self, person: str, actors: list[str], besides: tuple[str, ...] = ()
    ) -> Compartment | None:
        """Return the records of patients who refuse the person; None where nobody does."""
        consents = refusals(actors, person)
        ids = await patients_refusing(self._store, consents)
        if ids is None:
            refused = AllOf((patients_with(consents), NotOf(IdTest(besides))))
            return Compartment(kind="Patient", owners=refused)
        left = tuple(id_ for id_ in ids if id_ not in besides)
        return Compartment(kind="Patient", ids=left) if left else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """The compartments behind a caller: of the launch, of the user, and the user's own.

    `grounds` are the resources whose commits may change them (`rights_touched` in SQL names them);
    `relative` acts for the `wards` of each proxy scope, only the `launched` one if there is one;
    `emergency` are the ids of the one patient for whom the glass is broken; `denied` holds the
    records of patients who refuse the person; `until` is when teams change them by themselves.
    """

    grounds: tuple[str, ...] = ()
    patient: Compartment | None = None
    user: Compartment | None = None
    own: str | None = None
    relative: str | None = None
    wards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    launched: str | None = None
    emergency: tuple[str, ...] | None = None
    denied: Compartment | None = None
    until: datetime | None = None


def _criteria(type_: str, letter: str, scopes: list[Scope], person: _Person) -> Criteria | None:
    """Return the ways in which the scopes allow resources of a type; None is all of them."""
    found: list[Criterion] = []
    for scope in scopes:
        if not scope.covers(type_, letter):
            continue
        compartments = _compartments(type_, letter, scope, person)
        narrowed = scope.parameters
        if type_ == SUBSCRIPTION and scope.level == "user" and person.own is not None:
            compartments, narrowed = None, (*narrowed, own_subscriptions(person.own))
        if compartments == ():
            continue
        try:
            conditions = conditions_of(type_, narrowed)
        except Problem:  # a narrowing that the type does not know leaves nothing of it
            continue
        if compartments is None and not conditions:
            return None
        found += [
            Criterion(compartment=compartment, conditions=conditions)
            for compartment in compartments or (None,)
        ]
    return tuple(found)


def _compartments(
    type_: str, letter: str, scope: Scope, person: _Person
) -> tuple[Compartment, ...] | None:
    """Return where resources of the type must be for the scope; None is anywhere, () nowhere."""
    if scope.level == "system":
        return None
    if type_ in OPEN_TYPES and letter in "rs":
        return None
    is_of_patients = _is_of_patients(type_)
    if person.relative is not None:
        return _of_wards(type_, letter, scope, person) if is_of_patients else ()
    if type_ in MORE_MEMBERS["Patient"] and letter not in "rs" and person.own is None:
        return ()  # residents change contracts and tasks through operations alone
    whose = person.patient if scope.level == "patient" else person.user
    if whose is None:
        return ()
    if is_of_patients:
        if person.emergency and scope.level == "user" and letter in "rs":
            return (whose, Compartment(kind="Patient", ids=person.emergency))
        return (whose,)
    is_own = scope.level == "user" and type_ in load().compartments["Practitioner"]
    if is_own and person.own is not None:
        return (Compartment(kind="Practitioner", ids=(person.own,)),)
    return ()


def _is_of_patients(type_: str) -> bool:
    """Say whether resources of the type belong to patients' records."""
    return (
        type_ == "Patient"
        or type_ in load().compartments["Patient"]
        or type_ in MORE_MEMBERS["Patient"]
    )


def _of_wards(type_: str, letter: str, scope: Scope, person: _Person) -> tuple[Compartment, ...]:
    """Return the records of those whom a relative may act for, and the relative's own entry."""
    proxies = proxies_for({letter}, type_)
    ids = {one for proxy in proxies for one in person.wards.get(proxy, ())}
    if scope.level == "patient":
        ids &= {person.launched or ""}
    found: list[Compartment] = []
    if proxies:  # nobody's record, where no consent says otherwise: not there, like any other
        found.append(Compartment(kind="Patient", ids=tuple(sorted(ids))))
    if type_ == "RelatedPerson" and letter in "rs" and scope.level == "user":
        own = (person.relative or "").partition("/")[2]
        found.append(Compartment(kind="RelatedPerson", ids=(own,)))
    return tuple(found)


def _without_denied(type_: str, criteria: Criteria | None, denied: Compartment) -> Criteria | None:
    """Return the ways without the records of patients who refuse the caller."""
    ways = (Criterion(),) if criteria is None else criteria
    if _is_of_patients(type_):
        return tuple(replace(one, excluded=denied) for one in ways)
    return criteria


def _is_any(rights: Authorization) -> bool:
    return rights.default != () or any(criteria != () for criteria in rights.by_type.values())


def not_allowed() -> NotAllowed:
    """Return the refusal (403) of what no right of the caller covers."""
    return NotAllowed(
        Issue(
            code="forbidden",
            key="not-allowed",
            text_en="Your rights do not cover this.",
            text_zh="您的权限不包括此操作。",
            fix_en="Ask for a token with a scope for this type and interaction, and for this data.",
            fix_zh="请申请覆盖该类型、该操作及该数据的访问令牌。",
        )
    )
