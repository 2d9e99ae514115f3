"""The ledger keeps what was answered, whatever happens to the process."""

import asyncio
import pathlib

import pytest

from adapters.province.ledger import Entry, Ledger, read_ledger


def entry(msg_id: str, number: str = "P1") -> Entry:
    return Entry(
        msg_id=msg_id,
        registration_no=number,
        org_code="H",
        business_type="resident",
        operation="A",
        data_version="1",
        digest="d",
        subject="s" + number,
        registered_at="2026-01-02T00:00:00+00:00",
    )


def test_entries_written_at_once_are_all_on_disk(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.jsonl"

    async def scenario() -> None:
        ledger = Ledger(path)
        await asyncio.gather(*(ledger.enter(entry(f"m{number}")) for number in range(200)))

    asyncio.run(scenario())
    assert sorted(found.msg_id for found in read_ledger(path)) == sorted(
        f"m{number}" for number in range(200)
    )
    assert len(Ledger(path)) == 200


def test_a_torn_last_line_is_dropped_and_the_next_entry_is_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.jsonl"
    asyncio.run(Ledger(path).enter(entry("m1")))
    with path.open("ab") as file:
        file.write(b'{"msg_id": "m2", "regis')
    assert [found.msg_id for found in read_ledger(path)] == ["m1"]
    ledger = Ledger(path)
    asyncio.run(ledger.enter(entry("m3", ledger.number_of("another"))))
    assert [found.msg_id for found in read_ledger(path)] == ["m1", "m3"]


def test_a_person_keeps_the_registration_number_over_a_restart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    number = ledger.number_of("sP00000001")
    asyncio.run(ledger.enter(entry("m1", number)))
    again = Ledger(path)
    assert again.number_of("sP00000001") == number
    assert again.number_of("somebody else") != number


def test_nothing_is_kept_where_the_disk_refuses(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.jsonl"

    async def scenario() -> None:
        ledger = Ledger(path)
        path.mkdir()
        with pytest.raises(OSError, match="directory"):
            await ledger.enter(entry("m1"))
        assert ledger.find("m1") is None

    asyncio.run(scenario())
