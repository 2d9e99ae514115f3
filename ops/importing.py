"""Imports: NDJSON files and Bundles through the write door, by several processes.

A file is cut into stretches of whole lines; each stretch is one commit that also notes its end,
so an interrupted import goes on where it was. A line that is refused is reported and the others
go in. Resources keep their ids; nothing is delivered to partners; meta.source names the import.
"""

import asyncio
import gc
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conformance.problem import Issue, Problem, to_operation_outcome
from conformance.resource_json import parse
from conformance.structure import require_valid
from fhir_store.import_progress import Counts, done_stretches, note_stretch
from fhir_store.import_reading import (
    LINE_BYTES,
    RefusedLine,
    Requests,
    bundle_request,
    import_context,
    read_lines,
)
from fhir_store.operations import Update, WriteContext, WriteRequest, Written
from fhir_store.store import Store, make_pool
from ops.laws import lawful_store

STRETCH_BYTES = 1_000_000  # about a thousand resources: one commit, and what a crash repeats
_EDGE = 65_536
_STATEMENT_SECONDS = 120.0
_ATTEMPTS = 3
_AT_ONCE = 2  # stretches of one process: while the server writes one, the next is read
_IN_A_SHIFT = 4  # stretches of one call: a connection and its prepared statements for all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Some whole lines of a file, or a whole Bundle; `source` knows the file again."""

    path: str
    source: bytes
    start: int
    end: int
    first_line: int
    is_bundle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One line, or entry of a Bundle, that did not go in, and why."""

    path: str
    line: int
    issues: tuple[Issue, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the line of the report."""
        return {
            "file": self.path,
            "line": self.line,
            "outcome": to_operation_outcome(self.issues),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one stretch."""

    stretch: Stretch
    counts: Counts
    refused: tuple[Refused, ...] = ()


def stretches_of(path: pathlib.Path) -> Iterator[Stretch]:
    """Cut a file at line ends; a .json file is one Bundle and stays whole."""
    source = _digest_of(path)
    size = path.stat().st_size
    if path.suffix == ".json":
        whole = Stretch(
            path=str(path), source=source, start=0, end=size, first_line=1, is_bundle=True
        )
        yield whole
        return
    start, line = 0, 1
    with path.open("rb") as file:
        while start < size:
            file.seek(start)
            block = file.read(STRETCH_BYTES)
            if start + len(block) < size and not block.endswith(b"\n"):
                block += file.readline(LINE_BYTES)
            end = start + len(block)
            yield Stretch(path=str(path), source=source, start=start, end=end, first_line=line)
            line += block.count(b"\n")
            start = end


def shifts(stretches: Sequence[Stretch], workers: int) -> list[Sequence[Stretch]]:
    """Return the stretches in groups of a few, for one call of a worker process each."""
    size = max(1, min(_IN_A_SHIFT, -(-len(stretches) // workers)))
    return [stretches[first : first + size] for first in range(0, len(stretches), size)]


def open_stretches(database_url: str, stretches: Iterable[Stretch]) -> tuple[list[Stretch], Counts]:
    """Return those that are not in yet, and what became of the others."""
    return asyncio.run(_open_stretches(database_url, list(stretches)))


def import_stretches(
    database_url: str, stretches: Sequence[Stretch], report: pathlib.Path | None = None
) -> list[Outcome]:
    """Write each stretch in a commit of its own; run by a worker process.

    While the server writes one, the next is read and indexed. Refused lines stand in the report
    before the commit, so that no end of this process can lose them.
    """
    gc.disable()  # a stretch makes a million objects and no cycles; looking for some costs a fifth
    try:
        return asyncio.run(_import_stretches(database_url, stretches, report))
    finally:
        gc.enable()


async def _open_stretches(
    database_url: str, stretches: Sequence[Stretch]
) -> tuple[list[Stretch], Counts]:
    async with (
        make_pool(database_url, size=1, name="qiao import") as pool,
        pool.connection() as connection,
    ):
        done = {
            source: await done_stretches(connection, source)
            for source in {stretch.source for stretch in stretches}
        }
    due = [stretch for stretch in stretches if stretch.start not in done[stretch.source]]
    found = (done[stretch.source].get(stretch.start) for stretch in stretches)
    return due, total_of(counts for counts in found if counts is not None)


async def _import_stretches(
    database_url: str, stretches: Sequence[Stretch], report: pathlib.Path | None
) -> list[Outcome]:
    gate = asyncio.Semaphore(_AT_ONCE)
    pool = make_pool(
        database_url, size=_AT_ONCE, statement_seconds=_STATEMENT_SECONDS, name="qiao import"
    )

    async def imported(store: Store, stretch: Stretch) -> Outcome:
        async with gate:
            return await _import_stretch(store, stretch, report)

    async with pool:
        store = lawful_store(pool)
        return list(await asyncio.gather(*(imported(store, one) for one in stretches)))


async def _import_stretch(store: Store, stretch: Stretch, report: pathlib.Path | None) -> Outcome:
    with pathlib.Path(stretch.path).open("rb") as file:
        file.seek(stretch.start)
        data = file.read(stretch.end - stretch.start)
    context = import_context(stretch.source)
    read = _read_bundle if stretch.is_bundle else _read_lines
    requests, unread, lines = read(stretch, data, context)

    def told(results: Sequence[Result]) -> None:
        if report is not None:
            _report(report, _refused(stretch, requests, unread, results))

    results = await _write(store, stretch, requests, len(unread), lines, told)
    return Outcome(
        stretch=stretch,
        counts=_counts_of(results, len(unread), lines),
        refused=_refused(stretch, requests, unread, results),
    )


def _refused(
    stretch: Stretch,
    requests: Requests,
    unread: Sequence[RefusedLine],
    results: Sequence["Result"],
) -> tuple[Refused, ...]:
    lines = [
        *unread,
        *(
            RefusedLine(line, tuple(result.issues))
            for (line, _), result in zip(requests, results, strict=True)
            if isinstance(result, Problem)
        ),
    ]
    return tuple(
        Refused(path=stretch.path, line=one.line, issues=one.issues)
        for one in sorted(lines, key=lambda one: one.line)
    )


def _report(report: pathlib.Path, refused: Sequence[Refused]) -> None:
    """Append lines to the report at once: several processes write to it."""
    if refused:
        text = "".join(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in refused)
        with report.open("ab", buffering=0) as listing:
            listing.write(text.encode())
            os.fsync(listing.fileno())


def drop_repeats(report: pathlib.Path) -> None:
    """Leave the last word on each line: a stretch that did not come to its commit is read again."""
    last: dict[tuple[str, int], str] = {}
    for text in report.read_text(encoding="utf-8").splitlines():
        try:
            one = json.loads(text)
        except ValueError:  # cut off in the middle by the end of its process
            continue
        last.pop((one["file"], one["line"]), None)
        last[one["file"], one["line"]] = text
    whole = report.with_name(report.name + ".new")
    whole.write_text("".join(text + "\n" for text in last.values()), encoding="utf-8")
    whole.replace(report)


Result = list[Written] | Problem


async def _write(
    store: Store,
    stretch: Stretch,
    requests: Requests,
    refused: int,
    lines: int,
    told: Callable[[Sequence[Result]], None],
) -> list[Result]:
    """Write all requests and note the stretch in one commit, again when writers collide."""
    attempt = 0
    while True:
        attempt += 1
        try:
            async with store.begin() as transaction:
                results = await transaction.apply_each([request for _, request in requests])
                told(results)
                counts = _counts_of(results, refused, lines)
                await note_stretch(transaction.connection, stretch.source, stretch.start, counts)
                return results
        except Problem:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.1 * attempt)


def _counts_of(results: Sequence[Result], refused: int, lines: int) -> Counts:
    written = sum(
        one.changed for result in results if not isinstance(result, Problem) for one in result
    )
    return Counts(lines=lines, written=written, failed=refused + _failed(results))


def _failed(results: Sequence[Result]) -> int:
    return sum(isinstance(result, Problem) for result in results)


def _read_lines(
    stretch: Stretch, data: bytes, context: WriteContext
) -> tuple[Requests, list[RefusedLine], int]:
    lines = data.splitlines()
    requests, refused = read_lines(lines, stretch.first_line, context)
    return requests, refused, len(lines)


def _read_bundle(
    _stretch: Stretch, data: bytes, context: WriteContext
) -> tuple[Requests, list[RefusedLine], int]:
    """Read a file of one resource, which is a Bundle or goes in as it is."""
    try:
        bundle = parse(data)
        require_valid(bundle)
        if bundle["resourceType"] != "Bundle":
            request = WriteRequest(operations=[Update(resource=bundle)], context=context)
        else:
            request = bundle_request(bundle, context)
    except Problem as problem:
        return [], [RefusedLine(1, tuple(problem.issues))], 1
    return [(1, request)], [], 1


def _digest_of(path: pathlib.Path) -> bytes:
    """Return what knows a file again: its size, its beginning and its end."""
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(-min(_EDGE, path.stat().st_size), os.SEEK_END)
        digest.update(file.read(_EDGE))
    return digest.digest()


def total_of(outcomes: Iterable[Counts]) -> Counts:
    """Return the sum."""
    total = Counts()
    for one in outcomes:
        total = replace(
            total,
            lines=total.lines + one.lines,
            written=total.written + one.written,
            failed=total.failed + one.failed,
        )
    return total
