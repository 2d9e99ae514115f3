"""What happens can be seen: counted for each channel, logged under one trace id, without names."""

import asyncio
import io
import json
import logging

import pytest
import structlog

from fhir_store.queue_desk import read_figures
from ops.logs import configure_logs


@pytest.fixture
def lines():
    stream = io.BytesIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def test_metrics_show_depth_age_parked_keys_and_acknowledgements(open_spine, adt):
    async def run():
        async with open_spine() as spine:
            for n in range(6):
                extra = "NTE|1||POISON" if n == 2 else ""
                await spine.send(adt(f"M{n}", patient=f"P{n % 2}", extra=extra))
            await spine.send(adt("M0", patient="P0"))
            await spine.send(b"nonsense")
            async with spine.store.pool.connection() as connection:
                spine.metrics.show_queues(await read_figures(connection))
            before = spine.metrics.render().decode()
            assert 'qiao_inbox_depth{channel="his",state="received"} 6.0' in before
            assert 'qiao_messages_total{channel="his",outcome="kept"} 6.0' in before
            assert 'qiao_messages_total{channel="his",outcome="resend"} 1.0' in before
            assert 'qiao_messages_refused_total{channel="his",reason="hl7-no-header"} 1.0' in before
            assert 'qiao_ack_seconds_count{channel="his"} 7.0' in before
            await spine.drain()
            async with spine.store.pool.connection() as connection:
                spine.metrics.show_queues(await read_figures(connection))
            after = spine.metrics.render().decode()
            assert 'qiao_inbox_parked_keys{channel="his"} 1.0' in after
            assert 'qiao_inbox_depth{channel="his",state="waiting"} 1.0' in after
            assert 'qiao_entries_total{channel="his",outcome="translated"} 4.0' in after
            assert 'qiao_entries_total{channel="his",outcome="parked"} 1.0' in after

    asyncio.run(run())


def test_one_trace_id_ties_a_message_s_lines_together_and_no_line_names_a_patient(
    open_spine, adt, lines
):
    async def run():
        async with open_spine() as spine:
            await spine.send(adt("M1", patient="CANARY-7", name="Canaryname"))
            poison = adt("M2", patient="CANARY-8", name="Canaryname", extra="NTE|1||POISON")
            await spine.send(poison)
            await spine.send(b"CANARY that is no message")
            await spine.drain()
            traces = dict(await spine.rows("select control_id, trace_id from inbox"))
            written = lines()
            events = [one["event"] for one in written if one.get("trace_id") == traces["M1"]]
            assert events == ["message kept", "entry translated"]
            events = {one["event"] for one in written if one.get("trace_id") == traces["M2"]}
            assert {"message kept", "entry parked"} <= events
            assert any(one["event"] == "message refused" for one in written)
            assert "canary" not in json.dumps(written).lower()

    asyncio.run(run())
