"""What a caller may see and do: one function, asked by every path.

From SMART scopes (version 1 and 2) to an `Authorization`, which the store compiles into the SQL
of reads, searches, chains, includes, histories and operations, before their LIMIT.
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import time
from dataclasses import dataclass

from conformance.problem import Issue, NotAllowed, Problem
from conformance.r4.tables import load
from fhir_store.authorization import EVERYTHING, Authorization, Compartment, Criterion
from fhir_store.permits import conditions_of
from fhir_store.store import Store
from routes.bearer import Caller
from routes.care_relations import organizations_of, patients_of, related_patients
from routes.scopes import Scope

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
# How long a change of role or team may stay unnoticed.
_SECONDS = 3.0
_REMEMBERED = 2_000

Criteria = tuple[Criterion, ...]


class Authorizer:
    """Turns callers into rights; remembers them for a moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[Caller, str], tuple[float, Authorization]] = {}

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
            known = (time.monotonic() + _SECONDS, await self._rights(caller, letter))
            self._known[key] = known
        rights = known[1]
        is_covered = rights.criteria_of(type_) != () if type_ else _is_any(rights)
        if not is_covered:
            raise not_allowed()
        return rights

    async def _rights(self, caller: Caller, letter: str) -> Authorization:
        scopes = [scope for scope in caller.scopes if letter in scope.letters]
        person = await self._person(caller, scopes)
        by_type: dict[str, Criteria | None] = {}
        for type_ in load().resource_types:
            by_type[type_] = _criteria(type_, letter, scopes, person)
        return Authorization(by_type=by_type, default=())

    async def _person(self, caller: Caller, scopes: list[Scope]) -> "_Person":
        """Return whose data the caller may see at the patient and user levels."""
        patient = user = None
        own: str | None = None
        if caller.patient is not None:
            patient = Compartment(kind="Patient", ids=(caller.patient,))
        kind, _, id_ = (caller.fhir_user or "").partition("/")
        if any(scope.level == "user" for scope in scopes) and id_:
            if kind == "Patient":
                user = Compartment(kind="Patient", ids=(id_,))
            elif kind == "RelatedPerson":
                user = Compartment(kind="Patient", owners=related_patients(f"{kind}/{id_}"))
            elif kind == "Practitioner":
                organizations = await organizations_of(self._store, f"{kind}/{id_}")
                owners = patients_of(f"{kind}/{id_}", organizations)
                user, own = Compartment(kind="Patient", owners=owners), id_
        return _Person(patient=patient, user=user, own=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """The compartments behind a caller: of the launch, of the user, and the user's own."""

    patient: Compartment | None = None
    user: Compartment | None = None
    own: str | None = None


def _criteria(type_: str, letter: str, scopes: list[Scope], person: _Person) -> Criteria | None:
    """Return the ways in which the scopes allow resources of a type; None is all of them."""
    found: list[Criterion] = []
    for scope in scopes:
        if not scope.covers(type_, letter):
            continue
        compartments = _compartments(type_, letter, scope, person)
        if compartments == ():
            continue
        try:
            conditions = conditions_of(type_, scope.parameters)
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
    whose = person.patient if scope.level == "patient" else person.user
    if whose is None:
        return ()
    if type_ == "Patient" or type_ in load().compartments["Patient"]:
        return (whose,)
    is_own = scope.level == "user" and type_ in load().compartments["Practitioner"]
    if is_own and person.own is not None:
        return (Compartment(kind="Practitioner", ids=(person.own,)),)
    return ()


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
