"""The simulator's ledger: an append-only file of what it registered, on disk before it answers."""

import asyncio
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered message; `subject` is a digest that stands for what it is about.

    `number` names institutions, doctors, teams and contracts (nothing names residents), `step` is
    the step of a contract's life.
    """

    msg_id: str
    registration_no: str
    org_code: str
    business_type: str
    operation: str
    data_version: str
    digest: str
    subject: str
    registered_at: str
    number: str = ""
    step: str = ""


class Ledger:
    """Finds and appends entries; one message id is entered once."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._numbers: dict[str, str] = {}
        self._steps: dict[tuple[str, str], list[str]] = {}
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._written: dict[str, asyncio.Future[None]] = {}
        self._writer: asyncio.Task[None] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        for entry in read_ledger(path):
            self._remember(entry)

    def __len__(self) -> int:
        """Return how many messages are registered."""
        return len(self._entries)

    def find(self, msg_id: str) -> Entry | None:
        """Return what was registered under a message id."""
        return self._entries.get(msg_id)

    def is_registered(self, business_type: str, subject: str) -> bool:
        """Say whether something of that kind was registered."""
        return (business_type, subject) in self._steps

    def steps_of(self, subject: str) -> list[str]:
        """Return the steps registered of a contract, in their order."""
        return self._steps.get(("contract", subject), [])

    def number_of(self, subject: str) -> str:
        """Return the subject's registration number, the same at every message about it."""
        return self._numbers.setdefault(subject, f"P{len(self._numbers) + 1:08d}")

    async def enter(self, entry: Entry) -> None:
        """Keep the entry; on return it is on disk."""
        loop = asyncio.get_running_loop()
        self._remember(entry)
        written = self._written[entry.msg_id] = loop.create_future()
        self._waiting.append((entry, written))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write())
        await asyncio.shield(written)

    async def settled(self, msg_id: str) -> None:
        """Wait until an entry being written is on disk."""
        written = self._written.get(msg_id)
        if written is not None:
            await asyncio.shield(written)

    def _remember(self, entry: Entry) -> None:
        self._entries[entry.msg_id] = entry
        self._numbers[entry.subject] = entry.registration_no
        self._steps.setdefault((entry.business_type, entry.subject), []).append(entry.step)

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.msg_id, None)
        steps = self._steps[entry.business_type, entry.subject]
        steps.remove(entry.step)
        if not steps:
            del self._steps[entry.business_type, entry.subject]

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            lines = "".join(
                json.dumps(asdict(entry), ensure_ascii=False, sort_keys=True) + "\n"
                for entry, _ in batch
            )
            broken: OSError | None = None
            try:
                await asyncio.to_thread(_append, self._path, lines.encode())
            except OSError as failed:
                broken = failed
            for entry, written in batch:
                self._written.pop(entry.msg_id, None)
                if broken is None:
                    written.set_result(None)
                else:
                    self._forget(entry)
                    written.set_exception(broken)


def read_ledger(path: pathlib.Path) -> Iterator[Entry]:
    """Yield the entries of a ledger file; a torn last line was never answered and is left out."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield Entry(**json.loads(line))


def _append(path: pathlib.Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _drop_torn_line(path: pathlib.Path) -> None:
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)
