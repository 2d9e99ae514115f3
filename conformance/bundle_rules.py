"""Rules of Bundles that R4's constraints do not carry (https://hl7.org/fhir/R4/bundle.html)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.fhirpath import model
from conformance.problem import Issue

_RESTFUL = re.compile(r"https?://.+/([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_VERSIONED = re.compile(r"(.+)/_history/([A-Za-z0-9\-.]{1,64})")
_ONCE = frozenset({"self", "first", "previous", "next", "last"})

_TEXTS = {
    "bundle-link": (
        "The relation {0} may stand once among the links of a Bundle.",
        "Bundle 的 link 中，关系 {0} 只能出现一次。",
        "Leave one of them.", "请只保留一个。",
    ),
    "bundle-full-url": (
        "A fullUrl is an absolute address.", "fullUrl 必须是绝对地址。",
        "Write the whole address, or urn:uuid:….", "请写出完整地址，或使用 urn:uuid:…。",
    ),
    "bundle-id": (
        "The fullUrl ends with {0}, and the resource has another type or id, or none.",
        "fullUrl 以 {0} 结尾，而资源的类型或 id 与之不符，或缺少 id。",
        "Give the resource this id, or correct the fullUrl.", "请为资源填写该 id，或更正 fullUrl。",
    ),
    "bundle-no-id": (
        "A resource found by a search has an id.", "检索结果中的资源必须有 id。",
        "Give its id.", "请填写 id。",
    ),
    "bundle-version": (
        "The Bundle has this resource, but not in the version that is referred to.",
        "Bundle 中有该资源，但没有所引用的版本。",
        "Put that version into the Bundle, or correct the reference.",
        "请将该版本放入 Bundle，或更正引用。",
    ),
}  # fmt: skip


def check_bundle(resource: Mapping[str, Any]) -> list[Issue]:
    """Return what is wrong with the links, addresses, ids and versions of a Bundle's entries."""
    if resource.get("resourceType") != "Bundle":
        return []
    found = [*_links(resource), *_entries(resource)]
    if resource.get("type") in ("document", "message"):
        found += _versions(resource)
    return found


def _issue(key: str, place: str, *arguments: str, severity: str = "error") -> Issue:
    text_en, text_zh, fix_en, fix_zh = _TEXTS[key]
    return Issue(
        severity=severity,
        code="invalid",
        key=key,
        text_en=text_en.format(*arguments),
        text_zh=text_zh.format(*arguments),
        fix_en=fix_en,
        fix_zh=fix_zh,
        expression=place,
    )


def _links(resource: Mapping[str, Any]) -> Iterator[Issue]:
    seen: set[str] = set()
    for index, link in enumerate(resource.get("link", ())):
        relation = link.get("relation")
        if relation in _ONCE and relation in seen:
            yield _issue("bundle-link", f"Bundle.link[{index}].relation", relation)
        seen.add(relation)


def _entries(resource: Mapping[str, Any]) -> Iterator[Issue]:
    kind = resource.get("type")
    for index, entry in enumerate(resource.get("entry", ())):
        inside = entry.get("resource")
        place = f"Bundle.entry[{index}]"
        full_url = entry.get("fullUrl")
        if isinstance(full_url, str) and ":" not in full_url:
            yield _issue("bundle-full-url", f"{place}.fullUrl")
        if not isinstance(inside, Mapping):
            continue
        id_, type_name = inside.get("id"), str(inside.get("resourceType"))
        if kind == "searchset" and id_ is None and type_name != "OperationOutcome":
            yield _issue("bundle-no-id", f"{place}.resource")
        if kind in ("transaction", "batch") or not isinstance(full_url, str):
            continue
        match = _RESTFUL.fullmatch(full_url)
        if match is None or not model.is_resource(match[1]):
            continue
        if match[1] != type_name or match[2] != id_:
            # Some official messages and collections disagree in the id; a document's and a
            # search's references depend on it.
            is_wrong = match[1] != type_name or kind in ("document", "searchset")
            severity = "error" if is_wrong else "warning"
            yield _issue("bundle-id", place, f"{match[1]}/{match[2]}", severity=severity)


def _versions(resource: Mapping[str, Any]) -> Iterator[Issue]:
    """Judge references to versions: https://hl7.org/fhir/R4/bundle.html#references."""
    known: dict[str, set[str | None]] = {}
    for entry in resource.get("entry", ()):
        inside = entry.get("resource")
        if isinstance(inside, Mapping):
            version = (inside.get("meta") or {}).get("versionId")
            for name in (entry.get("fullUrl"), f"{inside.get('resourceType')}/{inside.get('id')}"):
                known.setdefault(str(name), set()).add(version)
    for index, entry in enumerate(resource.get("entry", ())):
        for place, reference in _references(
            entry.get("resource"), f"Bundle.entry[{index}].resource"
        ):
            match = _VERSIONED.fullmatch(reference)
            if match is not None and match[1] in known and match[2] not in known[match[1]]:
                yield _issue("bundle-version", place)


def _references(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        reference = value.get("reference")
        if isinstance(reference, str):
            yield f"{place}.reference", reference
        for key, content in value.items():
            if type(content) in (dict, list):
                yield from _references(content, f"{place}.{key}")
    elif isinstance(value, list):
        for index, content in enumerate(value):
            yield from _references(content, f"{place}[{index}]")
