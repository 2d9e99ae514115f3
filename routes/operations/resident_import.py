"""`Patient/$import-residents`: residents from a sheet, deduplicated, with each row's reasons.

A stretch of rows is one commit; the ID cards of a stretch are locked before they are looked for,
so that two imports at once make no resident twice. The same way serves `qiao import residents`.
"""

import asyncio
import base64
import datetime
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from care.identity.matching import replaced_by
from care.identity.residents import Read, answer_sheet, read_rows, template, united
from care.identity.sheets import CSV, XLSX, Sheet, read_sheet
from care.periods import day_of
from conformance import resource_json
from conformance.cphc.operations import definition_of
from conformance.identity_numbers import ID_CARD_SYSTEM
from conformance.problem import EditConflict
from fhir_store.import_reading import import_context
from fhir_store.operations import Create, Operation, Update, WriteContext
from fhir_store.store import Store
from fhir_store.transaction import Transaction
from routes.answer import Answer
from routes.authorize import not_allowed
from routes.guard import may_write_freely
from routes.hub import Hub
from routes.negotiation import media_type_of, unsupported_media_type
from routes.operations.contract_parameters import Given
from routes.operations.parameters import (
    bad_parameter,
    parameters_answer,
    parameters_in,
    parameters_of_url,
)
from routes.registry import Operation as Promise
from routes.request import Request

STRETCH = 500  # rows of one commit
_ATTEMPTS = 3
_HOPS = 8  # merges of merges
Resource = Mapping[str, Any]
Key = tuple[str, str]
OnProgress = Callable[[int, int], Awaitable[None]]


