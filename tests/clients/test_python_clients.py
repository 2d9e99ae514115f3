"""Unmodified clients of other people work with the hub: fhirpy and fhirclient from PyPI."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from fhirpy import SyncFHIRClient

from fhir_store.store import Store, make_pool
from routes.app import create_app
from routes.authorize import Authorizer
from routes.bearer import ANYBODY, Caller
from routes.hub import Hub
from routes.limits import Limits
from routes.receive_deadline import deadline_protocol


async def anybody(_authorization: str | None) -> Caller:
    return ANYBODY


async def serve(url: str, ready: "queue.Queue[int]", stop: threading.Event) -> None:
    async with make_pool(url, size=4) as pool:
        store = Store(pool)
        rights = Authorizer(store).authorize
        hub = Hub(store=store, identify=anybody, authorize=rights, note=lambda _: None)
        config = uvicorn.Config(
            create_app(hub),
            port=0,
            http=deadline_protocol(Limits()),
            log_config=None,
            lifespan="off",
            ws="none",
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        ready.put(server.servers[0].sockets[0].getsockname()[1])
        await asyncio.to_thread(stop.wait)
        server.should_exit = True
        await task


@pytest.fixture
def base(database_url: str) -> Iterator[str]:
    """The address of a hub in a thread of its own; these clients wait."""
    ready: queue.Queue[int] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(database_url, ready, stop)))
    thread.start()
    try:
        yield f"http://127.0.0.1:{ready.get(timeout=30)}/fhir"
    finally:
        stop.set()
        thread.join()


def test_fhirpy_creates_reads_searches_patches_and_deletes(base: str) -> None:
    client = SyncFHIRClient(base)
    patient = client.resource("Patient", name=[{"family": "王", "given": ["小明"]}])
    patient.save()
    assert patient["meta"]["versionId"] == "1"
    patient["gender"] = "female"
    patient.save()
    found = client.resources("Patient").search(family="王").fetch_all()
    assert [one["id"] for one in found] == [patient["id"]]
    again = client.reference("Patient", patient["id"]).to_resource()
    assert again["gender"] == "female"
    observation = client.resource(
        "Observation",
        status="final",
        code={"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        subject=patient.to_reference(),
    )
    observation.save()
    assert client.resources("Observation").search(subject=patient).count() == 1
    observation.delete()
    assert client.resources("Observation").fetch() == []


def test_fhirclient_reads_what_it_wrote(base: str) -> None:
    models: Any = pytest.importorskip("fhirclient.models.patient")
    client_module: Any = pytest.importorskip("fhirclient.client")
    names: Any = pytest.importorskip("fhirclient.models.humanname")
    smart = client_module.FHIRClient(settings={"app_id": "test", "api_base": base})
    assert smart.ready or smart.prepare()
    patient = models.Patient()
    patient.name = [names.HumanName({"family": "李", "given": ["雷"]})]
    answer = patient.create(smart.server)
    assert answer["id"]
    read = models.Patient.read(answer["id"], smart.server)
    assert read.name[0].family == "李"
    search = models.Patient.where(struct={"family": "李"})
    found = list(search.perform_resources_iter(smart.server))
    assert [one.id for one in found] == [answer["id"]]
    read.gender = "male"
    assert read.update(smart.server)
    assert models.Patient.read(answer["id"], smart.server).gender == "male"
    read.delete()
