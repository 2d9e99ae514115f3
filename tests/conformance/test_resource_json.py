"""JSON in and out, exactly."""

import copy
import json
import pathlib
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import json_scan, resource_json
from conformance.problem import InvalidStructure


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "1E3",
        "1e-3",
        "0.10000000000000000001",
        "-0.0",
        "72.50",
        "0.00000001",
        "19",
        "1.0E+2",
    ],
)
def test_a_number_keeps_its_text(text: str) -> None:
    data = b'{"value":' + text.encode() + b"}"
    value = resource_json.parse(data)["value"]
    assert value == Decimal(text)
    assert resource_json.text_of(value) == text
    assert resource_json.dump({"value": copy.deepcopy(value)}) == data
    assert resource_json.dump({"value": pickle.loads(pickle.dumps(value))}) == data


def test_without_the_decimal_hook_the_text_is_lost() -> None:
    assert json.dumps(json.loads('{"value":1.10}')) == '{"value": 1.1}'


@pytest.mark.parametrize(
    ("data", "key", "place", "expression"),
    [
        (b'{"a":NaN}', "json-syntax", (1, 6), "a"),
        (b'{"a":-Infinity}', "json-syntax", (1, 6), "a"),
        (b'{"a":1,\n "b":{"c":1,"c":2}}', "json-duplicate-key", (2, 13), "b.c"),
        (b'{"\\u0061":1,"a":2}', "json-duplicate-key", (1, 13), "a"),
        (b'{"x":"\\":","a":1,"a":2}', "json-duplicate-key", (1, 18), "a"),
        (b'{"a":1,"a":1,"b":"\\u003ax"}', "json-duplicate-key", (1, 8), "a"),
        (b'{"a":1,"a":1,"b":"\\u0022:"}', "json-duplicate-key", (1, 8), "a"),
        (b'{"a":{"c":1},"a":{"d":1}}', "json-duplicate-key", (1, 14), "a"),
        (b'{"a" \n:1, "a"\t:1}', "json-duplicate-key", (2, 5), "a"),
        (b'{"a":"\\ud800"}', "json-surrogate", (1, 6), "a"),
        (b'{"a":"\\udc00\\ud800"}', "json-surrogate", (1, 6), "a"),
        (b'{"a":["\\u0000"]}', "json-null-character", (1, 7), "a[0]"),
        (b'{"a":"\x00"}', "json-syntax", (1, 6), "a"),
        (b'{"a":1}x', "json-syntax", (1, 8), None),
        (b'{"a":1}{"b":2}', "json-syntax", (1, 8), None),
        (b'{"a":1,}', "json-syntax", (1, 8), "a"),
        (b'{"a":"\xb9\xfa"}', "json-encoding", (1, 7), None),
        (b"\xff\xfe{\x00", "json-encoding", (1, 1), None),
        (b'{"a":1e999999}', "json-number", (1, 6), "a"),
        (b'{"a":' + b"9" * 5000 + b"}", "json-number", (1, 6), "a"),
        (b"[]", "json-not-object", (1, 1), None),
        (b"", "json-syntax", (1, 1), None),
    ],
)
def test_what_is_not_clean_json_is_refused_with_its_place(
    data: bytes, key: str, place: tuple[int, int], expression: str | None
) -> None:
    with pytest.raises(InvalidStructure) as refused:
        resource_json.parse(data)
    (issue,) = refused.value.issues
    assert issue.key == key
    assert (issue.line, issue.column) == place
    assert issue.expression == expression
    assert issue.text_zh
    assert issue.fix_en


@pytest.mark.parametrize("escape", [b"x", b"\\u003a", b"\\/", b"\\u0022:"])
def test_a_name_given_twice_in_a_long_text_is_refused_whatever_the_escapes(escape: bytes) -> None:
    rest = b'"t":"' + escape * 20_000 + b'","a":1}'
    assert resource_json.parse(b'{"b":1,' + rest)["a"] == 1
    with pytest.raises(InvalidStructure) as refused:
        resource_json.parse(b'{"a":1,' + rest)
    assert refused.value.issues[0].key == "json-duplicate-key"


