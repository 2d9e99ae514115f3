"""Two records of one person become one, and two again: pure functions on resources.

The record that goes stays readable, inactive, with a link `replaced-by`; the one that stays links
`replaces` and keeps the other's identifiers as `old`. http://hl7.org/fhir/R4/patient.html#merge
"""

from collections.abc import Mapping
from typing import Any

from care.effects import refuse
from care.identity.matching import has_rival_card, replaced_by
from conformance.problem import BusinessRule

Resource = Mapping[str, Any]


def require_mergeable(source: Resource, target: Resource) -> None:
    """Refuse what would join two persons, or records that are not there to be joined."""
    if source.get("id") == target.get("id"):
        raise _refused(
            "merge-itself",
            ("Source and target are the same record", "两个参数指向同一记录"),
            ("Name two records.", "请指定两个不同的记录。"),
        )
    stands_for = replaced_by(target)
    if stands_for is not None:
        raise _refused(
            "merge-target-merged",
            (f"The target was itself merged into {stands_for}", f"目标记录已并入 {stands_for}"),
            (f"Take {stands_for} as the target.", f"请以 {stands_for} 为目标。"),
        )
    elsewhere = replaced_by(source)
    if elsewhere not in (None, f"Patient/{target.get('id')}"):
        raise _refused(
            "merge-source-merged",
            (f"The source was merged into {elsewhere}", f"源记录已并入 {elsewhere}"),
            (
                f"Ask for $unmerge of the two first, or merge {elsewhere}.",
                f"请先执行 $unmerge，或合并 {elsewhere}。",
            ),
        )
    if has_rival_card(source, target):
        raise _refused(
            "merge-two-persons",
            ("The two carry different ID cards", "两个记录的身份证号不同"),
            (
                "If one number is mistyped, correct it or give it use 'old', then merge.",
                "如一方号码录入错误，请更正或标记 use 为 old 后再合并。",
            ),
        )


def retired(prior: Resource, surviving_reference: str) -> dict[str, Any]:
    """Return a record that was merged into another: inactive, and pointing there."""
    links = [one for one in prior.get("link", ()) if one.get("type") != "replaced-by"]
    link = {"other": {"reference": surviving_reference}, "type": "replaced-by"}
    return {**_bare(prior), "active": False, "link": [*links, link]}


def surviving(record: Resource, prior: str | None, identifiers: Any) -> dict[str, Any]:
    """Return the record that took another's place, with its identifiers marked `old`."""
    old = [{**one, "use": "old"} for one in identifiers]
    result = _bare(record)
    known = {_identity(one) for one in record.get("identifier", ())}
    added = [one for one in old if _identity(one) not in known]
    if added:
        result["identifier"] = [*record.get("identifier", ()), *added]
    if prior is not None:
        link = {"other": {"reference": prior}, "type": "replaces"}
        if link not in result.get("link", ()):
            result["link"] = [*result.get("link", ()), link]
    return result


def related(record: Resource, other: str, *, is_linked: bool) -> dict[str, Any]:
    """Return the record with the other one as another of the same person, or without that link.

    Both stay in use (`seealso`); a link of another kind between the two is left as it is.
    """
    link = {"other": {"reference": other}, "type": "seealso"}
    links = [one for one in record.get("link", ()) if one != link]
    if is_linked:
        links.append(link)
    result = _bare(record)
    result.pop("link", None)
    return {**result, "link": links} if links else result


def restored(source: Resource, before: Resource | None) -> dict[str, Any]:
    """Return the record that had gone, as it was; without its earlier content, only active."""
    if before is not None:
        return {**_bare(before), "id": source["id"]}
    links = [one for one in source.get("link", ()) if one.get("type") != "replaced-by"]
    result = {**_bare(source), "active": True}
    result.pop("link", None)
    return {**result, "link": links} if links else result


def released(target: Resource, source: Resource, before: Resource | None) -> dict[str, Any]:
    """Return the record that had taken another's place, without what the merge gave it.

    `before` is its content before the merge; what changed since stays.
    """
    own = {_identity(one) for one in (before or {}).get("identifier", ())}
    given = {_identity(one) for one in source.get("identifier", ())} - own
    result = _bare(target)
    kept = [
        one
        for one in target.get("identifier", ())
        if _identity(one) not in given or one.get("use") != "old"
    ]
    reference = {"reference": f"Patient/{source['id']}"}
    links = [
        one
        for one in target.get("link", ())
        if not (one.get("type") == "replaces" and one.get("other") == reference)
    ]
    for name, value in (("identifier", kept), ("link", links)):
        result.pop(name, None)
        if value:
            result[name] = value
    return result


def moved(value: Any, old: str, new: str) -> Any:
    """Return the value with every reference to `old` made one to `new`; versions are let go."""
    if isinstance(value, Mapping):
        return {
            name: new if name == "reference" and _is_to(part, old) else moved(part, old, new)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [moved(part, old, new) for part in value]
    return value


def moved_back(current: Any, before: Any, old: str, new: str) -> Any:
    """Return the current value with those references made `old` again that were before.

    Compared place by place: a reference that was `new` before the merge stays.
    """
    if isinstance(current, Mapping) and isinstance(before, Mapping):
        return {
            name: (
                before[name]
                if name == "reference" and part == new and _is_to(before.get(name), old)
                else moved_back(part, before.get(name), old, new)
            )
            for name, part in current.items()
        }
    if isinstance(current, list) and isinstance(before, list):
        padded = [*before, *[None] * len(current)]
        return [
            moved_back(one, other, old, new) for one, other in zip(current, padded, strict=False)
        ]
    return current


def _is_to(value: Any, reference: str) -> bool:
    return isinstance(value, str) and (
        value == reference or value.startswith(f"{reference}/_history/")
    )


def _bare(resource: Resource) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "meta"}


def _identity(identifier: Mapping[str, Any]) -> tuple[Any, Any]:
    return identifier.get("system"), identifier.get("value")


def _refused(key: str, texts: tuple[str, str], fixes: tuple[str, str]) -> BusinessRule:
    return refuse(key, *texts, *fixes, expression="Parameters.parameter")
