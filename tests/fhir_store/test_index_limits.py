"""Index rows of hostile content: bounded time and memory, whatever the body holds."""

import time
import tracemalloc
import unicodedata

import pytest

from conformance.text_folding import fold
from fhir_store.index_rows import rows_of


def test_long_values_are_not_remembered() -> None:
    """Whoever sends long names, codes, units or addresses cannot fill the memory with them."""

    def rows(number: int) -> None:
        long = f"{number}" + "张x" * 2_000
        unit = {"value": 1, "system": long, "code": long, "unit": long}
        code = {"coding": [{"system": long, "code": long}], "text": long}
        rows_of({"resourceType": "Patient", "name": [{"family": long, "text": long}]})
        rows_of({"resourceType": "Observation", "code": code, "valueQuantity": unit})
        rows_of({"resourceType": "Observation", "subject": {"reference": f"Patient/{long}"}})

    rows(0)
    tracemalloc.start()
    try:
        for number in range(1, 3):
            rows(number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 30_000


def _codings(letter: str) -> dict[str, object]:
    return {"coding": [{"code": f"{letter}{number}"} for number in range(2_000)]}


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "name": [{"family": "张伟" * 200_000}]},
        {"resourceType": "Patient", "name": [{"family": "a" + "\u0301\u0316" * 100_000}]},
        {"resourceType": "Patient", "name": [{"family": "a" + "\u0f73" * 100_000}]},
        {"resourceType": "Patient", "name": [{"text": f"张伟{n}"} for n in range(10_000)]},
        {
            "resourceType": "Observation",
            "code": _codings("c"),
            "valueCodeableConcept": _codings("v"),
        },
    ],
    ids=["pinyin", "combining marks", "double marks", "names", "combinations"],
)
def test_hostile_content_is_indexed_in_a_moment(resource: dict[str, object]) -> None:
    rows_of({"resourceType": "Patient", "name": [{"family": "张"}]})  # loads the dictionary
    began = time.process_time()
    rows_of(resource)
    assert time.process_time() - began < 3


def _folded_as_a_whole(text: str) -> str:
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(c for c in plain if not unicodedata.combining(c))


def test_marks_left_out_first_leave_the_folding_as_it_is() -> None:
    marks, filling = "\u0301\u0345\u0316\u0f73\u0344", "x" * 64
    for character in map(chr, range(0x80, 0x3000)):
        if character.isprintable() and not character.isspace():
            text = f"α{marks}{character}{marks}é{filling}"
            assert fold(text) == _folded_as_a_whole(text)
