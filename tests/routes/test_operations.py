"""`$validate`, `$fhirpath` and the `$meta` family over HTTP."""

from typing import Any

import pytest

from routes.operations import meta

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/fhir+json"}
PATIENT = {"resourceType": "Patient", "name": [{"family": "王", "given": ["小", "明"]}]}


def parameters(**named: Any) -> dict[str, Any]:
    def part(name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict) and "resourceType" in value:
            return {"name": name, "resource": value}
        if isinstance(value, list):
            return {"name": name, "part": value}
        kind = "valueMeta" if isinstance(value, dict) else "valueString"
        return {"name": name, kind: value}

    listed = [part(name, value) for name, value in named.items()]
    return {"resourceType": "Parameters", "parameter": listed}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"resourceType": "Patient",\n "active": "yes"}', "json"),
        ('<Patient xmlns="http://hl7.org/fhir">\n <active value="yes"/></Patient>', "xml"),
    ],
)
async def test_validate_tells_line_and_column(serve: Any, body: str, kind: str) -> None:
    async with serve() as client:
        headers = {"content-type": f"application/fhir+{kind}", "accept": JSON["content-type"]}
        answer = await client.post("/Patient/$validate", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        (issue,) = answer.json()["issue"]
        assert issue["expression"] == ["Patient.active"]
        assert [one["valueInteger"] for one in issue["extension"]] == [2, 2]


@pytest.mark.parametrize(
    ("body", "kind", "place"),
    [
        ('{"resourceType": "Parameters", "parameter": [\n {"name": "mode", "valueCode": "create"},'
         '\n {"name": "resource", "resource": {"resourceType": "Patient",\n  "active": "yes"}}]}',
         "json", [4, 3]),
        ('<Parameters xmlns="http://hl7.org/fhir"><parameter>\n<name value="resource"/><resource>'
         '\n<Patient>\n  <active value="yes"/></Patient></resource></parameter></Parameters>',
         "xml", [4, 3]),
    ],
)  # fmt: skip
async def test_validate_tells_line_and_column_inside_parameters(
    serve: Any, body: str, kind: str, place: list[int]
) -> None:
    async with serve() as client:
        headers = {"content-type": f"application/fhir+{kind}", "accept": JSON["content-type"]}
        answer = await client.post("/Patient/$validate", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        (issue,) = answer.json()["issue"]
        assert issue["expression"] == ["Patient.active"]
        assert [one["valueInteger"] for one in issue["extension"]] == place


async def test_fhirpath_returns_each_value_with_its_type(serve: Any) -> None:
    async with serve() as client:

        async def parts(expression: str, **more: Any) -> Any:
            body = parameters(expression=expression, resource=PATIENT, **more)
            answer = await client.post("/$fhirpath", json=body, headers=JSON)
            assert answer.status_code == 200, answer.text
            return [result.get("part", []) for result in answer.json()["parameter"]]

        assert await parts("name.given") == [
            [{"name": "string", "valueString": "小"}, {"name": "string", "valueString": "明"}]
        ]
        assert await parts("name.given.count() + 1.50") == [
            [{"name": "decimal", "valueDecimal": 3.5}]
        ]
        assert await parts("name") == [
            [{"name": "HumanName", "valueHumanName": PATIENT["name"][0]}]
        ]
        assert await parts("Patient") == [[{"name": "Patient", "resource": PATIENT}]]
        assert await parts("{}") == [[]]
        assert await parts("$this", context="name.given") == [
            [{"name": "string", "valueString": "小"}],
            [{"name": "string", "valueString": "明"}],
        ]
        assert await parts("@2020-01-01 + 2 years") == [
            [{"name": "date", "valueDate": "2022-01-01"}]
        ]
        assert await parts("%n + 1", variables=[{"name": "n", "valueInteger": 2}]) == [
            [{"name": "integer", "valueInteger": 3}]
        ]
        assert (await parts("name.trace('a').exists()"))[0][1]["name"] == "trace"


@pytest.mark.parametrize(
    "body",
    [
        parameters(resource=PATIENT),
        parameters(expression="name.", resource=PATIENT),
        parameters(expression="name", resource="text"),
        parameters(expression="name" + ".name" * 20_000, resource=PATIENT),
        parameters(expression="name.matches('(a+)+$')", resource="x"),
        {"resourceType": "Parameters", "parameter": {"name": "x"}},
        {"resourceType": "Patient"},
    ],
)
async def test_fhirpath_that_cannot_be_evaluated_is_refused(serve: Any, body: Any) -> None:
    async with serve() as client:
        answer = await client.post("/$fhirpath", json=body, headers=JSON)
        assert answer.status_code in {400, 413, 422}
        assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("1 year", {"name": "Quantity", "valueQuantity": {
            "value": 1, "unit": "year", "system": "http://unitsofmeasure.org", "code": "a"}}),
        ("name.type()", {"name": "ClassInfo", "valueString": "FHIR.HumanName"}),
        ("1.type()", {"name": "SimpleTypeInfo", "valueString": "System.Integer"}),
    ],
)  # fmt: skip
async def test_fhirpath_gives_units_and_types_by_their_own_names(
    serve: Any, expression: str, part: dict[str, Any]
) -> None:
    async with serve() as client:
        body = parameters(expression=expression, resource=PATIENT)
        answer = await client.post("/$fhirpath", json=body, headers=JSON)
        assert answer.json()["parameter"] == [{"name": "result", "part": [part]}]


