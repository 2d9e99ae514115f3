"""Facts of resources, (type, path, value), to compare two conversions of one message.

Ids, indexes, narrative and the target of a reference beyond its type are not facts; times are
compared as instants, systems that a converter made up itself by their last part.
"""

import datetime
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Fact = tuple[str, str, str]
# Systems that the two converters make of names: only the name is a fact.
_MADE_UP = re.compile(
    r"http://example\.com/v2-to-fhir-converter/(?:Identifier|CodeSystem|sid)/(.+)"
    r"|https://fhir\.qiao\.example/cphc/sid/(?:code-system/)?(.+)"
)
# An extension is a step of the path; of its url only what tells it apart is kept.
_EXTENSIONS = re.compile(
    r"http://hl7\.org/fhir/StructureDefinition/|http://example\.com/v2-to-fhir-converter/"
)
_DROPPED = frozenset({"id", "resourceType", "text", "fullUrl", "lastUpdated", "versionId"})


def facts_of(resources: Iterable[Mapping[str, Any]]) -> Counter[Fact]:
    """Return how often each fact is said by the resources."""
    found: Counter[Fact] = Counter()
    by_id = {
        f"{resource.get('resourceType')}/{resource.get('id')}": resource for resource in resources
    }
    for resource in by_id.values() if len(by_id) > 1 else resources:
        kind = str(resource["resourceType"])
        for path, value in _leaves(resource, "", kind):
            found[(kind, path, value)] += 1
    return found


def _leaves(value: Any, path: str, kind: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        url = value.get("url")
        if path.endswith("extension") and isinstance(url, str):
            path = f"{path}({extension_name(url)})"
        for name, item in value.items():
            if name == "url" and path.endswith(")"):
                continue
            if name == "text" and isinstance(item, Mapping) and "div" in item:
                continue
            if name in _DROPPED and not (name == "text" and isinstance(item, str)):
                continue
            if name == "reference" and isinstance(item, str):
                yield f"{path}.reference", item.split("/", 1)[0]
            else:
                yield from _leaves(item, f"{path}.{name}" if path else name, kind)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path, kind)
    elif value is not None and value != "":
        yield path, normal(value)


def normal(value: Any) -> str:
    """Return a value as facts write it: times in UTC, made-up systems by their last part."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    made_up = _MADE_UP.match(text)
    if made_up:
        return urllib.parse.unquote(made_up.group(1) or made_up.group(2))
    if len(text) >= 20 and text[10:11] == "T":
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            return text
        return moment.astimezone(datetime.UTC).isoformat()
    return text


def extension_name(url: str) -> str:
    """Return what tells an extension apart in the path of a fact."""
    return _EXTENSIONS.sub("", url)
