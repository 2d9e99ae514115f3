"""An order is found by its own number, also where two others carry the placer's."""

import asyncio

import orjson

from mappings.hl7.message import parse
from mappings.translated import Match, TranslatedMessage, TranslatedResource, key_of
from ops.flow_translation import Translation

PLACER, FILLER = "urn:oid:1.1", "urn:oid:1.2"


def translate(raw, channel):
    """An order for each ORC, identified by the number of its filler, else of its placer."""
    made = []
    for number, orc in enumerate(parse(raw).all("ORC")):
        pairs = [(FILLER, orc.field(3)), (PLACER, orc.field(2))]
        pairs = [pair for pair in pairs if pair[1]]
        resource = {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": {"display": "P1"},
            "identifier": [{"system": system, "value": value} for system, value in pairs],
            "priority": orc.field(4) or "routine",
        }
        made.append(
            TranslatedResource(
                key=key_of(str(number)), resource=resource, identity=(pairs[0],), match=Match.MERGE
            )
        )
    return TranslatedMessage(
        event="ORM^O01", control_id="1", order_keys=("P1",), resources=tuple(made)
    )


def test_a_placer_number_that_two_filled_orders_share_means_a_third_order(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            spine.work = Translation(channels=spine.flow.channels, translate=translate)
            for control_id, orders in (
                ("M1", "ORC|NW|PL1|F1\rORC|NW|PL1|F2"),
                ("M2", "ORC|NW|PL1|"),
                ("M3", "ORC|XO|PL1||urgent"),
                ("M4", "ORC|XO|PL1|F2|stat"),
            ):
                await spine.send(adt(control_id, extra=orders))
                await spine.drain()
            assert set((await spine.states()).values()) == {"translated"}
            orders = [
                orjson.loads(body) for (body,) in await spine.rows("select body from resource")
            ]
            found = {
                tuple(one["value"] for one in order["identifier"]): order["priority"]
                for order in orders
            }
            assert found == {("F1", "PL1"): "routine", ("F2", "PL1"): "stat", ("PL1",): "urgent"}

    asyncio.run(run())
