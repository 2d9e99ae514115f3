"""Merges and links of records as the maps of the hub read them, in the store."""

import asyncio
import dataclasses

import orjson
import pytest

from mappings.engine.library import load
from ops.flow_translation import Translation, translator_of

TRANSLATOR = translator_of(load())
OTHER = "PID|2||P2^^^H1^MR||王^五||19810101|M"
CARD = "999001199001011239^^^^NNCHN"


async def _patients(spine):
    bodies = await spine.rows(
        "select body from resource join rtype using (tid) where name = 'Patient'"
    )
    parsed = [orjson.loads(body) for (body,) in bodies]
    return {one["identifier"][0]["value"]: one for one in parsed}


@pytest.fixture
def hub(open_spine, adt):
    def run(*messages, translate=TRANSLATOR.translate):
        async def running():
            async with open_spine() as spine:
                spine.work = Translation(channels=spine.flow.channels, translate=translate)
                for message in messages:
                    await spine.send(message)
                    await spine.drain()
                return await spine.states(), await _patients(spine)

        return asyncio.run(running())

    return run


def _link(record, kind):
    return [one["other"]["reference"] for one in record.get("link", ()) if one["type"] == kind]


def test_a_link_stands_in_both_records_and_an_unlink_takes_it_out_of_both(hub, adt):
    link = adt("M3", patient="P1", event="A24", extra=OTHER)
    states, linked = hub(adt("M1", patient="P1"), adt("M2", patient="P2"), link)
    assert set(states.values()) == {"translated"}
    one, other = linked["P1"], linked["P2"]
    assert _link(one, "seealso") == [f"Patient/{other['id']}"]
    assert _link(other, "seealso") == [f"Patient/{one['id']}"]
    assert one.get("active", True)
    assert other.get("active", True)


def test_an_unlink_takes_the_link_out_of_both(hub, adt):
    link = adt("M3", patient="P1", event="A24", extra=OTHER)
    unlink = adt("M4", patient="P2", event="A37", extra=OTHER.replace("P2", "P1"))
    later = adt("M5", patient="P1", name="Late")
    _, records = hub(adt("M1", patient="P1"), link, unlink, later)
    assert len(records) == 2
    assert not any("link" in record for record in records.values())


def test_a_linked_record_keeps_its_link_when_the_next_message_comes(hub, adt):
    link = adt("M1", patient="P1", event="A24", extra=OTHER)
    _, records = hub(link, link.replace(b"M1", b"M2"), adt("M3", patient="P1", name="Late"))
    assert len(_link(records["P1"], "seealso")) == 1
    assert len(_link(records["P2"], "seealso")) == 1


def _merge_of_a_card(adt):
    """A changed number: the card that the person keeps stands in PID-3 and in MRG-1."""
    return adt("M1", patient="P1", event="A47", extra=f"MRG|OLD^^^H1^MR~{CARD}").replace(
        b"P1^^^H1^MR", f"P1^^^H1^MR~{CARD}".encode()
    )


def test_a_merge_retires_the_prior_record_though_both_name_the_card(hub, adt):
    _, records = hub(adt("M0", patient="OLD"), _merge_of_a_card(adt), adt("M2", patient="OLD"))
    assert [records["OLD"]["active"], records["P1"].get("active", True)] == [False, True]
    assert _link(records["OLD"], "replaced-by") == [f"Patient/{records['P1']['id']}"]
    assert {one["value"] for one in records["P1"]["identifier"]} == {
        "P1",
        "OLD",
        "999001199001011239",
    }


def test_a_repeated_merge_leaves_the_surviving_record_active(hub, adt):
    again = _merge_of_a_card(adt).replace(b"M1", b"M9")
    states, records = hub(adt("M0", patient="OLD"), _merge_of_a_card(adt), again)
    assert set(states.values()) == {"translated"}
    assert records["P1"].get("active", True)
    assert len(_link(records["P1"], "replaces")) == 1


def test_without_the_merge_the_prior_record_would_switch_it_off(hub, adt):
    def translate(raw, channel):
        result = TRANSLATOR.translate(raw, channel)
        return dataclasses.replace(result, merges=())

    again = _merge_of_a_card(adt).replace(b"M1", b"M9")

    def second_alone(raw, channel):
        return (translate if b"M9" in raw else TRANSLATOR.translate)(raw, channel)

    _, records = hub(adt("M0", patient="OLD"), _merge_of_a_card(adt), again, translate=second_alone)
    assert records["P1"]["active"] is False


def test_a_number_that_did_not_change_merges_nothing(hub, adt):
    same = adt("M1", patient="P1", event="A47", extra="MRG|P1^^^H1^MR")
    _, records = hub(same)
    (record,) = records.values()
    assert "active" not in record
    assert "link" not in record
