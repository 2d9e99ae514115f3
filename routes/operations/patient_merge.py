"""`Patient/$merge` and `$unmerge`: two records become one in one commit, and two again.

Parameters and answer have the shape of https://build.fhir.org/patient-operation-merge.html. What
referred to the record that goes refers to the one that stays; a Provenance names each version that
was changed, and from it everything is put back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from care.contract import content
from care.effects import refuse
from care.identity import merging
from care.identity.matching import replaced_by
from conformance import resource_json
from conformance.cphc import BASE
from conformance.cphc.operations import definition_of
from conformance.problem import Issue, to_operation_outcome
from fhir_store.operations import Claim, Create, Operation, Release, Update
from fhir_store.permits import conditions_of
from fhir_store.referrers import claims_on, referrers_of
from fhir_store.search.query import SearchQuery
from fhir_store.transaction import Transaction
from fhir_store.versions import Key, reference_key, vread
from routes.answer import Answer
from routes.hub import Hub
from routes.operations.parameters import (
    Part,
    bad_parameter,
    parameters_answer,
    parameters_in,
    single,
    value_of,
)
from routes.registry import Operation as Promise
from routes.request import Request
from routes.writing import apply_permitted, context_of, once

ACTIVITIES = f"{BASE}/CodeSystem/cphc-identity-activity"
# One commit writes them all; a record with more is moved by whoever runs the hub.
MOST_MOVED = 20_000
# What was said of a version stays said of it, and patients are linked, not moved.
_STAYING = ("Patient", "Provenance", "AuditEvent")
_HISTORY = 1000

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The two records, kept from other writers until the end."""

    source: Resource
    target: Resource

    @property
    def old(self) -> str:
        """Return the reference of the record that goes."""
        return f"Patient/{self.source['id']}"

    @property
    def new(self) -> str:
        """Return the reference of the record that stays."""
        return f"Patient/{self.target['id']}"

    @property
    def keys(self) -> tuple[Key, Key]:
        """Return type and id of the one that goes and of the one that stays."""
        return reference_key(self.old), reference_key(self.new)


def merge_operations() -> tuple[Promise, ...]:
    """Return the operations as the registry wants them."""
    return tuple(
        Promise(
            code=code,
            definition=definition_of("Patient", code),
            levels=frozenset({"type"}),
            types=frozenset({"Patient"}),
            handler=handler,
            affects_state=True,
        )
        for code, handler in (("merge", merge), ("unmerge", unmerge))
    )


async def merge(hub: Hub, request: Request) -> Answer:
    """Let target-patient take the place of source-patient; asked again it moves what is left."""
    parts = parameters_in(hub, request)
    is_preview = value_of(single(parts, "preview") or {}) is True

    async def work(transaction: Transaction) -> Answer:
        pair = await _pair(transaction, parts)
        merging.require_mergeable(pair.source, pair.target)
        found = await referrers_of(
            transaction.connection, pair.old, besides=_STAYING, limit=MOST_MOVED + 1
        )
        if len(found) > MOST_MOVED:
            raise _too_many()
        referring = await transaction.read_for_update(found) if found else {}
        source = merging.retired(pair.source, pair.new)
        target = merging.surviving(pair.target, pair.old, pair.source.get("identifier", ()))
        changed = [source, target]
        changed += [merging.moved(one, pair.old, pair.new) for one in referring.values()]
        claims = await _claims(transaction, pair)
        record = _record("merge", request, pair, referring)
        operations = [*claims, *(_update(one) for one in changed), Create(resource=record)]
        if is_preview:
            return _answer(parts, target, len(referring), is_preview=True)
        await apply_permitted(hub, request, transaction, operations)
        return _answer(parts, target, len(referring))

    return await once(hub, request, work)


async def unmerge(hub: Hub, request: Request) -> Answer:
    """Put back what $merge changed; what changed or came since stays as it is with the target."""
    parts = parameters_in(hub, request)

    async def work(transaction: Transaction) -> Answer:
        pair = await _pair(transaction, parts)
        if replaced_by(pair.source) != pair.new:
            raise refuse(
                "merge-unknown",
                f"{pair.old} is not merged into {pair.new}",
                f"{pair.old} 未并入 {pair.new}",
                "Name the two as they were merged: the source has a link replaced-by.",
                "请按合并时的方向给出两个记录：源记录带有 replaced-by 链接。",
                "Parameters.parameter",
            )
        before = await _before(hub, transaction, pair)
        source_before, target_before = (before.pop(key) for key in pair.keys)
        current = await transaction.read_for_update(list(before)) if before else {}
        source = merging.restored(pair.source, source_before)
        target = merging.released(pair.target, pair.source, target_before)
        back = {
            key: merging.moved_back(one, before[key], pair.old, pair.new)
            for key, one in current.items()
        }
        changed = [source, target, *(one for key, one in back.items() if one != current[key])]
        held = {f"{one['resourceType']}/{one['id']}" for one in changed}
        swapped = replace(pair, source=pair.target, target=pair.source)
        claims = await _claims(transaction, swapped, only=held)
        record = _record("unmerge", request, pair, current)
        operations = [*claims, *(_update(one) for one in changed), Create(resource=record)]
        await apply_permitted(hub, request, transaction, operations)
        return _answer(parts, source, len(changed) - 2)

    return await once(hub, request, work)


async def _pair(transaction: Transaction, parts: list[Part]) -> _Pair:
    """Read both records under one lock, so that two merges of them happen one after the other."""
    names = ("source-patient", "target-patient")
    keys = [await _named(transaction, parts, name) for name in names]
    found = await transaction.read_for_update(keys)
    for name, key in zip(names, keys, strict=True):
        if key not in found:
            raise bad_parameter(name, "Name a Patient that exists.", "请指定已存在的 Patient。")
    return _Pair(source=found[keys[0]], target=found[keys[1]])


