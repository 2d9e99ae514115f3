"""What a single answer must be: its type, range, length, unit, options and target."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from conformance.forms.enabling import same
from conformance.forms.former_codes import former_code_issue
from conformance.problem import Issue, NotFound
from conformance.terminology.concepts import value_of
from conformance.terminology.library import Library
from conformance.terminology.members import Reading, members_of

_FHIR = "http://hl7.org/fhir/StructureDefinition/"
_SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"

ALLOWED = {
    "boolean": {"valueBoolean"},
    "decimal": {"valueDecimal", "valueInteger"},
    "integer": {"valueInteger"},
    "date": {"valueDate"},
    "dateTime": {"valueDateTime"},
    "time": {"valueTime"},
    "string": {"valueString"},
    "text": {"valueString"},
    "url": {"valueUri"},
    "attachment": {"valueAttachment"},
    "reference": {"valueReference"},
    "quantity": {"valueQuantity"},
}
_SHAPES = {
    "valueBoolean": bool,
    "valueString": str,
    "valueDate": str,
    "valueDateTime": str,
    "valueTime": str,
    "valueUri": str,
    "valueCoding": Mapping,
    "valueAttachment": Mapping,
    "valueReference": Mapping,
    "valueQuantity": Mapping,
}
_REFERENCE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:\S+|[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}(?:/_history/\S+)?|#\S+)"
)
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def extension_values(element: Mapping[str, Any], *urls: str) -> list[Any]:
    """Return the values of an element's extensions with these addresses."""
    return [value_of(e) for e in element.get("extension", ()) if e.get("url") in urls]


def check_answer(
    question: Mapping[str, Any], answer: Mapping[str, Any], place: str, library: Library
) -> Iterator[Issue]:
    """Yield what is wrong with one answer."""
    named = [(name, value) for name, value in answer.items() if name.startswith("value")]
    if not named:
        return
    name, value = named[0]
    kind = question.get("type", "")
    allowed = _allowed(question)
    if len(named) > 1 or name not in allowed or not _has_shape(name, value):
        wanted = " or ".join(sorted(allowed)) or "no answer"
        yield issue(
            "answer-type",
            place,
            f"A question of type {kind} is answered with {name}",
            f"{kind} 类型的问题用 {name} 作答",
            f"Give {wanted}.",
            f"请使用 {wanted}。",
        )
        return
    where = f"{place}.value"
    yield from _check_range(question, value, where)
    if isinstance(value, str):
        yield from _check_text(question, kind, value, where)
    yield from _CHECKS.get(kind, _no_more)(question, name, value, where, library)


def _allowed(question: Mapping[str, Any]) -> set[str]:
    """Return the names of value[x] that fit; a choice takes the types of its options."""
    kind = question.get("type", "")
    if kind not in ("choice", "open-choice"):
        return ALLOWED.get(kind, set())
    options = question.get("answerOption", ())
    types = {name for option in options for name in option if name.startswith("value")}
    types = types or {"valueCoding"}
    return types | {"valueString"} if kind == "open-choice" else types


def _has_shape(name: str, value: Any) -> bool:
    if name == "valueInteger":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "valueDecimal":
        return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return isinstance(value, _SHAPES.get(name, object))


def issue(key: str, place: str, en: str, zh: str, fix_en: str, fix_zh: str) -> Issue:
    """Return an error of a form's answer."""
    return Issue(
        code="invalid",
        key=f"form-{key}",
        expression=place,
        text_en=en,
        text_zh=zh,
        fix_en=fix_en,
        fix_zh=fix_zh,
    )


def _check_range(question: Mapping[str, Any], value: Any, where: str) -> Iterator[Issue]:
    unit_low = extension_values(question, f"{_FHIR}minValue", f"{_SDC}minQuantity")
    unit_high = extension_values(question, f"{_FHIR}maxValue", f"{_SDC}maxQuantity")
    number = _number(value)
    for bound, sign, en, zh in (
        (unit_low, -1, "below", "小于最小值"),
        (unit_high, 1, "above", "大于最大值"),
    ):
        if not bound:
            continue
        limit = _number(bound[0])
        if number is not None and limit is not None and type(number) is type(limit):
            ahead: Any = number
            is_over = ahead < limit if sign < 0 else ahead > limit
            if is_over:
                yield issue(
                    "range",
                    where,
                    f"The answer is {en} the limit {limit}",
                    f"答案{zh} {limit}",
                    "Correct the value, or check its unit.",
                    "请更正数值，或核对单位。",
                )


def _number(value: Any) -> Decimal | str | None:
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or value is None:
        return None
    return Decimal(str(value)) if isinstance(value, int | float | Decimal) else str(value)


def _check_text(question: Mapping[str, Any], kind: str, value: str, where: str) -> Iterator[Issue]:
    if kind == "string" and ("\n" in value or "\r" in value):
        yield issue(
            "line-break",
            where,
            "A question of type string holds a line break",
            "string 类型的答案含有换行",
            "Put it on one line.",
            "请写成一行。",
        )
    longest = question.get("maxLength")
    shortest = extension_values(question, f"{_FHIR}minLength")
    if (longest and len(value) > longest) or (shortest and len(value) < shortest[0]):
        yield issue(
            "length",
            where,
            f"The answer has {len(value)} characters; {shortest[0] if shortest else 0} to "
            f"{longest or 'any'} are allowed",
            f"答案有 {len(value)} 个字符，超出允许长度",
            "Shorten or complete the text.",
            "请缩短或补全文字。",
        )


def _no_more(*_: Any) -> Iterator[Issue]:
    return iter(())