@pytest.mark.parametrize("expression", ["2147483648", "'AAE='.decode('base64')", "1 ''", "''"])
async def test_fhirpath_gives_what_no_value_of_r4_can_be_as_json_text(
    serve: Any, expression: str
) -> None:
    async with serve() as client:
        for kind in ("json", "xml"):
            body = parameters(expression=expression, resource=PATIENT)
            headers = {**JSON, "accept": f"application/fhir+{kind}"}
            answer = await client.post("/$fhirpath", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert "cphc/StructureDefinition/json-value" in answer.text


@pytest.mark.parametrize(
    ("expression", "status"),
    [("'\\ud83d'", 400), ("name" + "[0]" * 3000, 422), ("name.foo()", 400)],
)
async def test_fhirpath_refuses_a_hostile_expression_by_name(
    serve: Any, expression: str, status: int
) -> None:
    async with serve() as client:
        body = parameters(expression=expression, resource=PATIENT)
        answer = await client.post("/$fhirpath", json=body, headers=JSON)
        assert answer.status_code == status, answer.text


async def test_validate_says_what_is_wrong_and_writes_nothing(serve: Any) -> None:
    async with serve() as client:
        for body in (PATIENT, parameters(resource=PATIENT, mode="create")):
            answer = await client.post("/Patient/$validate", json=body, headers=JSON)
            assert answer.status_code == 200
            assert answer.json()["issue"][0]["severity"] == "information"
        wrong = {**PATIENT, "gender": "unclear", "birthDate": "yesterday"}
        found = (await client.post("/Patient/$validate", json=wrong, headers=JSON)).json()["issue"]
        assert {"Patient.gender", "Patient.birthDate"} <= {
            e for i in found for e in i["expression"]
        }
        other = await client.post("/Observation/$validate", json=PATIENT, headers=JSON)
        assert other.json()["issue"][0]["details"]["coding"][0]["code"] == "type-differs"
        assert (await client.post("/Patient/$validate", headers=JSON)).status_code == 400
        twice = parameters(resource=PATIENT)
        twice["parameter"] *= 2
        text = parameters(resource="x")
        for unclear in (twice, text):
            answer = await client.post("/Patient/$validate", json=unclear, headers=JSON)
            assert answer.status_code == 400
        assert "entry" not in (await client.get("/_history")).json()


async def test_validate_judges_what_is_stored(serve: Any) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json={**PATIENT, "id": "p1"}, headers=JSON)
        assert (await client.get("/Patient/p1/$validate")).status_code == 200
        assert (await client.get("/Patient/p2/$validate")).status_code == 404
        assert (await client.get("/Patient/p1/$validate?mode=delete")).status_code == 200
        assert (await client.get("/Patient/p1/$validate?mode=other")).status_code == 400
        assert (await client.get("/Patient/p1/$validate?mode=profile")).status_code == 400
        assert (await client.get("/Patient/p2/$validate?mode=delete")).status_code == 404
        for mode in ("update", "delete"):  # R4: at the instance level alone
            refused = await client.post(f"/Patient/$validate?mode={mode}", json=PATIENT)
            assert refused.status_code == 400
            assert "Patient/123/$validate" in refused.json()["issue"][0]["diagnostics"]
            followed = f"/Patient/p1/$validate?mode={mode}"
            assert (await client.post(followed, json={**PATIENT, "id": "p1"})).status_code == 200
        core = "http://hl7.org/fhir/StructureDefinition/Patient"
        asked = f"/Patient/p1/$validate?mode=profile&profile={core}"
        assert (await client.get(asked)).json()["issue"][0]["severity"] == "information"