@dataclass(slots=True)
class Report:
    """What became of the rows: counts, and result and reasons by row number."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    results: dict[int, tuple[str, Sequence[str]]] = field(default_factory=dict)

    def note(self, read: Read, result: str, reasons: Sequence[str] = ()) -> None:
        """Count a row and keep what it is told."""
        self.rows += 1
        setattr(self, result, getattr(self, result) + 1)
        self.results[read.row.number] = (_RESULTS[result], reasons)

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        names = ("rows", "created", "updated", "unchanged", "refused")
        return {name: getattr(self, name) for name in names}


_RESULTS = {
    "created": "新建 (created)",
    "updated": "更新 (updated)",
    "unchanged": "无变化 (unchanged)",
    "refused": "未导入 (refused)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentImport:
    """The operation, and which ID cards of tests it lets pass."""

    test_regions: Collection[str] = ()

    def promises(self) -> tuple[Promise, ...]:
        """Return the operations as the registry wants them."""
        promise = partial(
            Promise,
            levels=frozenset({"type"}),
            types=frozenset({"Patient"}),
        )
        return (
            promise(
                code="import-residents",
                definition=definition_of("Patient", "import-residents"),
                handler=self.answer,
                affects_state=True,
            ),
            promise(
                code="resident-template",
                definition=definition_of("Patient", "resident-template"),
                handler=empty_sheet,
            ),
        )

    async def answer(self, hub: Hub, request: Request) -> Answer:
        """Import the sheet in the body; with `dryRun=true` only say what would become of it.

        `task` names a Task that shows the progress while the request runs.
        """
        asked = Given(parameters_of_url(request))
        is_dry = _is_dry(asked)
        task = asked.maybe("task")
        kind = media_type_of(request.header(b"content-type") or "")
        if kind not in (XLSX, CSV):
            raise unsupported_media_type(f"{XLSX}, {CSV}")
        await _require_free(hub, request)
        sheet, reads = await asyncio.to_thread(read_file, request.body, kind, self.test_regions)
        context = import_context(
            hashlib.sha256(request.body).digest(),
            actor=request.caller.fhir_user or request.caller.subject,
            trace_id=request.request_id,
        )
        tell = partial(_tell, hub.store, task, context) if task and not is_dry else _silent
        report = await import_reads(hub.store, reads, context, is_dry=is_dry, on_progress=tell)
        found: list[dict[str, Any]] = [
            {"name": name, "valueInteger": count} for name, count in report.counts().items()
        ]
        found.insert(0, {"name": "dryRun", "valueBoolean": is_dry})
        if report.refused:
            told = await asyncio.to_thread(answer_sheet, sheet, report.results)
            found.append({"name": "sheet", "resource": _binary(told)})
        return parameters_answer(found)


async def empty_sheet(hub: Hub, request: Request) -> Answer:
    """Return the template as a Binary."""
    parameters_in(hub, request)
    return Answer(status=200, body=resource_json.dump(_binary(template())))


def read_file(data: bytes, kind: str, test_regions: Collection[str]) -> tuple[Sheet, list[Read]]:
    """Return the sheet of a file and its rows as residents."""
    sheet = read_sheet(data, kind)
    today = day_of(datetime.datetime.now(datetime.UTC))
    return sheet, read_rows(sheet, today=today, test_regions=test_regions)


async def import_reads(
    store: Store,
    reads: Sequence[Read],
    context: WriteContext,
    *,
    is_dry: bool = False,
    on_progress: OnProgress,
) -> Report:
    """Write the rows stretch by stretch; with `is_dry` everything but the writing."""
    report = Report()
    good = [read for read in reads if not read.reasons]
    for read in reads:
        if read.reasons:
            report.note(read, "refused", read.reasons)
    for start in range(0, len(good), STRETCH):
        stretch = good[start : start + STRETCH]
        for read, result, reasons in await _write(store, stretch, context, is_dry=is_dry):
            report.note(read, result, reasons)
        await on_progress(report.rows, len(reads))
    if not good:
        await on_progress(report.rows, len(reads))
    return report


Outcome = tuple[Read, str, Sequence[str]]


async def _write(
    store: Store, reads: Sequence[Read], context: WriteContext, *, is_dry: bool
) -> list[Outcome]:
    attempt = 0
    while True:
        attempt += 1
        try:
            async with store.begin() as transaction:
                operations, outcomes = await _decide(transaction, reads)
                if operations and not is_dry:
                    await transaction.apply(operations, context=context)
                return outcomes
        except EditConflict:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.1 * attempt)


async def _decide(
    transaction: Transaction, reads: Sequence[Read]
) -> tuple[list[Operation], list[Outcome]]:
    """Return what is to be written for a stretch, and what each row will be told."""
    cards = [(ID_CARD_SYSTEM, read.number) for read in reads]
    known = await transaction.find_by_identifier("Patient", cards, lock=True)
    stored = await _survivors(transaction, {id_ for ids in known.values() for id_ in ids})
    wanted = {
        ("Organization", reference["reference"].partition("/")[2])
        for read in reads
        if read.patient and (reference := read.patient.get("managingOrganization"))
    }
    organisations = await transaction.read_current(sorted(wanted)) if wanted else {}
    operations: list[Operation] = []
    outcomes: list[Outcome] = []
    for read, card in zip(reads, cards, strict=True):
        assert read.patient is not None
        reference = read.patient.get("managingOrganization", {}).get("reference")
        if reference and tuple(reference.split("/")) not in organisations:
            reason = f"管理机构不存在 ({reference} does not exist)"
            outcomes.append((read, "refused", (reason,)))
            continue
        records = {stored[id_]["id"]: stored[id_] for id_ in known.get(card, ()) if id_ in stored}
        if len(records) > 1:
            reason = (
                "该证件号码有多份档案，请先合并 (several records carry it: Patient/$merge them)"
            )
            outcomes.append((read, "refused", (reason,)))
            continue
        made, result, reasons = _one(read, next(iter(records.values()), None))
        operations += made
        outcomes.append((read, result, reasons))
    return operations, outcomes


def _one(read: Read, record: Resource | None) -> tuple[list[Operation], str, Sequence[str]]:
    assert read.patient is not None
    if record is None:
        id_ = str(uuid.uuid4())
        made: list[Operation] = [Create(resource=read.patient, id=id_)]
        if read.guardian is not None:
            made.append(Update(resource=_guardian(read.guardian, id_)))
        return made, "created", ()
    changed, reasons = united(dict(record), read.patient)
    if reasons:
        return [], "refused", reasons
    made = [] if changed == record else [Update(resource=changed)]
    if read.guardian is not None:
        made.append(Update(resource=_guardian(read.guardian, str(record["id"]))))
    return made, "unchanged" if changed == record else "updated", ()


def _guardian(guardian: Resource, patient: str) -> dict[str, Any]:
    return {
        **guardian,
        "id": f"{patient[:50]}-guardian",
        "patient": {"reference": f"Patient/{patient}"},
    }


async def _survivors(transaction: Transaction, ids: set[str]) -> dict[str, Resource]:
    """Return the records of these ids, merged ones as the record that took their place."""
    found: dict[str, Resource] = {}
    wanted = {id_: id_ for id_ in ids}
    for _ in range(_HOPS):
        if not wanted:
            break
        records = await transaction.read_for_update(
            sorted(("Patient", id_) for id_ in set(wanted.values()))
        )
        following = {}
        for id_, at in wanted.items():
            record = records.get(("Patient", at))
            target = replaced_by(record) if record is not None else None
            if target is not None:
                following[id_] = target.rpartition("/")[2]
            elif record is not None:
                found[id_] = record
        wanted = following
    return found


async def _require_free(hub: Hub, request: Request) -> None:
    """Refuse callers who may not create and change every resident: rows tell who is here."""
    samples = [Update(resource={"resourceType": one}) for one in ("Patient", "RelatedPerson")]
    if not await may_write_freely(hub, request, samples):
        raise not_allowed()


def _is_dry(asked: Given) -> bool:
    text = asked.maybe("dryRun") or "false"
    if text not in ("true", "false"):
        # A rehearsal that is misspelt must not become the real thing.
        raise bad_parameter("dryRun", "Give true or false.", "应为 true 或 false。")
    return text == "true"


async def _silent(_done: int, _all: int) -> None:
    """Tell nobody."""


async def _tell(store: Store, task: str, context: WriteContext, done: int, total: int) -> None:
    """Write the progress into the Task that the caller chose."""
    resource = {
        "resourceType": "Task",
        "id": task,
        "status": "completed" if done >= total else "in-progress",
        "intent": "order",
        "code": {"text": "import-residents"},
        "output": [
            {"type": {"text": "rows done"}, "valueInteger": done},
            {"type": {"text": "rows"}, "valueInteger": total},
        ],
    }
    await store.write([Update(resource=resource)], context=context)


def _binary(sheet: bytes) -> dict[str, Any]:
    return {
        "resourceType": "Binary",
        "contentType": XLSX,
        "data": base64.b64encode(sheet).decode(),
    }
