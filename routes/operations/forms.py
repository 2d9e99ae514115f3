"""The operations of forms: `$populate`, `$extract`, `$score`, `$assess`, and checking answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance import resource_json
from conformance.forms.answers import check_response
from conformance.forms.extract import extract
from conformance.forms.populate import populate
from conformance.forms.programmes import age_at, assess
from conformance.forms.scores import score
from conformance.problem import Gone, InvalidContent, Issue, NotAllowed, NotFound
from routes.answer import Answer, outcome
from routes.bodies import require_same_type
from routes.definitions import Definitions
from routes.hub import Hub
from routes.interactions.read import version_asked_for, visible_version
from routes.operations.parameters import (
    Part,
    bad_parameter,
    parameters_answer,
    sent_with_parameters,
    sound_parameters_in,
    value_of,
)
from routes.registry import Handler, Operation
from routes.request import Request

_SDC = "http://hl7.org/fhir/uv/sdc/OperationDefinition"
_OWN = "https://fhir.qiao.example/cphc/OperationDefinition"
_RESPONSE = "QuestionnaireResponse"
_ANSWERS = ("response", "resource", "questionnaire-response")


@dataclass(frozen=True, slots=True)
class _Desk:
    """The operations, over the forms and lists that are known."""

    definitions: Definitions

    async def populate(self, hub: Hub, request: Request) -> Answer:
        """Begin a response from the record and the previous one."""
        given = {part["name"]: part for part in sound_parameters_in(hub, request)}
        form = await _form_to_fill(hub, request, given, self.definitions)
        patient = await _referenced(hub, request, given, "subject", "Patient")
        if patient is None:
            raise bad_parameter("subject", "Give a reference to a Patient.", "请给出居民的引用。")
        previous = await _referenced(hub, request, given, "previous", _RESPONSE)
        return _resource(populate(form, patient, previous))

    async def extract(self, hub: Hub, request: Request) -> Answer:
        """Read the answers out as resources."""
        response, _ = await _given(hub, request)
        form = await self.definitions.form_of(response)
        if form is None:
            raise InvalidContent(_no_form(response.get("questionnaire", "")))
        entries = [{"resource": resource} for resource in extract(response, form)]
        return _resource({"resourceType": "Bundle", "type": "collection", "entry": entries})

    async def score(self, hub: Hub, request: Request) -> Answer:
        """Score a scale."""
        response, _ = await _given(hub, request)
        found = score(response)
        parameters: list[dict[str, Any]] = [
            {"name": "form", "valueString": found.form},
            {"name": "raw", "valueInteger": found.raw},
            {"name": "total", "valueInteger": found.total},
            {"name": "band", "valueString": found.band},
        ]
        for name, (total, verdict) in found.parts.items():
            parts = [
                {"name": "total", "valueInteger": total},
                {"name": "verdict", "valueString": verdict},
            ]
            parameters.append({"name": name, "part": parts})
        parameters += [
            {"name": "flag", "valueString": f"{key}: {text}"} for key, text in found.flags.items()
        ]
        return parameters_answer(parameters)

    async def assess(self, hub: Hub, request: Request) -> Answer:
        """Say what a follow-up visit asks for next, by the visit before and the resident's age."""
        response, given = await _given(hub, request)
        found = assess(
            response,
            previous=await _referenced(hub, request, given, "previous", _RESPONSE),
            age=await _age(hub, request, given, response),
        )
        parameters: list[dict[str, Any]] = [{"name": "programme", "valueCode": found.programme}]
        if found.class_code is not None:
            parameters.append({"name": "class", "valueCode": found.class_code})
        parameters += [
            {"name": "urgent", "valueBoolean": found.is_urgent},
            {"name": "refer", "valueBoolean": found.refer},
        ]
        if found.next_due is not None:
            parameters.append({"name": "nextDue", "valueDate": found.next_due.isoformat()})
        parameters += [{"name": "reason", "valueString": reason} for reason in found.reasons]
        return parameters_answer(parameters)

    async def check(self, hub: Hub, request: Request) -> Answer:
        """Check the answers against their questionnaire."""
        response, _ = await _given(hub, request)
        form = await self.definitions.form_of(response)
        issues = check_response(response, form, await self.definitions.library())
        return outcome(200, issues or [_FINE])


