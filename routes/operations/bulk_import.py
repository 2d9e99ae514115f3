"""`$import`: NDJSON or a Bundle through the same door as `qiao import`, in one request."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

from conformance.cphc.operations import definition_of
from conformance.problem import (
    EditConflict,
    InvalidContent,
    Issue,
    NotAllowed,
    Problem,
    to_operation_outcome,
)
from conformance.structure import require_valid
from fhir_store.import_reading import (
    RefusedLine,
    Requests,
    bundle_request,
    import_context,
    read_lines,
)
from fhir_store.operations import WriteContext, WriteRequest
from routes.answer import Answer
from routes.authorize import not_allowed
from routes.bodies import require_claimed_profiles, resource_of
from routes.guard import may_write_freely, type_of
from routes.hub import Hub
from routes.negotiation import media_type_of
from routes.operations.parameters import parameters_answer
from routes.registry import Operation
from routes.request import Request
from routes.statuses import too_long
from routes.writing import require_no_parameters

NDJSON = frozenset({"application/fhir+ndjson", "application/ndjson", "application/x-ndjson"})
# One commit each; so many are read at once beside the requests of others.
LINES_TOGETHER = 250
# An answer stays readable: so many are told with their outcomes, all by their numbers.
_TOLD = 200
# Writers who collide are told to try again; here we do.
_ATTEMPTS = 3

IMPORT = definition_of("", "import")


def import_operation() -> Operation:
    """Return the operation as the registry wants it."""
    return Operation(
        code="import",
        definition=IMPORT,
        levels=frozenset({"system"}),
        handler=import_resources,
        affects_state=True,
    )


async def import_resources(hub: Hub, request: Request) -> Answer:
    """Bring resources in under their ids; answer counts, and which lines were refused.

    Only for callers who may create and update everything of the types that are in the body.
    """
    require_no_parameters(request)
    context = import_context(
        hashlib.sha256(request.body).digest(),
        actor=request.caller.fhir_user or request.caller.subject,
        trace_id=request.request_id,
    )
    await hub.refresh_definitions()
    if media_type_of(request.header(b"content-type") or "") not in NDJSON:
        return await _import_bundle(hub, request, context)
    lines = request.body.splitlines()
    written, refused = 0, list[RefusedLine]()
    async for requests, unread in _read(hub, lines, context):
        allowed, forbidden = await _allowed(hub, request, requests)
        count, unwritten = await _write(hub, allowed)
        written += count
        refused += sorted((*unread, *forbidden, *unwritten), key=lambda one: one.line)
    return _answer(sum(1 for line in lines if line.strip()), written, refused)


async def _read(
    hub: Hub, lines: list[bytes], context: WriteContext
) -> AsyncIterator[tuple[Requests, list[RefusedLine]]]:
    """Yield the lines part by part; the next part is read while the last one is written."""
    check = partial(_check, hub)
    ahead = None
    try:
        for start in range(0, len(lines) + LINES_TOGETHER, LINES_TOGETHER):
            done, ahead = ahead, None
            if part := lines[start : start + LINES_TOGETHER]:
                reading = asyncio.to_thread(read_lines, part, start + 1, context, check)
                ahead = asyncio.ensure_future(reading)
            if done is not None:
                yield await done
    finally:
        if ahead is not None:
            ahead.cancel()


async def _import_bundle(hub: Hub, request: Request, context: WriteContext) -> Answer:
    bundle = resource_of(request, hub)
    if bundle.get("resourceType") != "Bundle":
        raise InvalidContent(_NO_BUNDLE)
    entries = bundle.get("entry", ())
    if isinstance(entries, list) and len(entries) > hub.limits.bundle_entries:
        limit = f"{hub.limits.bundle_entries}"
        raise too_long("The list of entries", "条目数量", limit, "Bundle.entry")
    await asyncio.to_thread(_check, hub, bundle)
    requests: Requests = [(1, bundle_request(bundle, context))]
    allowed, _ = await _allowed(hub, request, requests)
    if not allowed:
        raise not_allowed()
    written, refused = await _write(hub, allowed)
    if refused:
        raise InvalidContent(*refused[0].issues)
    return _answer(len(entries), written, [])


def _check(hub: Hub, resource: Mapping[str, Any]) -> None:
    require_valid(resource)
    require_claimed_profiles(resource, hub)


async def _allowed(
    hub: Hub, request: Request, requests: Requests
) -> tuple[Requests, list[RefusedLine]]:
    """Split the requests by whether the caller may write all that they write, unnarrowed."""
    allowed: Requests = []
    forbidden: list[RefusedLine] = []
    judged: dict[frozenset[tuple[type, str]], bool] = {}  # lines of one type have one verdict
    for number, one in requests:
        kinds = frozenset((type(operation), type_of(operation)) for operation in one.operations)
        is_free = judged.get(kinds)
        if is_free is None:
            is_free = judged[kinds] = await _is_free(hub, request, one)
        if is_free:
            allowed.append((number, one))
        else:
            forbidden.append(RefusedLine(number, not_allowed().issues))
    return allowed, forbidden


async def _is_free(hub: Hub, request: Request, one: WriteRequest) -> bool:
    try:
        return await may_write_freely(hub, request, one.operations)
    except NotAllowed:
        return False


async def _write(hub: Hub, requests: Requests) -> tuple[int, list[RefusedLine]]:
    """Write the requests in one commit; return how many resources changed, and what failed."""
    if not requests:
        return 0, []
    attempt = 0
    while True:
        attempt += 1
        try:
            async with hub.store.begin() as transaction:
                results = await transaction.apply_each([one for _, one in requests])
            break
        except EditConflict:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.1 * attempt)
    written = 0
    refused: list[RefusedLine] = []
    for (number, _), result in zip(requests, results, strict=True):
        if isinstance(result, Problem):
            refused.append(RefusedLine(number, tuple(result.issues)))
        else:
            written += sum(one.changed for one in result)
    return written, refused


def _answer(count: int, written: int, refused: list[RefusedLine]) -> Answer:
    parameters: list[dict[str, Any]] = [
        {"name": "resources", "valueInteger": count},
        {"name": "written", "valueInteger": written},
        {"name": "refused", "valueInteger": len(refused)},
    ]
    if refused:
        lines = ranges([one.line for one in refused])
        parameters.append({"name": "refused-lines", "valueString": lines})
    for one in refused[:_TOLD]:
        parts = [
            {"name": "line", "valueInteger": one.line},
            {"name": "outcome", "resource": to_operation_outcome(one.issues)},
        ]
        parameters.append({"name": "error", "part": parts})
    return parameters_answer(parameters)


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text, neighbours together: `3,5-9`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)


_NO_BUNDLE = Issue(
    code="invalid",
    key="import-body",
    text_en="The body is neither NDJSON nor a Bundle.",
    text_zh="请求体既不是 NDJSON 也不是 Bundle。",
    fix_en="Send Content-Type: application/fhir+ndjson with a resource a line, or a Bundle.",
    fix_zh="请以 application/fhir+ndjson 每行发送一个资源，或发送一个 Bundle。",
    expression="http.body",
)
