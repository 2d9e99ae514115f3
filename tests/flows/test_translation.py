"""Messages become resources: matched by identifiers, merged, traced, once."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from conformance.problem import InvalidContent, Issue
from fhir_store.inbox_writer import InboxWriter
from fhir_store.outbox import Delivery
from fhir_store.store import Store, make_pool
from mappings.hl7.message import parse
from mappings.translated import (
    HeldCode,
    Match,
    Merge,
    TranslatedMessage,
    TranslatedResource,
    Unmapped,
    key_of,
)
from ops.application_answers import ApplicationAnswers
from ops.bell import Bell
from ops.channel import Channel
from ops.flow_inbound import InboundFlow
from ops.flow_translation import Translation
from ops.lanes import LaneWorkers
from ops.metrics import Metrics

MRN, WARD, VISIT = "urn:oid:1.2.3", "urn:oid:4.5.6", "urn:oid:7.8.9"


def translate(raw, channel):
    """A tiny map: PID to Patient, PV1-3 to Location, PV1-19 to Encounter."""
    message = parse(raw)
    event = message.value("MSH", 9, 2)
    number = message.value("PID", 3)
    if event == "A99":
        return Unmapped(event="ADT^A99", control_id=message.value("MSH", 10))
    patient = key_of(number, "patient")
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": MRN, "value": number}],
        "name": [{"family": message.value("PID", 5)}],
    }
    if message.value("PID", 8):
        resource["gender"] = message.value("PID", 8)
    made = [
        TranslatedResource(
            key=patient, resource=resource, identity=((MRN, number),), match=Match.MERGE,
            trace=(("Patient.name[0].family", "PID[1]-5[1].1", "PID-5"),),
        )
    ]  # fmt: skip
    if visit := message.value("PV1", 19):
        ward = message.value("PV1", 3)
        made.append(
            TranslatedResource(
                key=key_of(ward, "ward"),
                resource={
                    "resourceType": "Location",
                    "identifier": [{"system": WARD, "value": ward}],
                    "name": ward,
                },
                identity=((WARD, ward),),
                match=Match.MERGE,
            )
        )
        made.append(
            TranslatedResource(
                key=key_of(visit, "visit"),
                resource={
                    "resourceType": "Encounter",
                    "status": "in-progress",
                    "class": {"code": "IMP"},
                    "identifier": [{"system": VISIT, "value": visit}],
                    "subject": {"reference": f"urn:uuid:{patient}"},
                    "location": [{"location": {"reference": f"urn:uuid:{key_of(ward, 'ward')}"}}],
                },
                identity=((VISIT, visit),),
                match=Match.REPLACE,
            )
        )
    prior = message.value("MRG", 1)
    merges = (Merge(type="Patient", surviving=((MRN, number),), prior=((MRN, prior),)),)
    held = (HeldCode(table="t", code="x", system="s", source="PV1[1]-2", row="r"),)
    return TranslatedMessage(
        event=f"ADT^{event}",
        control_id=message.value("MSH", 10),
        order_keys=(number,),
        resources=tuple(made),
        merges=merges if prior else (),
        held=held if message.value("PV1", 2) == "?" else (),
        map_name="adt",
        map_hash="abc",
    )


def require_valid(resource):
    if resource["resourceType"] == "Patient" and resource["name"][0]["family"] == "INVALID":
        raise InvalidContent(Issue(key="value", text_en="no", text_zh="不", expression="Patient"))


@pytest.fixture
def open_hub(database_url, adt):
    @asynccontextmanager
    async def opened(choose=None, **channel):
        async with make_pool(database_url, size=8) as pool:
            store = Store(pool, **({"choose_destinations": choose} if choose else {}))
            channels = {"his": Channel(name="his", **channel)}
            metrics, writer = Metrics(), InboxWriter(pool)
            flow = InboundFlow(writer=writer, channels=channels, metrics=metrics)
            work = Translation(
                channels=channels, translate=translate, require_valid=require_valid,
                answers=ApplicationAnswers(channels=channels),
            )  # fmt: skip
            yield Hub(store, flow, work, metrics, Bell(pool, "inbox"))
            await writer.close()

    return opened


class Hub:
    def __init__(self, store, flow, work, metrics, bell):
        self.store, self.flow = store, flow
        self.worker = LaneWorkers(store, work, bell=bell, metrics=metrics, careful=0)

    async def send(self, *payloads):
        from adapters.port import Received

        for payload in payloads:
            await self.flow.accept(
                Received(channel="his", payload=payload, peer="p", received_at=0.0)
            )
        await self.drain()

    async def drain(self):
        lane = 0
        while done := await self.worker.run_once(lane):
            lane = done[0] + 1
            if not done[1]:
                break

    async def rows(self, statement, *values):
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def current(self, type_):
        rows = await self.rows(
            "select body from resource join rtype using (tid) where name = %s and op <> 'd'"
            " order by rid",
            type_,
        )
        return [json.loads(row[0]) for row in rows]


def pv1(visit, ward="W1", kind="I"):
    return f"PV1|1|{kind}|{ward}" + "|" * 16 + visit


def test_one_message_makes_linked_resources_with_trace_and_origin(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            await hub.send(adt("M1", extra=pv1("V1")))
            (patient,) = await hub.current("Patient")
            (encounter,) = await hub.current("Encounter")
            (location,) = await hub.current("Location")
            assert encounter["subject"]["reference"] == f"Patient/{patient['id']}"
            place = encounter["location"][0]["location"]["reference"]
            assert place == f"Location/{location['id']}"
            ((written, trace, trace_id, id_),) = await hub.rows(
                "select written, trace, trace_id, id from inbox join inbox_trace on inbox_id = id"
            )
            assert f"Patient/{patient['id']}/_history/1" in written
            resources = json.loads(trace)["resources"]
            assert resources[f"Patient/{patient['id']}"] == [
                ["Patient.name[0].family", "PID[1]-5[1].1", "PID-5"]
            ]
            audit = await hub.rows("select distinct trace_id, source from audit")
            assert audit == [(trace_id, f"his/{id_}")]

    asyncio.run(run())


def test_what_later_messages_know_is_merged_and_unchanged_records_make_no_version(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            await hub.send(adt("M1", extra=pv1("V1")))
            await hub.rows("select 1")
            await hub.send(
                adt("M2", extra=pv1("V2")).replace(b"||Zhang^San", b"||Wang^San|||female")
            )
            await hub.send(adt("M3", extra=pv1("V3")))
            (patient,) = await hub.current("Patient")
            assert (patient["name"], patient["gender"]) == ([{"family": "Zhang"}], "female")
            assert patient["meta"]["versionId"] == "3"
            (location,) = await hub.current("Location")
            assert location["meta"]["versionId"] == "1"
            assert len(await hub.current("Encounter")) == 3

    asyncio.run(run())


def test_many_messages_of_one_batch_see_each_other(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            for n in range(1, 30):
                await hub.flow.accept(received(adt(f"M{n}", name=f"N{n}", extra=pv1(f"V{n % 3}"))))
            await hub.drain()
            (patient,) = await hub.current("Patient")
            assert patient["name"] == [{"family": "N29"}]
            assert patient["meta"]["versionId"] == "29"
            assert len(await hub.current("Encounter")) == 3

    asyncio.run(run())


def received(payload):
    from adapters.port import Received

    return Received(channel="his", payload=payload, peer="p", received_at=0.0)


def test_lanes_that_meet_the_same_new_record_make_it_once(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            for n in range(60):
                message = adt(f"M{n}", patient=f"P{n}", extra=pv1(f"V{n}", ward=f"W{n % 3}"))
                await hub.flow.accept(received(message))
            await asyncio.gather(*(drain_alone(hub) for _ in range(4)))
            await hub.drain()
            await hub.rows("update inbox set due_at = now() where due_at is not null")
            await hub.drain()
            assert len(await hub.current("Location")) == 3
            assert len(await hub.current("Patient")) == 60
            assert await hub.rows("select distinct state from inbox") == [("translated",)]

    asyncio.run(run())


async def drain_alone(hub):
    lane = 0
    while (done := await hub.worker.run_once(lane)) and done[1]:
        lane = done[0] + 1


def test_a_merge_retires_one_record_and_later_messages_find_the_other(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            await hub.send(adt("M1", patient="OLD"), adt("M2", patient="NEW"))
            await hub.send(adt("M3", patient="NEW", event="A40", extra="MRG|OLD^^^H1^MR"))
            await hub.send(adt("M4", patient="OLD", name="Late"))
            old, new = await hub.current("Patient")
            if old["identifier"][0]["value"] == "NEW":
                old, new = new, old
            assert old["active"] is False
            assert old["link"] == [
                {"other": {"reference": f"Patient/{new['id']}"}, "type": "replaced-by"}
            ]
            assert {"system": MRN, "value": "OLD"}.items() <= new["identifier"][1].items()
            assert new["link"][0]["type"] == "replaces"
            assert new["name"] == [{"family": "Late"}]

    asyncio.run(run())


def test_a_merge_of_an_unknown_record_only_adds_its_identifier(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            await hub.send(adt("M1", patient="NEW", event="A40", extra="MRG|OLD^^^H1^MR"))
            (new,) = await hub.current("Patient")
            assert [one["value"] for one in new["identifier"]] == ["NEW", "OLD"]
            await hub.send(adt("M2", patient="OLD"))
            assert len(await hub.current("Patient")) == 1

    asyncio.run(run())


def test_unmapped_events_and_unknown_codes_have_states_of_their_own(open_hub, adt):
    async def run():
        async with open_hub() as hub:
            await hub.send(
                adt("M1", event="A99"),
                adt("M2", extra=pv1("V1", kind="?")),
                adt("M3"),
                adt("M4", patient="P2", name="INVALID"),
                adt("M5", patient="P3"),
            )
            states = dict(await hub.rows("select control_id, state from inbox"))
            assert states == {
                "M1": "unmapped", "M2": "held", "M3": "received", "M4": "parked",
                "M5": "translated",
            }  # fmt: skip

    asyncio.run(run())


def test_deliveries_and_application_acknowledgements_share_the_commit(open_hub, adt):
    async def run():
        choose = lambda written: [Delivery(destination="province")]  # noqa: E731
        async with open_hub(choose, application_acks="his-acks") as hub:
            await hub.send(adt("M1", f15="AL", f16="AL"))
            rows = await hub.rows(
                "select destination, source_type, payload like '%%MSA|AA|M1%%',"
                " o.trace_id = i.trace_id from outbox o cross join inbox i order by destination"
            )
            assert rows == [
                ("his-acks", "Message", True, True),
                ("province", "Patient", None, True),
            ]

    asyncio.run(run())