def _check_choice(
    question: Mapping[str, Any], name: str, value: Any, where: str, library: Library
) -> Iterator[Issue]:
    if question.get("type") == "open-choice" and name == "valueString":
        return
    options = [value_of(option) for option in question.get("answerOption", ())]
    if former := former_code_issue(value, options, where):
        yield former
    elif options and not any(same(value, option) for option in options):
        yield issue(
            "option",
            where,
            "The answer is none of the options",
            "答案不在选项之中",
            "Choose one of Questionnaire.item.answerOption.",
            "请从问卷给出的选项中选择。",
        )
    canonical = question.get("answerValueSet")
    if canonical and isinstance(value, Mapping):
        yield from _check_in_value_set(value, canonical, where, library)


def _check_in_value_set(
    coding: Mapping[str, Any], canonical: str, where: str, library: Library
) -> Iterator[Issue]:
    value_set = library.find("ValueSet", canonical)
    if value_set is None:
        yield issue(
            "value-set",
            where,
            f"The value set {canonical} of the question is not known",
            f"找不到问题所用的值集 {canonical}",
            "Create the ValueSet, or correct answerValueSet.",
            "请创建该值集，或更正 answerValueSet。",
        )
        return
    try:
        members = members_of(value_set, Reading(library=library))
    except NotFound:
        return  # the list is kept by somebody else; nothing speaks against the code
    if (coding.get("system", ""), coding.get("code", "")) not in members:
        yield issue(
            "option",
            where,
            f"The answer is not in the value set {canonical}",
            f"答案不在值集 {canonical} 中",
            "Choose a code of the value set.",
            "请选择值集中的代码。",
        )


def _check_options_of_plain_types(
    question: Mapping[str, Any], name: str, value: Any, where: str, library: Library
) -> Iterator[Issue]:
    yield from _check_choice(question, name, value, where, library)


def _check_url(
    question: Mapping[str, Any], name: str, value: str, where: str, library: Library
) -> Iterator[Issue]:
    is_uuid = not value.startswith("urn:uuid:") or _UUID.fullmatch(value)
    if not value or not is_uuid or any(character in value for character in ' \\<>"{}|^`'):
        yield issue(
            "url",
            where,
            "The answer is not a URL",
            "答案不是有效的网址",
            "Write a URL without spaces or backslashes.",
            "请填写不含空格和反斜杠的网址。",
        )


def _check_reference(
    question: Mapping[str, Any], name: str, value: Mapping[str, Any], where: str, library: Library
) -> Iterator[Issue]:
    text = value.get("reference")
    if text is None:
        return
    if not _REFERENCE.fullmatch(text):
        yield issue(
            "reference",
            where,
            "The answer is not a reference",
            "答案不是有效的引用",
            "Write Type/id or an absolute URL.",
            "请写成 类型/标识 或完整网址。",
        )
        return
    allowed = extension_values(question, f"{_FHIR}questionnaire-referenceResource")
    parts = text.split("/_history/")[0].split("/")
    if allowed and len(parts) > 1 and parts[-2] not in allowed:
        yield issue(
            "reference-type",
            where,
            f"The answer points to a {parts[-2]}",
            f"答案引用了 {parts[-2]}",
            f"Point to {' or '.join(allowed)}.",
            f"请引用 {' 或 '.join(allowed)}。",
        )


def _check_attachment(
    question: Mapping[str, Any], name: str, value: Mapping[str, Any], where: str, library: Library
) -> Iterator[Issue]:
    allowed = extension_values(question, f"{_FHIR}mimeType")
    if allowed and value.get("contentType") not in allowed:
        yield issue(
            "attachment-type",
            where,
            f"The attachment is {value.get('contentType')}",
            f"附件类型为 {value.get('contentType')}",
            f"Attach {' or '.join(allowed)}.",
            f"请上传 {' 或 '.join(allowed)}。",
        )
    try:
        size = len(base64.b64decode(value.get("data", ""), validate=True))
    except (binascii.Error, ValueError):
        size = -1
    said = value.get("size")
    if size < 0 or (said is not None and "data" in value and said != size):
        yield issue(
            "attachment-size",
            where,
            "The attachment's data and size do not agree",
            "附件的数据与大小不一致",
            "Send the data as base64 and its size in bytes.",
            "请以 base64 传送数据，并写明字节数。",
        )
    largest = extension_values(question, f"{_FHIR}maxSize")
    if largest and size > largest[0]:
        yield issue(
            "attachment-large",
            where,
            f"The attachment has {size} bytes of at most {largest[0]}",
            f"附件 {size} 字节，超过 {largest[0]} 字节",
            "Attach a smaller file.",
            "请上传较小的文件。",
        )


def _check_quantity(
    question: Mapping[str, Any], name: str, value: Mapping[str, Any], where: str, library: Library
) -> Iterator[Issue]:
    units = extension_values(question, f"{_FHIR}questionnaire-unitOption")
    if units and not any(unit.get("code") == value.get("code") for unit in units):
        names = ", ".join(str(unit.get("code")) for unit in units)
        yield issue(
            "unit",
            where,
            f"The unit is none of {names}",
            f"单位不是 {names} 之一",
            f"Give the value in {names}.",
            f"请以 {names} 为单位填写。",
        )
    canonical = extension_values(question, f"{_FHIR}questionnaire-unitValueSet")
    if canonical:
        yield from _check_in_value_set(value, canonical[0], where, library)


_CHECKS: Mapping[str, Any] = {
    "choice": _check_choice,
    "open-choice": _check_choice,
    "time": _check_options_of_plain_types,
    "date": _check_options_of_plain_types,
    "integer": _check_options_of_plain_types,
    "string": _check_options_of_plain_types,
    "url": _check_url,
    "reference": _check_reference,
    "attachment": _check_attachment,
    "quantity": _check_quantity,
}
