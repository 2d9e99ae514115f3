"""The values of search parameters, parsed: prefixes, escapes, systems, units, ranges.

http://hl7.org/fhir/R4/search.html#ptypes. Every refusal names the parameter, the reason and the
fix, and never repeats the value.
"""

from decimal import Decimal, InvalidOperation
from typing import NoReturn

from conformance.date_ranges import range_of
from conformance.index_converters import canonical_url, literal_of
from conformance.problem import InvalidContent, Issue, Problem, UnknownParameter
from conformance.search_parameters import SearchParameter, resource_types
from fhir_store.search.values import (
    CompositeValue,
    DateValue,
    NearValue,
    NumberValue,
    QuantityValue,
    Reading,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    Value,
)

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
MAX_VALUES = 1000  # alternatives in one parameter
_MAX_EXPONENT = 300


def refuse(
    name: str,
    key: str,
    text: tuple[str, str],
    fix: tuple[str, str],
    *,
    kind: type[Problem] = InvalidContent,
) -> NoReturn:
    """Raise the refusal of a parameter; `text` and `fix` are English and Chinese."""
    code = "not-supported" if kind is UnknownParameter else "invalid"
    raise kind(
        Issue(
            code=code,
            key=key,
            text_en=f"Parameter {name}: {text[0]}",
            text_zh=f"参数 {name}：{text[1]}",
            fix_en=fix[0],
            fix_zh=fix[1],
            expression=f"http.{name}",
        )
    )


def split_escaped(text: str, separator: str) -> list[str]:
    r"""Split at a separator that no backslash escapes; escapes are kept."""
    if "\\" not in text:
        return text.split(separator)
    parts, current, escaped = [], "", False
    for character in text:
        if escaped:
            current += "\\" + character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == separator:
            parts.append(current)
            current = ""
        else:
            current += character
    parts.append(current + ("\\" if escaped else ""))
    return parts


def unescape(text: str) -> str:
    r"""Return the text without `\,` `\|` `\$` `\\` escapes."""
    if "\\" not in text:
        return text
    plain, escaped = "", False
    for character in text:
        if escaped:
            plain += character if character in ",|$\\" else "\\" + character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            plain += character
    return plain + ("\\" if escaped else "")


def values_of(
    parameter: SearchParameter, modifier: str, text: str, name: str, reading: Reading
) -> tuple[Value, ...]:
    """Return the alternatives of one parameter's value; raise a Problem naming the parameter."""
    parts = split_escaped(text, ",")
    if len(parts) > MAX_VALUES:
        refuse(
            name,
            "search-too-many-values",
            (f"more than {MAX_VALUES} values", f"超过 {MAX_VALUES} 个值"),
            ("Split the search into several requests.", "请拆分为多次查询。"),
        )
    values = []
    for part in parts:
        if not part.strip():
            refuse(
                name,
                "search-empty-value",
                ("an empty value", "值为空"),
                ("Give a value, or leave the parameter out.", "请给出值，或去掉该参数。"),
            )
        values.append(value_of(parameter, modifier, part, name, reading))
    return tuple(values)


def value_of(
    parameter: SearchParameter, modifier: str, text: str, name: str, reading: Reading
) -> Value:
    """Return one value, still escaped, as the parameter's type reads it."""
    kind = parameter.type
    if kind == "token" or (kind == "reference" and modifier == "identifier"):
        return _token(parameter, modifier, text, name)
    if kind == "string":
        return StringValue(unescape(text))
    if kind == "date":
        return date_value(unescape(text), name, reading)
    if kind == "number":
        return _number(unescape(text), name)
    if kind == "quantity":
        return _quantity(text, name)
    if kind == "reference":
        return _reference(parameter, modifier, unescape(text), name, reading)
    if kind == "uri":
        return UriValue(unescape(text))
    if kind == "special":
        return _near(text, name)
    return _composite(parameter, text, name, reading)


def _token(parameter: SearchParameter, modifier: str, text: str, name: str) -> TokenValue:
    if modifier in ("text", "in", "not-in"):
        return TokenValue(None, unescape(text))
    parts = [unescape(part) for part in split_escaped(text, "|")]
    if modifier == "of-type":
        if len(parts) != 3 or not parts[1] or not parts[2]:
            refuse(
                name,
                "search-of-type-form",
                (":of-type needs system|code|value", ":of-type 需要 system|code|value 三部分"),
                ("Write [type system]|[type code]|[value].", "请写成 [类型系统]|[类型代码]|[值]。"),
            )
        return TokenValue(parts[0], parts[1], parts[2])
    if len(parts) == 1:
        return TokenValue(None, parts[0])
    if len(parts) > 2 or not (parts[0] or parts[1]):
        refuse(
            name,
            "search-token-form",
            (
                "a token is code, system|code, |code or system|",
                "取值应为 code、system|code、|code 或 system|",
            ),
            (r"Escape a bar inside a code as \|.", r"代码中的竖线请写作 \|。"),
        )
    return TokenValue(parts[0], parts[1] or None)


def _split_prefix(text: str) -> tuple[str, str]:
    if text[:2] in PREFIXES:
        return text[:2], text[2:]
    return "eq", text


