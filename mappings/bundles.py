"""A translated message as a Bundle that people can read, and differences between two of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from mappings.translated import TranslatedMessage


def to_bundle(translated: TranslatedMessage, *, traced: bool = False) -> dict[str, Any]:
    """Return a collection Bundle; with `traced`, each entry names the sources of its elements.

    The trace stands in an extension of the entry, one text `target <- source (row)` a value.
    """
    entries = []
    for one in translated.resources:
        entry: dict[str, Any] = {
            "fullUrl": f"urn:uuid:{one.key}",
            "resource": dict(one.resource),
        }
        if traced:
            entry["extension"] = [
                {"url": TRACE, "valueString": f"{target} <- {source} ({row})"}
                for target, source, row in one.trace
            ]
        entries.append(entry)
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


TRACE = "https://fhir.qiao.example/cphc/StructureDefinition/map-trace"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every path with its value as text."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    elif value is not None:
        yield path, str(value)


def differences(expected: Any, found: Any) -> list[tuple[str, str | None, str | None]]:
    """Return (path, expected, found) for every value that differs; None where there is none."""
    wanted, have = dict(leaves(expected)), dict(leaves(found))
    return [
        (path, wanted.get(path), have.get(path))
        for path in dict.fromkeys([*wanted, *have])
        if wanted.get(path) != have.get(path)
    ]
