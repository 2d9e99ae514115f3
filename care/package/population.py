"""Whom a package is for: the key populations of a resident on a day, by dated rules."""

import datetime
import functools
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from care.contract.surroundings import age_of
from care.effects import Resource
from care.package.content import PRICE, category_of, populations_of
from care.periods import holds_on
from conformance.cphc import BASE
from conformance.yaml_text import read_yaml

KEY_POPULATION = f"{BASE}/StructureDefinition/cphc-key-population"
_OVER = frozenset({"resolved", "inactive", "remission"})
_REFUTED = frozenset({"refuted", "entered-in-error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What puts a resident into a population while the rule is in force."""

    force: Mapping[str, str]
    age: tuple[int, ...] = ()
    condition: tuple[str, ...] = ()
    programme: frozenset[str] = frozenset()


@functools.cache
def rules() -> Mapping[str, tuple[Rule, ...]]:
    """Return the rules of each population, from populations.yaml beside this module."""
    text = (importlib.resources.files("care.package") / "populations.yaml").read_text("utf-8")
    return {name: tuple(_rule(row) for row in rows) for name, rows in read_yaml(text).items()}


def populations_on(
    resident: Resource,
    conditions: Iterable[Resource],
    episodes: Iterable[Resource],
    day: datetime.date,
) -> dict[str, str]:
    """Return the populations of a resident on a day, each with what puts them into it.

    The reason is `record`, `age`, or the reference of a Condition or EpisodeOfCare.
    """
    found = dict.fromkeys(_recorded(resident), "record")
    codes = [(code, one) for one in conditions if _is_active(one) for code in _icd(one)]
    types = [(code, one) for one in episodes if _runs(one, day) for code in _types(one)]
    for population, own in rules().items():
        for rule in own:
            if population not in found and holds_on(rule.force, day):
                reason = _reason(rule, resident, codes, types, day)
                if reason is not None:
                    found[population] = reason
    return found


def applicable(
    plans: Iterable[Resource], populations: Iterable[str], day: datetime.date
) -> list[Resource]:
    """Return the published packages that a resident of these populations may take on a day.

    Basic packages first, then by title. A plan without a price is no package.
    """
    mine = frozenset(populations)
    found = [
        plan
        for plan in plans
        if plan.get("status") == "active"
        and any(one.get("url") == PRICE for one in plan.get("extension", ()))
        and holds_on(plan.get("effectivePeriod", {}), day)
        and (not populations_of(plan) or populations_of(plan) & mine)
    ]
    return sorted(
        found, key=lambda plan: (category_of(plan) != "basic", str(plan.get("title", "")))
    )


def _reason(
    rule: Rule,
    resident: Resource,
    codes: Sequence[tuple[str, Resource]],
    types: Sequence[tuple[str, Resource]],
    day: datetime.date,
) -> str | None:
    if rule.age:
        age = age_of(resident, day)
        is_within = age is not None and rule.age[0] <= age <= (*rule.age, 200)[1]
        return "age" if is_within else None
    for code, condition in codes:
        if code.startswith(rule.condition):
            return f"Condition/{condition['id']}"
    for type_, episode in types:
        if type_ in rule.programme:
            return f"EpisodeOfCare/{episode['id']}"
    return None


def _rule(row: Mapping[str, Any]) -> Rule:
    force = {"start": row["from"], **({"end": row["until"]} if "until" in row else {})}
    return Rule(
        force=force,
        age=tuple(row.get("age", ())),
        condition=tuple(row.get("condition", ())),
        programme=frozenset(row.get("programme", ())),
    )


def _recorded(resident: Resource) -> Iterable[str]:
    for one in resident.get("extension", ()):
        if one.get("url") == KEY_POPULATION:
            for coding in one.get("valueCodeableConcept", {}).get("coding", ()):
                if "code" in coding:
                    yield str(coding["code"])


def _is_active(condition: Resource) -> bool:
    clinical = {c.get("code") for c in condition.get("clinicalStatus", {}).get("coding", ())}
    verified = {c.get("code") for c in condition.get("verificationStatus", {}).get("coding", ())}
    return not clinical & _OVER and not verified & _REFUTED


def _icd(condition: Resource) -> Iterable[str]:
    for coding in condition.get("code", {}).get("coding", ()):
        if "icd-10" in str(coding.get("system", "")).lower() and "code" in coding:
            yield str(coding["code"]).upper()


def _runs(episode: Resource, day: datetime.date) -> bool:
    return episode.get("status") in ("active", "onhold") and holds_on(
        episode.get("period", {}), day
    )


def _types(episode: Resource) -> Iterable[str]:
    for type_ in episode.get("type", ()):
        for coding in type_.get("coding", ()):
            if "code" in coding:
                yield str(coding["code"])