async def test_validate_compares_the_id_with_the_address_for_an_update(serve: Any) -> None:
    async with serve() as client:
        for id_, key in (("p1", "all-well"), ("p2", "id-differs")):
            body = parameters(resource={**PATIENT, "id": id_}, mode="update")
            answer = await client.post("/Patient/p1/$validate", json=body, headers=JSON)
            assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == key


async def test_labels_are_read_added_and_removed(serve: Any) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json={**PATIENT, "id": "p1"}, headers=JSON)
        label = {"tag": [{"system": "urn:t", "code": "a"}], "profile": ["http://x/p"]}
        body = parameters(meta=label)
        added = await client.post("/Patient/p1/$meta-add", json=body, headers=JSON)
        assert added.json()["parameter"][0]["valueMeta"]["tag"] == label["tag"]
        again = await client.post("/Patient/p1/$meta-add", json=body, headers=JSON)
        assert again.json()["parameter"][0]["valueMeta"]["versionId"] == "2"
        read = (await client.get("/Patient/p1/$meta")).json()["parameter"][0]["valueMeta"]
        assert read["profile"] == ["http://x/p"]
        old = await client.get("/Patient/p1/_history/1/$meta")
        assert "tag" not in old.json()["parameter"][0]["valueMeta"]
        removed = await client.post("/Patient/p1/$meta-delete", json=body, headers=JSON)
        assert "tag" not in removed.json()["parameter"][0]["valueMeta"]
        assert (await client.get("/Patient/p1/$meta-add")).status_code == 405
        bad = parameters(meta={"tag": "a"})
        assert (
            await client.post("/Patient/p1/$meta-add", json=bad, headers=JSON)
        ).status_code == 400


async def test_operations_that_mean_the_present_are_not_asked_of_a_version(serve: Any) -> None:
    async with serve() as client:
        await client.put("/Patient/p1", json={**PATIENT, "id": "p1"}, headers=JSON)
        body = parameters(meta={"tag": [{"code": "a"}]})
        for name in ("meta-add", "meta-delete", "everything"):
            place = f"/Patient/p1/_history/1/${name}"
            assert (await client.post(place, json=body, headers=JSON)).status_code == 404, name
        assert (await client.get("/Patient/p1")).headers["etag"] == 'W/"1"'
        for name in ("meta", "validate"):
            assert (await client.get(f"/Patient/p1/_history/1/${name}")).status_code == 200


async def test_labels_of_a_type_and_of_all(serve: Any) -> None:
    async with serve() as client:
        tag = {"system": "urn:a|b", "code": "x,$", "display": "An odd one"}
        security = {"code": "R"}
        meta = {"tag": [tag], "security": [security], "profile": ["http://x/p"]}
        for id_ in ("p1", "p2"):
            labelled = {**PATIENT, "id": id_, "meta": meta}
            await client.put(f"/Patient/{id_}", json=labelled, headers=JSON)
        await client.put("/Patient/p2", json={**PATIENT, "id": "p2"}, headers=JSON)
        await client.put(
            "/Group/g1",
            json={
                "resourceType": "Group",
                "id": "g1",
                "meta": {"tag": [{"code": "gone"}]},
                "type": "person",
                "actual": True,
            },
            headers=JSON,
        )
        await client.delete("/Group/g1")
        for path in ("/Patient/$meta", "/$meta"):
            found = (await client.get(path)).json()["parameter"][0]["valueMeta"]
            assert found == meta, path
        assert (await client.get("/Group/$meta")).json()["parameter"] == [
            {"name": "return", "valueMeta": {}}
        ]
        assert (await client.get("/Patient/$meta?x=1")).status_code == 400


async def test_too_many_labels_are_refused_with_advice(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta, "_MOST_LABELS", 1)
    async with serve() as client:
        for id_, code in (("p1", "a"), ("p2", "b")):
            labelled = {**PATIENT, "id": id_, "meta": {"tag": [{"code": code}]}}
            await client.put(f"/Patient/{id_}", json=labelled, headers=JSON)
        refused = await client.get("/$meta")
        assert refused.status_code == 422, refused.text
        issue = refused.json()["issue"][0]
        assert issue["code"] == "too-costly"
        assert "one type, or of one resource" in issue["diagnostics"]
        assert (await client.get("/Patient/p1/$meta")).status_code == 200
