"""Compare an answer with an expectation of the public terminology cases, wildcards and all."""

import re
from typing import Any

from conformance.terminology.expansion import CONTAINS_PROPERTY_EXTENSION, PROPERTY_EXTENSION

PATTERNS = {
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "uuid": r"(urn:uuid:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
}


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """Every place where the answer is not as expected; order of arrays does not matter."""
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return [f"{path}: no object"]
        return _object_differences(expected, actual, path)
    if isinstance(expected, list):
        return _list_differences(expected, actual if isinstance(actual, list) else [], path)
    if isinstance(expected, str) and isinstance(actual, str):
        return [] if _is_match(expected, actual) else [f"{path}: {actual!r} is not {expected!r}"]
    return [] if expected == actual else [f"{path}: {actual!r} is not {expected!r}"]


def _object_differences(expected: dict, actual: dict, path: str) -> list[str]:
    optional = set(expected.get("$optional-properties$", ()))
    names = {name for name in expected if not name.startswith("$")}
    found = []
    for name in sorted(names | set(actual)):
        here = f"{path}.{name}"
        if name not in actual:
            if name not in optional and not _is_all_optional(expected[name]):
                found.append(f"{here}: missing")
        elif name not in names:
            if name not in optional:
                found.append(f"{here}: not expected: {str(actual[name])[:200]}")
        else:
            found += differences(expected[name], actual[name], here)
    return found


def _is_all_optional(expected: Any) -> bool:
    return isinstance(expected, list) and all(_is_optional(item) for item in expected)


def _is_optional(item: Any) -> bool:
    mark = item.get("$optional$") if isinstance(item, dict) else None
    return mark not in (None, False, "version:5")  # we are an R4 server


def _list_differences(expected: list, actual: list, path: str) -> list[str]:
    left = list(actual)
    found = []
    for wanted in expected:
        match = next((item for item in left if not differences(wanted, item)), None)
        if match is not None:
            left.remove(match)
        elif not _is_optional(wanted):
            near = min((differences(wanted, item, path) for item in left), key=len, default=[])
            found.append(f"{path}: lacks {str(wanted)[:300]} (nearest: {near[:3]})")
    return found + [f"{path}: too much: {str(item)[:300]}" for item in left]


def _is_match(expected: str, actual: str) -> bool:
    if not expected.startswith("$") or not expected.endswith("$"):
        if "|$version$" in expected:
            return actual.split("|")[0] == expected.split("|")[0]
        return expected == actual
    word = expected.strip("$")
    if word.startswith("choice:"):
        return actual in word.removeprefix("choice:").split("|")
    if word.startswith("external:"):
        return word.split(":", 2)[2] in actual
    return word not in PATTERNS or re.fullmatch(PATTERNS[word], actual) is not None


def as_r5(value: Any) -> Any:
    """Read the cross-version extensions of an R4 expansion as the R5 elements they stand for."""
    if isinstance(value, list):
        return [as_r5(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = []
    properties = []
    for extension in value.get("extension", ()):
        if extension.get("url") in (PROPERTY_EXTENSION, CONTAINS_PROPERTY_EXTENSION):
            parts = {}
            for part in extension["extension"]:
                ((name, content),) = ((k, v) for k, v in part.items() if k.startswith("value"))
                parts[name if part["url"] == "value" else part["url"]] = content
            properties.append(parts)
        else:
            kept.append(extension)
    out = {name: as_r5(item) for name, item in value.items() if name != "extension"}
    if kept:
        out["extension"] = kept
    if properties:
        out["property"] = properties
    return out
