"""How sure we are that a record is the person who is sought.

https://hl7.org/fhir/R4/patient-operation-match.html asks for a score and a grade; the weights are
ours (design): a number that is given to one person only decides, and only a contradiction in
name, birth date or sex weakens it; without such a number nothing is certain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from care.names import written
from conformance.identity_numbers import ID_CARD_SYSTEM, id_card_from_15_digits
from conformance.text_folding import fold

Resource = Mapping[str, Any]
Grade = Literal["certain", "probable", "possible", "certainly-not"]

HEALTH_CARD_SYSTEM = "urn:oid:2.16.156.10011.1.19"
ARCHIVE_SYSTEM = "urn:oid:2.16.156.10011.1.2"
GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"

_POSSIBLE = 0.4  # below it a record is not worth showing


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate: its score from 0 to 1, and the grade that follows from what agrees."""

    score: float
    grade: Grade


def identifiers_of(patient: Resource) -> set[tuple[str, str]]:
    """Return (system, value) of identifiers; ID cards in their form of 18 characters."""
    return {
        (system, _canonical(system, value))
        for one in patient.get("identifier", ())
        if (system := str(one.get("system", ""))) and (value := str(one.get("value", "")).strip())
    }


def compare(sought: Resource, found: Resource) -> Match:
    """Grade a record against the person who is sought."""
    mine, theirs = identifiers_of(sought), identifiers_of(found)
    if has_rival_card(sought, found):
        return Match(0.0, "certainly-not")  # twins share everything else
    agreeing, contradicting = _facts(sought, found)
    shared = {system for system, _ in mine & theirs}
    if ID_CARD_SYSTEM in shared:
        return _decided(1.0, contradicting)
    if shared:
        return _decided(0.97, contradicting)
    if contradicting & {"birthDate", "gender", "name"}:
        return Match(0.0, "certainly-not")
    weights = {"name": 0.3, "birthDate": 0.3, "gender": 0.05, "phone": 0.2, "address": 0.1}
    score = round(sum(weights[fact] for fact in agreeing), 2)
    if {"name", "birthDate"} <= agreeing and "phone" in agreeing:
        return Match(score, "probable")
    return Match(score, "possible" if score >= _POSSIBLE else "certainly-not")


def best_first(
    sought: Resource, records: Iterable[Resource], *, only_certain: bool = False
) -> list[tuple[Resource, Match]]:
    """Return the records worth showing with their grade; merged ones are left to their survivor.

    With `only_certain` there is one record or none: two certain ones are a question for a person.
    """
    graded = [(one, compare(sought, one)) for one in records if replaced_by(one) is None]
    shown = [pair for pair in graded if pair[1].grade != "certainly-not"]
    shown.sort(key=lambda pair: (-pair[1].score, str(pair[0].get("id", ""))))
    if only_certain:
        certain = [pair for pair in shown if pair[1].grade == "certain"]
        return certain if len(certain) == 1 else []
    return shown


def has_rival_card(one: Resource, other: Resource) -> bool:
    """Say whether both have an ID card in use and none in common, old ones included."""
    if not _cards(one, is_old_too=False) or not _cards(other, is_old_too=False):
        return False
    return not _cards(one, is_old_too=True) & _cards(other, is_old_too=True)


def replaced_by(record: Resource) -> str | None:
    """Return the reference of the record that took this one's place, if one did."""
    for link in record.get("link", ()):
        if link.get("type") == "replaced-by":
            return str(link.get("other", {}).get("reference", "")) or None
    return None


def names_of(patient: Resource) -> set[str]:
    """Return the names, folded, family name first and without spaces."""
    found = set()
    for name in patient.get("name", ()):
        found.add(fold(written(name)).replace(" ", ""))
    return found - {""}


def _decided(score: float, contradicting: set[str]) -> Match:
    """Return what a shared number says; two contradictions mean that it was mistyped."""
    hard = contradicting & {"name", "birthDate", "gender"}
    if len(hard) >= 2:
        return Match(round(score - 0.5, 2), "possible")
    if hard:
        return Match(round(score - 0.2, 2), "probable")
    return Match(score, "certain")


def _facts(sought: Resource, found: Resource) -> tuple[set[str], set[str]]:
    """Return which facts agree and which contradict; what one side does not say does neither."""
    sides = {
        "name": (names_of(sought), names_of(found)),
        "birthDate": ({_birth(sought)}, {_birth(found)}),
        "gender": ({sought.get("gender", "")}, {found.get("gender", "")}),
        "phone": (_phones(sought), _phones(found)),
        "address": (_addresses(sought), _addresses(found)),
    }
    agreeing: set[str] = set()
    contradicting: set[str] = set()
    for fact, (mine, theirs) in sides.items():
        mine, theirs = mine - {"", "unknown"}, theirs - {"", "unknown"}
        if mine and theirs:
            (agreeing if mine & theirs else contradicting).add(fact)
    return agreeing, contradicting


def _cards(patient: Resource, *, is_old_too: bool) -> set[str]:
    """Return the ID cards; those kept from a merged record are old."""
    return {
        _canonical(ID_CARD_SYSTEM, str(one.get("value", "")))
        for one in patient.get("identifier", ())
        if one.get("system") == ID_CARD_SYSTEM and (is_old_too or one.get("use") != "old")
    }


def _canonical(system: str, value: str) -> str:
    if system != ID_CARD_SYSTEM:
        return value
    value = value.upper()
    is_old = len(value) == 15 and value.isascii() and value.isdigit()
    return id_card_from_15_digits(value) if is_old else value


def _birth(patient: Resource) -> str:
    born = str(patient.get("birthDate", ""))
    return born if len(born) == 10 else ""


def _phones(patient: Resource) -> set[str]:
    return {
        "".join(c for c in str(one.get("value", "")) if c.isdigit())[-11:]
        for one in patient.get("telecom", ())
        if one.get("system") in ("phone", "sms")
    }


def _addresses(patient: Resource) -> set[str]:
    return {fold(str(one.get("text", ""))).replace(" ", "") for one in patient.get("address", ())}
