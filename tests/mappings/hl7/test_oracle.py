"""hl7apy, another reader of HL7 v2, sees the same segments, fields, repetitions and components."""

import pathlib
import warnings

import pytest

from mappings.hl7.message import parse


def test_another_reader_reads_the_same_fields(shared_data: pathlib.Path) -> None:
    parser = pytest.importorskip("hl7apy.parser")
    files = sorted((shared_data / "hl7v2-messages" / "messages").glob("*.hl7"))
    compared = 0
    for file in files[::8]:
        message = parse(file.read_bytes())
        for segment in message.segments:
            if segment.name == "MSH" or segment.name.startswith("Z"):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = parser.parse_segment(segment.encode(), version="2.8.2")
            for number, raw in enumerate(segment.fields):
                if number == 0 or not raw:
                    continue
                name = f"{segment.name}_{number}"
                had = [child for child in theirs.children if child.name == name.upper()]
                if not had:
                    continue  # a field that version 2.8.2 does not know
                if had[0].datatype in {"SI", "NM"}:
                    continue  # hl7apy writes numbers anew
                ours = [one.rstrip("^&") for one in raw.split("~")]
                assert [one.to_er7().rstrip("^&") for one in had] == ours, (file.name, name)
                compared += 1
    assert compared > 1000