def form_operations(definitions: Definitions) -> tuple[Operation, ...]:
    """Return the operations as the registry wants them."""
    desk = _Desk(definitions)
    rows: tuple[tuple[str, str, str, Handler], ...] = (
        ("populate", _SDC, "Questionnaire", desk.populate),
        ("extract", _SDC, _RESPONSE, desk.extract),
        ("score", _OWN, _RESPONSE, desk.score),
        ("assess", _OWN, _RESPONSE, desk.assess),
        ("check-answers", _OWN, _RESPONSE, desk.check),
    )
    return tuple(
        Operation(
            code=code,
            definition=f"{base}/{type_}-{code}",
            levels=frozenset({"type", "instance"}),
            types=frozenset({type_}),
            handler=handler,
        )
        for code, base, type_, handler in rows
    )


def _resource(resource: Mapping[str, Any]) -> Answer:
    return Answer(status=200, body=resource_json.dump(resource))


async def _given(hub: Hub, request: Request) -> tuple[dict[str, Any], dict[str, Part]]:
    """Return the response and the parameters beside it by name.

    The response is the one of the address, or the one sent, alone or as a parameter.
    """
    sent, parts = sent_with_parameters(hub, request, _RESPONSE)
    named = {part["name"]: part for part in parts}
    given = [named.pop(name) for name in _ANSWERS if name in named]
    if request.address.id:
        sent = resource_json.parse((await version_asked_for(hub, request)).body)
    elif (sent is not None) + len(given) != 1 or not all("resource" in one for one in given):
        raise bad_parameter(
            _ANSWERS[0],
            "Send one QuestionnaireResponse, as the body or as `response`.",
            "请发送一份答卷：作为请求体，或作为参数 response。",
        )
    response: dict[str, Any] = given[0]["resource"] if sent is None else sent
    require_same_type(response, _RESPONSE)
    return response, named


async def _age(
    hub: Hub, request: Request, given: Mapping[str, Any], response: Mapping[str, Any]
) -> int | None:
    """Return the age in years at the visit: as given, or by the birth date of the subject.

    None where the subject is not stored, may not be read, or has no full date of birth.
    """
    if "age" in given:
        return _years(value_of(given["age"]))
    subject = response.get("subject", {}).get("reference")
    kind, _, id_ = str(subject or "").partition("/")
    if kind != "Patient" or not id_:
        return None
    try:
        version = await visible_version(hub, request, kind, id_)
    except (NotFound, Gone, NotAllowed):
        return None
    return age_at(resource_json.parse(version.body), response)


def _years(value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 4):
        raise bad_parameter("age", "Give the age in whole years.", "请以整数给出年龄（岁）。")
    return int(text)


async def _form_to_fill(
    hub: Hub, request: Request, given: Mapping[str, Any], definitions: Definitions
) -> Mapping[str, Any]:
    if request.address.id:
        return resource_json.parse((await version_asked_for(hub, request)).body)
    if "questionnaire" in given and "resource" in given["questionnaire"]:
        form: Mapping[str, Any] = given["questionnaire"]["resource"]
        require_same_type(form, "Questionnaire")
        return form
    if referenced := await _referenced(hub, request, given, "questionnaireRef", "Questionnaire"):
        return referenced
    canonical = value_of(given.get("canonical") or given.get("questionnaire") or {})
    if not isinstance(canonical, str):
        raise bad_parameter(
            "questionnaire",
            "Give the Questionnaire as resource, its canonical address, or ask at its own address.",
            "请以 resource 给出问卷，或给出其规范地址，或在该问卷的地址上调用。",
        )
    found = await definitions.questionnaire(canonical)
    if found is None:
        raise NotFound(_no_form(canonical))
    return found


async def _referenced(
    hub: Hub, request: Request, given: Mapping[str, Any], name: str, type_: str
) -> dict[str, Any] | None:
    part = given.get(name)
    if part is None:
        return None
    if "resource" in part:
        resource: dict[str, Any] = part["resource"]
        require_same_type(resource, type_)
        return resource
    value = value_of(part)
    reference = value.get("reference", "") if isinstance(value, Mapping) else str(value)
    kind, _, id_ = reference.partition("/")
    if kind != type_ or not id_:
        raise bad_parameter(name, f"Give a reference to a {type_}.", f"请给出 {type_} 的引用。")
    return resource_json.parse((await visible_version(hub, request, type_, id_)).body)


def _no_form(canonical: str) -> Issue:
    return Issue(
        code="not-found",
        key="form-questionnaire-not-found",
        expression="QuestionnaireResponse.questionnaire",
        text_en=f"The questionnaire {canonical!r} is not known",
        text_zh=f"找不到问卷 {canonical!r}",
        fix_en="Create the Questionnaire first, or correct its canonical address.",
        fix_zh="请先创建问卷，或更正其规范地址。",
    )


_FINE = Issue(
    severity="information",
    code="informational",
    key="form-fine",
    text_en="The answers fit the questionnaire",
    text_zh="答案符合问卷要求",
)
