"""A package as FHIR content: PlanDefinition with a price, ActivityDefinitions as its items.

PlanDefinition: `url`, `version`, `effectivePeriod`, `useContext` (code `focus`, a key population),
extension `contract-category` (basic, personalised), extension `package-price`, and one `action` per
item with `definitionCanonical` naming the ActivityDefinition (`url|version`).
ActivityDefinition: `code` (the service), extension `service-quota`, `timingTiming.repeat` (how
often), `useContext`, extension `package-price` (price of one service beyond the quota), extensions
`evidence-rule` (what a service must leave as proof).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from care.effects import Resource
from conformance.cphc import BASE

_EXTENSION = f"{BASE}/StructureDefinition/cphc-"
PRICE = _EXTENSION + "package-price"
CATEGORY = _EXTENSION + "contract-category"
PAY_FIRST = _EXTENSION + "effective-on-payment"
REVIEW_STAGES = _EXTENSION + "review-stages"


def canonical_of(definition: Resource) -> str:
    """Return `url|version`, the name that a contract pins."""
    version = definition.get("version")
    return f"{definition.get('url', '')}|{version}" if version else str(definition.get("url", ""))


def price_of(definition: Resource) -> Decimal:
    """Return the price in CNY; none stated is 0."""
    for one in definition.get("extension", ()):
        if one.get("url") == PRICE:
            return Decimal(str(one["valueMoney"].get("value", 0)))
    return Decimal(0)


def is_paid_first(plan: Resource) -> bool:
    """Say whether contracts on the package take effect only when they are paid."""
    return any(
        one.get("url") == PAY_FIRST and one.get("valueBoolean") is True
        for one in plan.get("extension", ())
    )


def review_stages_of(plan: Resource) -> int:
    """Return how many reviews an application for the package needs, 1 where it does not say."""
    for one in plan.get("extension", ()):
        if one.get("url") == REVIEW_STAGES:
            return int(one.get("valueInteger", 1))
    return 1


def category_of(plan: Resource) -> str:
    """Return basic or personalised; a package that does not say is basic."""
    for one in plan.get("extension", ()):
        if one.get("url") == CATEGORY:
            return str(one.get("valueCode", "basic"))
    return "basic"


def populations_of(definition: Resource) -> frozenset[str]:
    """Return the key populations a definition is for; none is everybody."""
    return frozenset(
        str(coding["code"])
        for context in definition.get("useContext", ())
        if context.get("code", {}).get("code") == "focus"
        for coding in context.get("valueCodeableConcept", {}).get("coding", ())
        if "code" in coding
    )


def item_canonicals(plan: Resource) -> list[str]:
    """Return the items of a package as it names them."""
    return [
        str(action["definitionCanonical"])
        for action in plan.get("action", ())
        if "definitionCanonical" in action
    ]


def item_urls(plan: Resource) -> list[str]:
    """Return the addresses of a package's items without versions, each once."""
    return list(dict.fromkeys(one.partition("|")[0] for one in item_canonicals(plan)))


def items_among(plan: Resource, activities: Iterable[Resource]) -> list[tuple[Resource, Resource]]:
    """Return each action of a package with the ActivityDefinition it names, in its order.

    A name without a version takes the first definition of that url; an action whose definition is
    not among `activities` is left out.
    """
    known: dict[str, Resource] = {}
    for activity in activities:
        known[canonical_of(activity)] = activity
        known.setdefault(str(activity.get("url", "")), activity)
    return [
        (action, known[name])
        for action in plan.get("action", ())
        if (name := str(action.get("definitionCanonical", ""))) in known
    ]


def total_of(packages: Mapping[str, Decimal]) -> Decimal:
    """Return the sum of prices."""
    return sum(packages.values(), Decimal(0))