async def _named(transaction: Transaction, parts: list[Part], name: str) -> Key:
    """Return the Patient that a parameter names by reference or by identifier."""
    reference = value_of(single(parts, name) or {})
    if isinstance(reference, Mapping):
        type_, _, id_ = str(reference.get("reference", "")).partition("/")
        if type_ == "Patient" and id_ and "/" not in id_:
            return type_, id_
    by_number = f"{name}-identifier"
    pairs = [
        (str(one.get("system", "")), str(one.get("value", "")))
        for part in parts
        if part["name"] == by_number and isinstance(one := value_of(part), Mapping)
    ]
    if not pairs:
        raise bad_parameter(
            name, f"Send Patient/id, or {by_number}.", f"请发送 Patient/id 或 {by_number}。"
        )
    known = await transaction.find_by_identifier("Patient", pairs)
    ids = set.intersection(*(set(known.get(one, ())) for one in pairs))
    if len(ids) != 1:
        raise bad_parameter(
            by_number,
            "Give identifiers that exactly one Patient carries.",
            "请给出恰好一名患者具有的标识。",
        )
    return "Patient", ids.pop()


async def _claims(
    transaction: Transaction, pair: _Pair, only: set[str] | None = None
) -> list[Operation]:
    """Return what moves the claims on the one person to the other, such as active contracts.

    `only` names the holders whose claims move.
    """
    operations: list[Operation] = []
    for held in await claims_on(transaction.connection, pair.old):
        if only is None or held.holder in only:
            operations += [
                Release(kind=held.kind, holder=held.holder, key=pair.old),
                Claim(
                    kind=held.kind,
                    key=pair.new,
                    holder=held.holder,
                    period=held.period,
                    taken=_both_claim(held.kind),
                ),
            ]
    return operations


async def _before(hub: Hub, transaction: Transaction, pair: _Pair) -> dict[Key, Resource | None]:
    """Return the contents before the merge, by the Provenances since the two were last apart."""
    conditions = conditions_of("Provenance", [("target", pair.old), ("target", pair.new)])
    query = SearchQuery(types=("Provenance",), conditions=conditions, count=_HISTORY)
    page = await hub.store.searcher.search(transaction.connection, query)
    records = [resource_json.parse(version.body) for version in page.matches]
    records.sort(key=lambda one: str(one.get("recorded", "")))
    versions: dict[Key, int] = {}
    for record in records:
        code = record.get("activity", {}).get("coding", [{}])[0].get("code")
        if code == "unmerge":
            versions.clear()
        if code != "merge":
            continue
        for entity in record.get("entity", ()):
            type_, id_, _, version = entity["what"]["reference"].split("/")
            versions.setdefault((type_, id_), int(version))
    found = dict[Key, Resource | None].fromkeys(pair.keys)
    for key, version in versions.items():
        stored = await vread(transaction.connection, *key, version)
        found[key] = resource_json.parse(stored.body)
    return found


def _record(
    activity: str, request: Request, pair: _Pair, changed: Mapping[Key, Resource]
) -> dict[str, Any]:
    """Return the Provenance of what happened, with the version of each resource before it."""
    context = context_of(request)
    records = zip(pair.keys, (pair.source, pair.target), strict=True)
    versions = [*records, *changed.items()]
    return {
        "resourceType": "Provenance",
        "target": [{"reference": pair.old}, {"reference": pair.new}],
        "recorded": datetime.now(UTC).isoformat(),
        "activity": {"coding": [{"system": ACTIVITIES, "code": activity}]},
        "agent": [{"who": content.who(context.actor)}],
        "entity": [
            {"role": "revision", "what": {"reference": f"{type_}/{id_}/_history/{_version(one)}"}}
            for (type_, id_), one in versions
        ],
    }


def _update(resource: Resource) -> Update:
    version = _version(resource)
    return Update(resource=resource, if_match=version or None)


def _version(resource: Resource) -> int:
    return int(resource.get("meta", {}).get("versionId", 0))


def _answer(parts: list[Part], result: Resource, count: int, *, is_preview: bool = False) -> Answer:
    done = Issue(
        severity="information",
        code="informational",
        key="merge-done",
        text_en=f"{count} resources {'would refer' if is_preview else 'refer'} to the other record",
        text_zh=f"{count} 个资源{'将改为' if is_preview else '已改为'}指向另一记录",
        fix_en="The Provenance of both records names every version that was changed.",
        fix_zh="两个记录的 Provenance 列出了每个被修改的版本。",
    )
    given = {"resourceType": "Parameters", "parameter": [dict(part) for part in parts]}
    return parameters_answer(
        [
            {"name": "input", "resource": given},
            {"name": "outcome", "resource": to_operation_outcome([done])},
            {"name": "result", "resource": dict(result)},
            {"name": "moved", "valueInteger": count},
        ]
    )


def _too_many() -> Exception:
    return refuse(
        "merge-too-large",
        f"More than {MOST_MOVED} resources refer to the source",
        f"指向源记录的资源超过 {MOST_MOVED} 个",
        "Swap source and target, or ask whoever runs the hub.",
        "请互换源与目标，或联系系统管理员。",
        "Parameters.parameter.where(name = 'source-patient')",
    )


def _both_claim(kind: str) -> Issue:
    return Issue(
        code="conflict",
        key="merge-claimed-twice",
        text_en=f"Both records hold what one person may hold once: {kind}",
        text_zh="两个记录各自占有一人只能占有一次的事项（例如生效的签约）",
        fix_en="End one of the two first (Contract/$terminate, reason 05), then merge.",
        fix_zh="请先解除其中之一（Contract/$terminate），再合并。",
        expression="Parameters.parameter",
    )