@pytest.mark.parametrize("count", [64, 65, 200, 800, 5_000, 1_000_000])
def test_deep_nesting_is_refused_before_it_hurts(count: int) -> None:
    with pytest.raises(InvalidStructure) as refused:
        resource_json.parse(b'{"a":' + b"[" * count + b"]" * count + b"}")
    assert refused.value.issues[0].key == "json-depth"


def test_brackets_in_strings_do_not_hide_or_feign_depth() -> None:
    hidden = b'{"a":' + b'["]",' * 70 + b'"x"' + b',"["]' * 70 + b"}"
    with pytest.raises(InvalidStructure) as refused:
        resource_json.parse(hidden)
    assert refused.value.issues[0].key == "json-depth"
    feigned = b'{"a":"' + b"[" * 100 + b'"}'
    assert resource_json.parse(feigned) == {"a": "[" * 100}


def test_a_depth_of_64_is_read() -> None:
    data = b'{"a":' + b"[" * 63 + b"]" * 63 + b"}"
    assert resource_json.dump(resource_json.parse(data)) == data


@pytest.mark.parametrize("inner", [b"[]", b"{}", b"[1]", b'"\\n",{"b":1}'])
@pytest.mark.parametrize("filler", [b"", b'"' + b"x" * 70_000 + b'",'])
def test_a_depth_of_65_is_refused_in_short_and_long_texts(inner: bytes, filler: bytes) -> None:
    data = b'{"a":' + b"[" * 63 + filler + inner + b"]" * 63 + b"}"
    assert resource_json.parse(data, max_depth=65)
    with pytest.raises(InvalidStructure) as refused:
        resource_json.parse(data)
    assert refused.value.issues[0].key == "json-depth"


def test_a_byte_order_mark_is_dropped() -> None:
    assert resource_json.parse(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert resource_json.parse(b'{"a":"\\\\u0000"}') == {"a": "\\u0000"}


def test_escaped_chinese_is_read_on_the_quick_way() -> None:
    assert resource_json.parse(b'{"a":"\\u6865","b":"\\/\\u0022"}') == {"a": "桥", "b": '/"'}


def test_every_example_comes_back_as_it_was(shared_data: pathlib.Path) -> None:
    for file in sorted((shared_data / "r4-examples").glob("*.json")):
        data = file.read_bytes()
        again = resource_json.dump(resource_json.parse(data))
        assert json.loads(again, parse_float=str) == json.loads(data, parse_float=str), file.name
        assert json_scan.find_fault(data, 64) is None, file.name


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), _values), st.booleans())
def test_whatever_json_can_say_is_read_as_the_standard_library_reads_it(
    value: dict[str, object], ascii_only: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    if "\\u0000" in text and "\x00" in str(json.loads(text)):
        return
    if '"\\u0000' in text or "\\u0000" in text:
        return
    assert resource_json.parse(text.encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]:,"\\u0019aex.-+ \n').map(str.encode))
def test_any_bytes_give_an_object_or_a_named_refusal(data: bytes) -> None:
    try:
        value = resource_json.parse(data)
    except InvalidStructure:
        return
    assert json.loads(data.removeprefix(b"\xef\xbb\xbf"), parse_float=Decimal) == value


def test_positions_name_every_element() -> None:
    data = '{\n "name": [{"given": ["桥", "b"]}],\n "_birthDate": {"id": "x"}\n}'.encode()
    assert json_scan.positions(data) == {
        "": (1, 1),
        "name": (2, 2),
        "name[0]": (2, 11),
        "name[0].given": (2, 12),
        "name[0].given[0]": (2, 22),
        "name[0].given[1]": (2, 27),
        "birthDate": (3, 2),
        "birthDate.id": (3, 17),
    }
