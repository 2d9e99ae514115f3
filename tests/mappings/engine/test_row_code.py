"""Rows become one function: what it says, and that nothing of a map can run as code."""

import linecache
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from mappings.engine.code import Code
from mappings.engine.condition_code import line_condition
from mappings.engine.conditions import compile_condition
from mappings.engine.context import Context
from mappings.engine.library import load
from mappings.engine.row_code import part_rows, segment_rows
from mappings.engine.rows import Row
from mappings.engine.scopes import Scope, SlotNames
from mappings.engine.value_code import Compiling
from mappings.hl7.message import Segment
from mappings.translate import Translator

COMPILER = load().compile()


def _compiling() -> Compiling:
    return Compiling(
        traced=True, watched=False, convert=lambda _row: _fails, call=lambda _row: _fails
    )


def _fails(*_given: Any) -> None:
    raise LookupError("a value too many")


def _run(rows: list[Row], text: str) -> tuple[dict[str, Any], list[Any]]:
    """Run rows over one segment; return the element and its trace."""
    slots = SlotNames()
    fill = segment_rows("test", rows, slots, _compiling())
    segment = Segment(text[:3], text, "|", 1)
    scope = Scope("", segments={segment.name: [segment]})
    out: dict[str, Any] = {}
    context = Context()
    fill(slots.fill(scope, segment), 0, context, out, "Test", "ZZ1[1]")
    return out, context.trace


def test_a_row_writes_its_value_and_its_source() -> None:
    out, trace = _run(
        [
            Row(id="ZZ1-2", line=1, source="ZZ1-2[*].2", target="name[*].text"),
            Row(id="ZZ1-3", line=2, source="ZZ1-3", target="on", codec="dtm.date"),
            Row(id="ZZ1-c", line=3, value="yes", target="said"),
        ],
        "ZZ1||a^one~b^two|20260501",
    )
    assert out == {"name": [{"text": "one"}, {"text": "two"}], "on": "2026-05-01", "said": "yes"}
    assert trace[1] == ("Test.name[1].text", "ZZ1[1]-2[2].2", "ZZ1-2")


def test_a_row_without_its_field_writes_nothing() -> None:
    rows = [
        Row(id="ZZ1-9", line=1, source="ZZ1-9", target="name"),
        Row(id="ZZ1-c", line=2, value="yes", target="said"),
    ]
    assert _run(rows, "ZZ1|1") == ({}, [])
    assert _run(rows, 'ZZ1|1||||||||""') == ({}, [])


HOSTILE = "x'\"\\\n\r{out.clear()}); raise SystemExit(\"\"\"'''"


def _within_brackets(text: str) -> str:
    return "".join(letter for letter in text if letter not in "().")


def test_no_text_of_a_map_runs_as_code() -> None:
    out, trace = _run(
        [
            Row(id=HOSTILE, line=1, source="ZZ1-1", target="a"),
            Row(id="v", line=2, value=HOSTILE, target="b[0].c"),
            Row(
                id="d",
                line=3,
                source="ZZ1-1",
                target=f"extension({_within_brackets(HOSTILE)})[*].valueString",
                defaults={"said": HOSTILE},
            ),
            Row(id="w", line=4, source="ZZ1-1", target="e", when='ZZ1-1 EQUALS "{out.clear()}\'"'),
        ],
        "ZZ1|one",
    )
    assert out["a"] == "one"
    assert out["b"] == [{"c": HOSTILE}]
    assert out["extension"][0]["said"] == HOSTILE
    assert "e" not in out
    assert trace[0] == ("Test.a", "ZZ1[1]-1[1]", HOSTILE)


def test_without_repr_the_same_text_would_run() -> None:
    """The twin: a line that holds the text as it is does what the text says."""
    text = "' + str(6 * 7) + '"
    bare, literal = Code("bare", ""), Code("literal", "")
    bare.add(f"return '{text}'")
    literal.add(f"return {text!r}")
    assert bare.function()() == "42"
    assert literal.function()() == text


def test_a_traceback_shows_the_written_line() -> None:
    fill = part_rows("shown", [Row(id="1", line=1, source="1", target="a", use="T")], _compiling())
    with pytest.raises(LookupError) as raised:
        fill(["x"], 0, Context(), {}, "T", "s")
    lines = "".join(traceback.format_exception(raised.value))
    assert "<rows of shown>" in lines
    assert "value = convert_" in lines
    assert linecache.getline("<rows of shown>", 1).startswith("def run(parts, level,")


@pytest.mark.parametrize(
    "text",
    [
        "ZZ1-1 VALUED",
        "ZZ1-9 NOT VALUED",
        "ZZ1-2.2 VALUED",
        "ZZ1-2[2].2 NOT VALUED",
        'ZZ1-1 IN ("one", "two") AND NOT ZZ1-2 EQUALS "a"',
        'ZZ1-2.1 EQUALS "b" OR ZZ1-3 EQUALS "x&y"',
        'ZZ1-2[2].1 EQUALS "b"',
        "ZZ1-2 COUNT GREATER THAN 1",
        "ZZ1-2 COUNT LESS THAN 2",
        "ZZ1-3 LENGTH EQUALS 3 AND ZZ1-3 LENGTH EQUALS 3",
        "ZZ1-4 VALUED OR ZZ1-4 LENGTH EQUALS 0",
    ],
)
def test_a_written_condition_says_what_its_closures_say(text: str) -> None:
    segment = Segment("ZZ1", 'ZZ1|one|a^1~b^|x\\T\\y|""', "|", 1)
    scope = Scope("", segments={"ZZ1": [segment]})
    slots, written = line_condition(text)
    assert written(slots.fill(scope, segment), Context()) is compile_condition(text, _texts)(None)


@pytest.mark.parametrize("text", ["ZZ1| D ", "ZZ1| D ^x", "ZZ1|\\X20\\D"])
def test_a_condition_compares_without_the_blanks_that_reading_leaves_out(text: str) -> None:
    segment = Segment("ZZ1", text, "|", 1)
    scope = Scope("", segments={"ZZ1": [segment]})
    slots, is_d = line_condition('ZZ1-1.1 EQUALS "D"')
    assert is_d(slots.fill(scope, segment), Context())


def _texts(path: str) -> Callable[[None], list[str]]:
    """Return what stands at a path of the segment above."""
    found = {
        "ZZ1-1": ["one"],
        "ZZ1-2": ["a", "b"],
        "ZZ1-2.1": ["a", "b"],
        "ZZ1-2.2": ["1"],
        "ZZ1-2[2].1": ["b"],
        "ZZ1-2[2].2": [],
        "ZZ1-3": ["x&y"],
    }
    return lambda _scope: found.get(path, [])


def test_a_sources_code_is_shared_by_all_translators() -> None:
    library = load()
    one, other = library.compile().map("PID-Patient"), library.compile().map("PID-Patient")
    assert one is not other
    assert one._fill.__code__ is other._fill.__code__  # type: ignore[attr-defined]


@pytest.mark.slow
def test_all_maps_of_the_hub_compile_whether_traced_or_watched() -> None:
    library = load()
    for traced, watched in ((True, False), (False, False), (True, True)):
        compiler = Translator(library, traced=traced, watched=watched)._compiler
        for name, row_map in library.maps.items():
            if row_map.source_kind == "v2":
                (compiler.type if row_map.kind == "type" else compiler.map)(name)
