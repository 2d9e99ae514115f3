"""The hub with its first law broken: it answers a message before it keeps it."""

import asyncio
import sys

from fhir_store.inbox import Kept
from fhir_store.inbox_writer import InboxWriter
from ops.cli import main

keep = InboxWriter.keep
late = set()


async def answer_first(self, entry):
    async def keep_later():
        await asyncio.sleep(0.3)
        await keep(self, entry)

    task = asyncio.get_running_loop().create_task(keep_later())
    late.add(task)
    task.add_done_callback(late.discard)
    return Kept(id=0, trace_id=entry.trace_id, ack=entry.ack, is_resend=False, is_id_reused=False)


InboxWriter.keep = answer_first
sys.argv = ["qiao", "serve", "--roles", "mllp,worker"]
main()
