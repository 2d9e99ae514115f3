"""How a message's view of a record meets the stored one; pure functions on resources.

A message tells what it knows: elements it carries replace the stored ones, elements it does not
carry stay. Identifiers are joined, because each sender knows only its own.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

Resource = Mapping[str, Any]

# Choice elements: one of the kind at a time (http://hl7.org/fhir/R4/formats.html#choice).
_CHOICES = (
    "deceased", "multipleBirth", "onset", "abatement", "effective", "value", "performed",
    "occurrence", "serviced", "medication", "timing", "reported", "product", "content", "reason",
)  # fmt: skip


def merged(stored: Resource, incoming: Resource) -> dict[str, Any]:
    """Return the stored resource with what the incoming one carries."""
    result = {name: value for name, value in stored.items() if name != "meta"}
    for name in incoming:
        plain = name.removeprefix("_")
        if plain not in incoming or f"_{plain}" not in incoming:
            # A value's extension belongs to that value: neither stays when the other is replaced.
            result.pop(plain, None)
            result.pop(f"_{plain}", None)
        for rival in _rivals(plain, result):
            del result[rival]
    for name, value in incoming.items():
        if name == "identifier":
            result[name] = joined_identifiers(stored.get(name, ()), value)
        elif name != "id":
            result[name] = value
    outlived = _outlived(result)
    if outlived in result and outlived not in incoming:
        del result[outlived]
    return result


def _outlived(resource: Resource) -> str:
    """Return the element that R4 allows only with what the record said before, or ""."""
    match resource.get("resourceType"):
        case "Appointment" if resource.get("status") not in ("cancelled", "noshow"):
            return "cancelationReason"  # app-4
        case "Observation" if any(name.startswith("value") for name in resource):
            return "dataAbsentReason"  # obs-6
    return ""


def joined_identifiers(stored: Any, incoming: Any) -> list[Any]:
    """Return both lists as one; the incoming form of an identifier known by system and value."""
    new = {_identity(one): one for one in incoming}
    kept = [new.pop(_identity(one), one) for one in stored]
    return [*kept, *new.values()]


def with_references(value: Any, known: Mapping[str, str]) -> Any:
    """Return the value with every `urn:uuid:` reference of `known` replaced.

    What has none is shared, not copied: most of a resource, and most resources.
    """
    if type(value) is dict:
        reference = value.get("reference")
        changed: dict[str, Any] | None = None
        if isinstance(reference, str) and reference in known:
            changed = {**value, "reference": known[reference]}
        for name, part in value.items():
            if type(part) is dict or type(part) is list:
                new = with_references(part, known)
                if new is not part:
                    changed = changed or dict(value)
                    changed[name] = new
        return value if changed is None else changed
    if type(value) is list:
        copied: list[Any] | None = None
        for at, part in enumerate(value):
            if type(part) is dict or type(part) is list:
                new = with_references(part, known)
                if new is not part:
                    copied = copied or list(value)
                    copied[at] = new
        return value if copied is None else copied
    return value


def _rivals(name: str, stored: Mapping[str, Any]) -> list[str]:
    choice = _choice_of(name)
    if not choice:
        return []
    return [
        other
        for other in stored
        if _choice_of(other.removeprefix("_")) == choice and other.removeprefix("_") != name
    ]


@lru_cache(maxsize=4096)
def _choice_of(name: str) -> str:
    """Return the choice element that a name is a form of, or ""."""
    for choice in _CHOICES:
        if name.startswith(choice) and name[len(choice) :][:1].isupper():
            return choice
    return ""


def _identity(identifier: Mapping[str, Any]) -> tuple[Any, Any]:
    return identifier.get("system"), identifier.get("value")
