"""The quick reader beside an exact one: the same verdict and the same value for every text."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import json_scan, resource_json
from conformance.problem import InvalidStructure

DEPTH = 5
_BOM = b"\xef\xbb\xbf"


def exactly(data: bytes, max_depth: int) -> Any:
    """Return what the texts say token by token: a value, or the key and offset of a fault."""
    data = data.removeprefix(_BOM)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return "json-encoding", error.start
    fault = json_scan.find_fault(data, max_depth)
    if fault is not None:
        return fault.key, fault.offset
    value = json.loads(text, parse_float=resource_json.decimal_of)
    return _plain(value) if isinstance(value, dict) else ("json-not-object", 0)


def quickly(data: bytes, max_depth: int) -> Any:
    """Return the same of the reader that the hub uses."""
    try:
        return _plain(resource_json.parse(data, max_depth=max_depth))
    except InvalidStructure as refused:
        (issue,) = refused.issues
        data = data.removeprefix(_BOM)
        assert issue.line is not None
        lines = data.split(b"\n")
        start = sum(len(line) + 1 for line in lines[: issue.line - 1])
        before = lines[issue.line - 1].decode("utf-8", "replace")[: (issue.column or 1) - 1]
        return issue.key, start + len(before.encode())


def _plain(value: Any) -> Any:
    """Return a value in which types and the texts of numbers count, and the order of members."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}, tuple(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, resource_json.Decimal):
        return "decimal", resource_json.text_of(value)
    return type(value).__name__, value


# A text of JSON as a tree: members are pairs, so that a name can stand twice.
_WORDS = st.sampled_from(
    ["1.10", "1E3", "0.0", "-0", "-0.0", "12345678901234567890", "7", "true", "null", "1e-7", "01"]
)
_TEXTS = st.sampled_from(
    ['"a"', '"\\u0061"', '""', '":"', '"\\u003a"', '"桥"', '"\\u6865"', '"\\n\\"["', '"\\u0000"',
     '"\\\\u0000"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\/"', '"\x7f"', '"b"', '"{"', '"\x01"',
     '"\\u001f"', '"\\b"', '"\u2028"'])  # fmt: skip
_TREES = st.recursive(
    _WORDS | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(_TEXTS, inner), max_size=4).map(lambda pairs: {"members": pairs})
    ),
    max_leaves=12,
)
_STYLES = st.sampled_from(["compact", "indented", "indented 4", "loose"])


def _written(tree: Any, style: str, level: int = 1) -> str:
    """Write a tree as orjson would, or in other ways that JSON allows."""
    if isinstance(tree, str):
        return tree
    colon = {"compact": ":", "loose": "\t: "}.get(style, ": ")
    is_object = isinstance(tree, dict)
    items = [
        f"{one[0]}{colon}{_written(one[1], style, level + 1)}"
        if is_object
        else _written(one, style, level + 1)
        for one in (tree["members"] if is_object else tree)
    ]
    start, end = ("{", "}") if is_object else ("[", "]")
    if not items:
        return start + end
    if style in {"compact", "loose"}:
        return start + ("," if style == "compact" else " , ").join(items) + end
    width = 4 if style.endswith("4") else 2
    line = "\n" + " " * width * level
    return start + line + ("," + line).join(items) + line[:-width] + end


def _members(tree: Any) -> Any:
    return {"members": [('"value"', tree), ('"b"', "1.50")]}


@given(_TREES.map(_members), _STYLES, st.sampled_from(["", "\n", " \n"]), st.booleans())
def test_texts_of_all_styles_are_read_exactly(tree: Any, style: str, end: str, bom: bool) -> None:
    data = (_BOM if bom else b"") + (_written(tree, style) + end).encode()
    assert quickly(data, DEPTH) == exactly(data, DEPTH)


@given(_TREES.map(_members), _STYLES, st.data())
def test_texts_with_a_few_bytes_changed_are_read_exactly(
    tree: Any, style: str, data: st.DataObject
) -> None:
    text = bytearray(_written(tree, style).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(st.sampled_from([b"", b'"', b"\\", b"[", b"}", b",", b":", b"\xff", b"0"]))
        text[at : at + 1] = new
        if not text:
            return
    if quickly(bytes(text), DEPTH) != exactly(bytes(text), DEPTH):
        assert _is_in_dispute(bytes(text))


def _is_in_dispute(data: bytes) -> bool:
    """Say whether only the places differ: C reader and scanner stop at the two ends of a fault."""
    quick, exact = quickly(data, DEPTH), exactly(data, DEPTH)
    return quick[0] == exact[0] == "json-syntax"


def test_every_example_is_read_exactly(shared_data: pathlib.Path) -> None:
    for file in sorted((shared_data / "r4-examples").glob("*.json"))[::5]:
        data = file.read_bytes()
        assert quickly(data, 64) == exactly(data, 64), file.name


PROBES = [
    b'{\n  "a": 1.10\n}',
    b'{\n  "a": 1,\n  "a": 1\n}',
    b'{\n  "a": {\n    "b": 1,\n    "b": 2\n  }\n}\n',
    b'{\n  "a": NaN\n}',
    b'{\n  "a": "\\ud800"\n}',
    b'{\n  "a": "\\u0000"\n}',
    b'{"a":"\\u0000"}',
    b'{\n  "a": ' + b"9" * 5000 + b"\n}",
    b'{\n  "a": 18446744073709551616\n}',
    b'{"a":18446744073709551616,"a":1}',
    b'{\n  "a": 1e999999\n}',
    _written(_members([[[[]]]]), "indented").encode(),
    _written(_members([[['"x"']]]), "indented").encode(),
    _written(_members([[[['"x"']]]]), "indented").encode(),
    _written(_members([[[[[]]]]]), "indented").encode(),
]


@pytest.mark.parametrize("data", PROBES)
def test_each_probe_is_judged_exactly(data: bytes) -> None:
    assert quickly(data, DEPTH) == exactly(data, DEPTH)


def _always(*_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("protection", "instead", "probe"),
    [
        ("_comes_back", _always, PROBES[1]),
        ("_comes_back", _always, PROBES[14]),
        ("_has_null_character", lambda data: False, PROBES[5]),
        ("_has_null_character", lambda data: False, PROBES[6]),
        ("_is_plainly_unique", _always, PROBES[9]),
    ],
)
def test_without_each_protection_a_probe_gets_through(
    monkeypatch: pytest.MonkeyPatch, protection: str, instead: Callable[..., bool], probe: bytes
) -> None:
    monkeypatch.setattr(resource_json, protection, instead)
    assert quickly(probe, DEPTH) != exactly(probe, DEPTH)
