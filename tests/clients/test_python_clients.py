"""Unmodified clients of other people work with the hub: fhirpy and fhirclient from PyPI."""

from typing import Any

import pytest
from fhirpy import SyncFHIRClient


def test_fhirpy_creates_reads_searches_patches_and_deletes(hub_url: str) -> None:
    client = SyncFHIRClient(hub_url)
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


def test_fhirclient_reads_what_it_wrote(hub_url: str) -> None:
    models: Any = pytest.importorskip("fhirclient.models.patient")
    client_module: Any = pytest.importorskip("fhirclient.client")
    names: Any = pytest.importorskip("fhirclient.models.humanname")
    smart = client_module.FHIRClient(settings={"app_id": "test", "api_base": hub_url})
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
