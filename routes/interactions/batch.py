"""The batch and transaction interactions."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from conformance.problem import InvalidContent, Issue, Problem
from conformance.structure import require_valid
from fhir_store.bundle import BundleEntry, BundlePlan, entries_of, plan_transaction
from fhir_store.operations import Written
from fhir_store.references import open_references
from routes.address import address_of
from routes.answer import Answer
from routes.auditing import answer_audited
from routes.bodies import (
    claims_profiles,
    require_claimed_profiles,
    require_same_type,
    resource_of,
)
from routes.bundle_bytes import bundle
from routes.dispatch import handler_of
from routes.entry_bytes import answered_entry, refused_entry, written_entry
from routes.hub import Hub
from routes.interactions.patch import Change, change_in_entry
from routes.registry import Handler, Registry
from routes.request import Request, parse_query, take_shape
from routes.statuses import too_long
from routes.writing import require_no_parameters, write_all

# Entries of a batch that are worked on at once; more would starve everybody else.
_AT_ONCE = 16
_TEXTS = frozenset({"method", "url", "ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince"})


def batch_of(registry: Callable[[], Registry]) -> Handler:
    """Return the interaction; its entries are answered by the same registry."""

    async def batch(hub: Hub, request: Request) -> Answer:
        """Carry out the entries of a Bundle: each for itself, or all or none.

        https://hl7.org/fhir/R4/http.html#transaction
        """
        require_no_parameters(request)
        resource = resource_of(request, hub)
        require_same_type(resource, "Bundle")
        kind, entries = resource.get("type"), resource.get("entry", [])
        if kind not in ("batch", "transaction") or not isinstance(entries, list):
            raise InvalidContent(_WRONG_KIND)
        if len(entries) > hub.limits.bundle_entries:
            limit = f"{hub.limits.bundle_entries} entries"
            raise too_long("The Bundle", "Bundle ", limit, "Bundle.entry")
        if kind == "batch":
            return await _batch(hub, request, entries, registry())
        return await _transaction(hub, request, resource, registry())

    return batch


async def _batch(hub: Hub, request: Request, entries: list[Any], registry: Registry) -> Answer:
    turns = asyncio.Semaphore(_AT_ONCE)
    full_urls = {
        raw.get("fullUrl")
        for raw in entries
        if _is_entry(raw) and raw["request"].get("method") == "POST"
    }

    async def answer(raw: Any) -> bytes:
        async with turns:
            try:
                if not _is_entry(raw):
                    raise InvalidContent(_WRONG_ENTRY)
                (entry,) = entries_of({"entry": [raw]}, base=request.base)
                if entry.resource and full_urls.intersection(open_references(entry.resource)):
                    raise InvalidContent(_NOT_LINKED)
                return await _answer_alone(hub, request, entry, registry)
            except Problem as problem:
                return refused_entry(problem)

    answers = await asyncio.gather(*(answer(raw) for raw in entries))
    return Answer(status=200, body=bundle("batch-response", answers))


def _is_entry(raw: Any) -> bool:
    """Say whether the parts that are read before the resource is judged have their types."""
    request = raw.get("request") if isinstance(raw, dict) else None
    return (
        isinstance(request, dict)
        and all(isinstance(request[name], str) for name in _TEXTS & request.keys())
        and isinstance(raw.get("fullUrl", ""), str)
        and isinstance(raw.get("resource", {}), dict)
    )


async def _transaction(
    hub: Hub, request: Request, resource: dict[str, Any], registry: Registry
) -> Answer:
    require_valid(resource)
    if claims_profiles(resource):
        await hub.refresh_definitions()
        require_claimed_profiles(resource, hub)
    plan = plan_transaction(entries_of(resource, base=request.base), change_of=_change_of)

    async def answer(written: list[Written], request: Request) -> Answer:
        return await _transaction_answer(hub, request, plan, written, registry)

    if not plan.operations:
        return await answer([], request)
    return await write_all(hub, request, plan.operations, answer, is_transaction=True)


def _change_of(entry: BundleEntry) -> Change:
    return change_in_entry(entry.resource)


async def _transaction_answer(
    hub: Hub, request: Request, plan: BundlePlan, written: Sequence[Written], registry: Registry
) -> Answer:
    """Answer in the order of the request; reads are answered after the writes are committed."""
    answers = {
        entry.position: written_entry(one, request)
        for entry, one in zip(plan.writes, written, strict=True)
    }
    for entry in plan.others:
        try:
            answers[entry.position] = await _answer_alone(hub, request, entry, registry)
        except Problem as problem:
            answers[entry.position] = refused_entry(problem)
    ordered = [answers[position] for position in sorted(answers)]
    return Answer(status=200, body=bundle("transaction-response", ordered))


async def _answer_alone(
    hub: Hub, request: Request, entry: BundleEntry, registry: Registry
) -> bytes:
    """Answer one entry as if it had come alone."""
    path, _, query = entry.url.partition("?")
    address = address_of(path)
    if address.shape == "" and entry.method == "POST":
        raise InvalidContent(_NESTED)
    name, handler = handler_of(registry, entry.method, address)
    asked = parse_query(query.encode("utf-8", "replace"), hub.limits)
    shape, pairs = take_shape(
        asked,
        "",
        address.member or address.type,
        is_lenient=request.prefer.is_lenient,
    )
    alone = Request(
        method=entry.method,
        address=address,
        query=pairs,
        asked=asked,
        headers=_headers_of(entry),
        resource=dict(entry.resource) if entry.resource is not None else None,
        patch=change_in_entry(entry.resource) if entry.method == "PATCH" else None,
        shape=shape,
        prefer=request.prefer,
        caller=request.caller,
        base=request.base,
        request_id=request.request_id,
    )
    return answered_entry(await answer_audited(hub, alone, name, handler), alone)


def _headers_of(entry: BundleEntry) -> dict[bytes, bytes]:
    headers = {
        b"if-match": None if entry.if_match is None else f'W/"{entry.if_match}"',
        b"if-none-match": entry.if_none_match,
        b"if-modified-since": entry.if_modified_since,
        b"if-none-exist": entry.if_none_exist,
    }
    return {
        name: value.encode("latin-1", "replace")
        for name, value in headers.items()
        if value is not None
    }


_WRONG_KIND = Issue(
    code="value",
    key="bundle-type",
    text_en="The Bundle is neither a batch nor a transaction.",
    text_zh="该 Bundle 既不是 batch 也不是 transaction。",
    fix_en="Set Bundle.type to batch or transaction; send other Bundles to [base]/Bundle.",
    fix_zh="请将 Bundle.type 设为 batch 或 transaction；其他 Bundle 请发送到 [base]/Bundle。",
    expression="Bundle.type",
)
_NESTED = Issue(
    code="not-supported",
    key="bundle-nested",
    text_en="An entry of a batch or transaction is itself one.",
    text_zh="batch 或 transaction 的条目中又含有 batch 或 transaction。",
    fix_en="Send the inner Bundle as a request of its own.",
    fix_zh="请将内层 Bundle 单独发送。",
    expression="Bundle.entry.request.url",
)
_NOT_LINKED = Issue(
    code="business-rule",
    key="batch-reference",
    text_en="The resource refers to another entry; those of a batch know nothing of each other.",
    text_zh="资源引用了另一条目，而 batch 的各条目互不相关。",
    fix_en="Set Bundle.type to transaction, or create what is referred to first.",
    fix_zh="请将 Bundle.type 设为 transaction，或先创建被引用的资源。",
    expression="Bundle.entry.resource",
)
_WRONG_ENTRY = Issue(
    code="required",
    key="entry-request",
    text_en="The entry has no request, or not of the right form.",
    text_zh="条目缺少 request，或其格式有误。",
    fix_en="Give each entry request.method and request.url.",
    fix_zh="请为每个条目给出 request.method 和 request.url。",
    expression="Bundle.entry.request",
)
