"""What a package promises: its items, how often each, and what a service must leave as proof.

`care.package.content` says which definitions they are. ActivityDefinition (`cphc-service-item`):
`code`, `title`, extension `service-quota` (services in a year of the contract),
`timingTiming.repeat` (`frequency`, `period`, `periodUnit`), extensions `evidence-rule`. An
action may carry quota and timing of its own, which go before those of the definition.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from care.effects import Resource
from care.package.content import canonical_of, items_among
from conformance.cphc import BASE

SERVICE_ITEM = f"{BASE}/CodeSystem/cphc-service-item"
QUOTA = f"{BASE}/StructureDefinition/cphc-service-quota"
_NOTICES = tuple(
    f"{BASE}/StructureDefinition/cphc-{n}" for n in ("service-notice", "notice-repeat")
)
EVIDENCE = f"{BASE}/StructureDefinition/cphc-evidence-rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceItem:
    """One item of a package.

    `frequency` services in each `every` (number, unit d, wk, mo or a); None spreads the quota over
    the year. `quota` None is no limit beyond the timing. `evidence` are codes of
    `cphc-evidence-rule`; `notices` are the extensions that say what a resident is told.
    """

    canonical: str
    code: Mapping[str, Any]
    title: str
    quota: int | None
    every: tuple[int, str] | None
    frequency: int = 1
    evidence: frozenset[str] = frozenset()
    notices: tuple[Mapping[str, Any], ...] = ()


def items_of(package: Resource, activities: Iterable[Resource]) -> list[ServiceItem]:
    """Return the items of a package; a definition that is not among `activities` is left out."""
    return [_item(action, activity) for action, activity in items_among(package, activities)]


def evidence_of(activity: Resource) -> frozenset[str]:
    """Return what a service of this definition must leave as proof."""
    return frozenset(
        str(one["valueCode"])
        for one in activity.get("extension", ())
        if one.get("url") == EVIDENCE and "valueCode" in one
    )


def _item(action: Resource, activity: Resource) -> ServiceItem:
    repeat = _repeat(action) or _repeat(activity)
    every = None
    if repeat.get("period") is not None and repeat.get("periodUnit") in ("d", "wk", "mo", "a"):
        every = (max(1, int(repeat["period"])), str(repeat["periodUnit"]))
    own = _quota(action)
    quota = own if own is not None else _quota(activity)
    if quota is None and every is None:
        quota = 1
    title = str(action.get("title") or activity.get("title") or activity.get("name") or "")
    return ServiceItem(
        canonical=canonical_of(activity),
        code=activity.get("code", {"text": title}),
        title=title,
        quota=quota,
        every=every,
        frequency=max(1, int(repeat.get("frequency", 1))),
        evidence=evidence_of(activity),
        notices=tuple(one for one in activity.get("extension", ()) if one.get("url") in _NOTICES),
    )


def _repeat(definition: Resource) -> Mapping[str, Any]:
    repeat: Mapping[str, Any] = definition.get("timingTiming", {}).get("repeat", {})
    return repeat


def _quota(definition: Resource) -> int | None:
    for one in definition.get("extension", ()):
        if one.get("url") == QUOTA and "valueInteger" in one:
            return int(one["valueInteger"])
    return None
