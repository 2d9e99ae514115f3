"""Consents as conditions: who refuses whom, and who may act for whom, judged in the SQL of rights.

A rule counts while its Consent is active and the period of its outer provision lasts. Rules of the
outer provision and of those directly inside it are read. http://hl7.org/fhir/R4/consent.html
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from care.identity.verification import PROVEN, level_of
from conformance import resource_json
from conformance.cphc import BASE
from conformance.problem import Gone, NotFound
from fhir_store.permits import conditions_of
from fhir_store.search.query import (
    AllOf,
    AnyOf,
    Condition,
    HasTest,
    NotOf,
    SearchQuery,
)
from fhir_store.store import Store

PROXY_SCOPES = f"{BASE}/CodeSystem/cphc-proxy-scope"
CONSENT_SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"

MOST_REFUSALS = 1000
"""Up to so many patients who refuse a person are named in the SQL; more are found by it."""

_FILLED = frozenset({"QuestionnaireResponse", "DocumentReference"})
_BOOKED = frozenset({"Appointment", "AppointmentResponse"})
_PAID = frozenset({"Account", "ChargeItem", "Invoice"})
# What a proxy scope opens: scope -> type -> letters; "" is every type of the ward's record.
_OPENS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "view": {"": "rs"},
        "book": dict.fromkeys(_BOOKED, "crsu"),
        "pay": {**dict.fromkeys(_PAID, "rs"), "Invoice": "rsu"},
        "fill": dict.fromkeys(_FILLED, "cu"),
    }
)


def proxies_for(letters: Container[str], type_: str | None = None) -> tuple[str, ...]:
    """Return the proxy scopes (view, book, pay, fill) that open a type for one of the letters.

    Without a type, those that open any.
    """
    return tuple(
        scope
        for scope, types in _OPENS.items()
        if any(
            letter in letters
            for name, opened in types.items()
            if type_ is None or name in ("", type_)
            for letter in opened
        )
    )


def wards_of(person: str, proxy: str) -> Condition:
    """Return the condition on patients a RelatedPerson may act for in a proxy scope.

    The relation must be active and an active Consent of the patient must permit the scope to the
    person, as `provision.action`.
    """
    id_ = person.partition("/")[2]
    permitted = [("permitted-actor", person), ("action", f"{PROXY_SCOPES}|{proxy}")]
    is_active = NotOf(_one("RelatedPerson", "active", "false"))
    return AllOf(
        (
            _has("RelatedPerson", [("_id", id_)], is_active),
            _has("Consent", permitted, *_in_force()),
        )
    )


async def is_proven(store: Store, person: str) -> bool:
    """Say whether the identity of a RelatedPerson was verified by camera or in person."""
    try:
        version = await store.read(*person.split("/", 1))
    except (NotFound, Gone):
        return False
    return level_of(resource_json.parse(version.body)) >= PROVEN


def refusals(actors: Iterable[str], member: str) -> Condition:
    """Return the condition on Consents that refuse one of the actors, or everybody.

    `member` is the person, who is refused too where a CareTeam that he takes part in is.
    """
    ways = AnyOf(
        (
            _one("Consent", "denies", "deny"),
            _one("Consent", "denied-actor", ",".join(actors)),
            _one("Consent", "denied-actor:CareTeam.participant", member),
        )
    )
    scopes = ",".join(f"{CONSENT_SCOPES}|{code}" for code in ("patient-privacy", "treatment"))
    return AllOf((ways, _one("Consent", "scope", scopes), *_in_force()))


def patients_with(consents: Condition) -> Condition:
    """Return the condition on patients one of whose Consents passes."""
    return _has("Consent", [], consents)


async def patients_refusing(store: Store, consents: Condition) -> tuple[str, ...] | None:
    """Return the ids of patients one of whose Consents passes; None where they are too many."""
    query = SearchQuery(types=("Consent",), conditions=(consents,), count=MOST_REFUSALS)
    page = await store.search(query)
    if page.next is not None:
        return None
    found = (resource_json.parse(version.body)["patient"] for version in page.matches)
    return tuple({one.get("reference", "").partition("/")[2] for one in found} - {""})


def _has(source: str, pairs: list[tuple[str, str]], *also: Condition) -> Condition:
    """Return the condition on patients that a resource of `source` which passes points to."""
    has = _one("Patient", f"_has:{source}:patient:_id", "x")
    assert isinstance(has, HasTest)
    return replace(has, condition=AllOf((*conditions_of(source, pairs), *also)))


def _in_force() -> tuple[Condition, ...]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lasts = AllOf(conditions_of("Consent", [("period", f"le{now}"), ("period", f"ge{now}")]))
    always = _one("Consent", "period:missing", "true")
    return (_one("Consent", "status", "active"), AnyOf((always, lasts)))


def _one(type_: str, name: str, value: str) -> Condition:
    return conditions_of(type_, [(name, value)])[0]
