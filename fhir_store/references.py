"""Replaces the references of resources that are written together by their final form."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_HREF = re.compile(r"""(\b(?:href|src)\s*=\s*)(["'])([^"']*)\2""")


def rewrite(resource: Mapping[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """Return the resource with every reference found in `links` replaced, narrative included."""
    changed = _rewrite(resource, links)
    assert isinstance(changed, dict)
    return changed


def conditional_references(resource: object) -> Iterator[str]:
    """Yield every `Reference.reference` that is a search (`Patient?identifier=…`)."""
    if isinstance(resource, Mapping):
        for name, value in resource.items():
            if name == "reference" and isinstance(value, str):
                if "?" in value and not value.startswith(("http:", "https:", "urn:")):
                    yield value
            elif isinstance(value, Mapping | list):
                yield from conditional_references(value)
    elif isinstance(resource, list):
        for one in resource:
            yield from conditional_references(one)


def _rewrite(value: object, links: Mapping[str, str]) -> object:
    if isinstance(value, Mapping):
        return {name: _rewrite_member(name, one, links) for name, one in value.items()}
    if isinstance(value, list):
        return [_rewrite(one, links) for one in value]
    return value


def _rewrite_member(name: str, value: object, links: Mapping[str, str]) -> object:
    if isinstance(value, Mapping | list):
        return _rewrite(value, links)
    if not isinstance(value, str):
        return value
    if name == "reference":
        link, mark, fragment = value.partition("#")
        return links.get(value) or (
            links[link] + mark + fragment if link and link in links else value
        )
    if name == "div":
        return _HREF.sub(lambda m: f"{m[1]}{m[2]}{links.get(m[3], m[3])}{m[2]}", value)
    return value