def date_value(text: str, name: str, reading: Reading) -> DateValue:
    """Return a date comparison; `ap` widens by a tenth of the distance from now."""
    prefix, rest = _split_prefix(text.strip())
    try:
        low, high = range_of(rest, reading.zone)
    except ValueError:
        refuse(
            name,
            "search-date-form",
            ("not a date", "不是有效日期"),
            (
                "Write [prefix]YYYY[-MM[-DD[Thh:mm[:ss][zone]]]], with + in a zone as %2B.",
                "请写成 [前缀]YYYY[-MM[-DD[Thh:mm[:ss][时区]]]]，时区中的 + 写作 %2B。",
            ),
        )
    if prefix == "ap":
        middle = (low + high) // 2
        margin = abs(reading.now - middle) // 10 if reading.now else 0
        low, high = low - margin, high + margin
    return DateValue(prefix, low, high)


def _number(text: str, name: str) -> NumberValue:
    prefix, rest = _split_prefix(text.strip())
    number = _decimal(rest)
    if number is None:
        refuse(
            name,
            "search-number-form",
            ("not a number", "不是有效数字"),
            ("Write [prefix]number, such as ge5.4 or 1e3.", "请写成 [前缀]数字，如 ge5.4 或 1e3。"),
        )
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - 1)
    if prefix == "ap":
        margin = max(abs(number) / 10, half)
        return NumberValue(prefix, number, number - margin, number + margin)
    return NumberValue(prefix, number, number - half, number + half)


def _decimal(text: str) -> Decimal | None:
    if not text or len(text) > 60 or "_" in text or not text.isascii() or text != text.strip():
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT:
        return None
    exponent = number.as_tuple().exponent
    return number if isinstance(exponent, int) and abs(exponent) <= _MAX_EXPONENT else None


def _quantity(text: str, name: str) -> QuantityValue:
    parts = [unescape(part) for part in split_escaped(text, "|")]
    if len(parts) not in (1, 3):
        refuse(
            name,
            "search-quantity-form",
            ("a quantity is number or number|system|code", "取值应为 数字 或 数字|系统|单位代码"),
            (
                "Write [prefix]number|system|code; the system may be empty.",
                "系统可以为空，但两个竖线都要写。",
            ),
        )
    number = _number(parts[0], name)
    if len(parts) == 1 or not (parts[1] or parts[2]):
        return QuantityValue(number, None, "")
    return QuantityValue(number, parts[1] or None, parts[2])


def _reference(
    parameter: SearchParameter, modifier: str, text: str, name: str, reading: Reading
) -> ReferenceValue:
    if modifier and modifier in resource_types():
        if "/" in text and not text.startswith(f"{modifier}/"):
            refuse(
                name,
                "search-reference-type",
                ("the type of the value is not the type of the modifier", "值的类型与修饰符不符"),
                ("Give the bare id, or drop the modifier.", "请只写 id，或去掉修饰符。"),
            )
        text = text if "/" in text else f"{modifier}/{text}"
    if "://" not in text and not text.startswith("urn:") and "/" not in text and "|" not in text:
        return ReferenceValue("id", "", text)
    kind, first, second = literal_of(text, reading.base_url)
    if kind == "url":
        return ReferenceValue("url", canonical_url(first), second)
    if first not in resource_types():
        refuse(
            name,
            "search-reference-form",
            ("not a reference", "不是有效引用"),
            ("Write Type/id, a bare id or an absolute address.", "请写成 类型/id、id 或完整地址。"),
        )
    return ReferenceValue(kind, first, second)


def _near(text: str, name: str) -> NearValue:
    parts = split_escaped(text, "|")
    numbers = [_decimal(part) for part in parts[:3]]
    unit = parts[3] if len(parts) > 3 and parts[3] else "km"
    scale = {"km": 1.0, "m": 0.001, "[mi_us]": 1.609347, "[mi_i]": 1.609344}.get(unit)
    is_complete = 2 <= len(parts) <= 4 and all(number is not None for number in numbers)
    latitude, longitude, distance = (
        float(n) if n is not None else 0.0 for n in (*numbers, *[Decimal(50)] * 3)[:3]
    )
    is_lawful = abs(latitude) <= 90 and abs(longitude) <= 180 and distance >= 0
    if scale is None or not is_complete or not is_lawful:
        refuse(
            name,
            "search-near-form",
            ("near is latitude|longitude|distance|unit", "near 的取值为 纬度|经度|距离|单位"),
            (
                "Give degrees and km, such as 39.9|116.4|5|km.",
                "请给出度数和公里数，如 39.9|116.4|5|km。",
            ),
        )
    kilometres = (distance if len(parts) > 2 else 50.0) * scale
    return NearValue(latitude=latitude, longitude=longitude, kilometres=kilometres)


def _composite(
    parameter: SearchParameter, text: str, name: str, reading: Reading
) -> CompositeValue:
    parts = split_escaped(text, "$")
    if len(parts) != len(parameter.components):
        count = len(parameter.components)
        refuse(
            name,
            "search-composite-form",
            (f"needs {count} values joined by $", f"需要 {count} 个以 $ 连接的值"),
            (
                "Write " + "$".join(component.code for component in parameter.components) + ".",
                "请写成 " + "$".join(component.code for component in parameter.components) + "。",
            ),
        )
    if not all(parts):
        refuse(
            name,
            "search-empty-value",
            ("an empty value", "值为空"),
            ("Give a value on each side of the $.", "请在 $ 的每一侧给出值。"),
        )
    values = tuple(
        value_of(_as_parameter(parameter, index), "", part, name, reading)
        for index, part in enumerate(parts)
    )
    return CompositeValue(values)


def _as_parameter(parameter: SearchParameter, index: int) -> SearchParameter:
    component = parameter.components[index]
    return SearchParameter(
        code=component.code,
        url="",
        type=component.type,
        base=parameter.base,
        number=0,
    )
