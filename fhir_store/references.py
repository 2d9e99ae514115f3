"""Replaces the references of resources that are written together by their final form.

http://hl7.org/fhir/R4/http.html#trules: references, elements of type uri, url, oid and uuid, and
links and images of the narrative; never canonicals.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_HREF = re.compile(r"""(<(?:a|img)\b[^>]*?\s(?:href|src)\s*=\s*)(["'])([^"'<>]*)\2""")
_RESTFUL = re.compile(r"(https?://.+)/[A-Za-z]+/[A-Za-z0-9\-.]{1,64}(?:/_history/[^/]+)?")
PLACEHOLDER = "urn:uuid:"
_SEARCH = re.compile(r"[A-Z][A-Za-z]+\?.+")

# Members whose texts are of type uri, url, oid or uuid in R4's definitions (a test compares).
URI_NAMES = frozenset(
    (
        "address",
        "authority",
        "authorizationUrl",
        "contentReference",
        "defaultValueOid",
        "defaultValueUri",
        "defaultValueUrl",
        "defaultValueUuid",
        "definitionUri",
        "derivedFromUri",
        "endpoint",
        "eventUri",
        "fixedOid",
        "fixedUri",
        "fixedUrl",
        "fixedUuid",
        "implicitRules",
        "instantiatesUri",
        "issuer",
        "jurisdiction",
        "link",
        "moduleUri",
        "nameUrl",
        "onlineInformation",
        "patternOid",
        "patternUri",
        "patternUrl",
        "patternUuid",
        "policy",
        "protocol",
        "reference",
        "relativePath",
        "rendering",
        "sourceUri",
        "system",
        "targetUri",
        "uri",
        "url",
        "valueOid",
        "valueUri",
        "valueUrl",
        "valueUuid",
    )
)
_REWRITTEN = URI_NAMES | {"source", "div"}
# The same names where they are canonical (parent, name).
_CANONICAL_PLACES = frozenset(
    {
        ("unmapped", "url"),
        ("structure", "url"),
        ("dependsOn", "uri"),
        ("codeSystem", "uri"),
        ("dependsOn", "system"),
    }
)


def rewrite(
    resource: Mapping[str, Any], links: Mapping[str, str], full_url: str | None = None
) -> dict[str, Any]:
    """Return the resource with everything that `links` knows replaced.

    A relative reference in an entry whose full URL is RESTful means one below the same base.
    http://hl7.org/fhir/R4/bundle.html#references
    """
    found = _RESTFUL.fullmatch(full_url or "")
    return _Rewriter(links, f"{found[1]}/" if found else "").rewritten(resource, "")


def open_references(resource: Mapping[str, Any]) -> Iterator[str]:
    """Yield every `Reference.reference` that is a search (`Patient?identifier=…`) or `urn:uuid:`.

    Outside the Bundle neither says which resource is meant.
    """
    pending: list[Any] = [dict(resource)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(one for one in value if isinstance(one, dict | list))
            continue
        for name, member in value.items():
            if isinstance(member, dict | list):
                pending.append(member)
            elif (
                name == "reference"
                and isinstance(member, str)
                and (member.startswith(PLACEHOLDER) or _SEARCH.fullmatch(member))
            ):
                yield member


class _Rewriter:
    """Walks one resource."""

    def __init__(self, links: Mapping[str, str], base: str) -> None:
        self._links = links
        self._base = base

    def rewritten(self, value: Mapping[str, Any], own: str) -> dict[str, Any]:
        return {name: self._member(own, name, one) for name, one in value.items()}

    def _member(self, parent: str, name: str, value: object) -> object:
        if isinstance(value, str):
            return self._text(parent, name, value) if name in _REWRITTEN else value
        if isinstance(value, dict):
            return self.rewritten(value, name)
        if isinstance(value, list):
            return [self._member(parent, name, one) for one in value]
        return value

    def _text(self, parent: str, name: str, text: str) -> str:
        if name == "reference":
            return self._reference(text)
        if name in URI_NAMES or (name, parent) == ("source", "meta"):
            return text if (parent, name) in _CANONICAL_PLACES else self._links.get(text, text)
        if name == "div":
            return _HREF.sub(lambda m: f"{m[1]}{m[2]}{self._reference(m[3])}{m[2]}", text)
        return text

    def _reference(self, text: str) -> str:
        link, mark, fragment = text.partition("#")
        for wanted in (link, self._base + link):
            if link and wanted in self._links:
                return self._links[wanted] + mark + fragment
        return self._links.get(text, text)
