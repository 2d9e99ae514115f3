"""Validation of the official R4 examples, beside fhir.resources R4B on the same files.

The raw limit is msgspec reading the same bytes without any check.
"""

import importlib
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from conformance import resource_json, structure
from conformance.problem import Issue, NotSupported

_REPEATS = 5


async def run() -> dict[str, Any]:
    """Return milliseconds of CPU for one pass over all files that both sides accept."""
    files = [file.read_bytes() for file in _files("r4-examples")]
    models = importlib.import_module("fhir.resources.R4B")
    both = [(data, model) for data in files if (model := _model(models, data)) is not None]
    data = [one for one, _ in both]
    resources = [resource_json.parse(one) for one in data]
    decode = msgspec.json.Decoder().decode
    other_bytes = _cpu(lambda pair: pair[1].model_validate_json(pair[0]), both)
    pairs = [(decode(one), model) for one, model in both]
    other_values = _cpu(lambda pair: pair[1].model_validate(pair[0]), pairs)
    raw = _cpu(decode, data)
    read = _cpu(resource_json.parse, data)
    structural = _cpu(_check_form, resources)
    everything = _cpu(structure.check, resources)
    return {
        "files": len(both),
        "bytes": sum(map(len, data)),
        "raw_decode_ms": raw,
        "read_ms": read,
        "structural_ms": structural,
        "everything_ms": everything,
        "fhir_resources_from_bytes_ms": other_bytes,
        "fhir_resources_from_values_ms": other_values,
        "structural_times_faster": round(other_values / structural, 1),
        "structural_times_faster_from_bytes": round(other_bytes / (read + structural), 1),
        "everything_times_faster": round(other_values / everything, 1),
        "everything_times_faster_from_bytes": round(other_bytes / (read + everything), 1),
        **_records(models),
    }


def _records(models: Any) -> dict[str, Any]:
    """Measure Synthea's records, transaction Bundles of hundreds of clinical resources."""
    data = [file.read_bytes() for file in _files("synthea-r4")[:4]]
    bundle = models.get_fhir_model_class("Bundle")
    theirs = _cpu(bundle.model_validate_json, data)
    form = _cpu(lambda one: _check_form(resource_json.parse(one)), data)
    whole = _cpu(lambda one: structure.check(resource_json.parse(one)), data)
    return {
        "records_bytes": sum(map(len, data)),
        "records_fhir_resources_ms": theirs,
        "records_structural_from_bytes_ms": form,
        "records_everything_from_bytes_ms": whole,
        "records_structural_times_faster_from_bytes": round(theirs / form, 1),
        "records_everything_times_faster_from_bytes": round(theirs / whole, 1),
    }


def _check_form(resource: dict[str, Any]) -> None:
    """Check what fhir.resources checks, and codes, references and extensions besides."""
    structure.check(resource, constraints=False, narratives=False)


def _files(kind: str) -> Sequence[pathlib.Path]:
    """Return the files of one folder of inputs: below QIAO_SHARED, or beside the checkout."""
    named = os.environ.get("QIAO_SHARED")
    above = pathlib.Path(__file__).resolve().parents[3:5]
    for place in [pathlib.Path(named)] if named else [parent / "shared" for parent in above]:
        if found := sorted((place / "data" / kind).rglob("*.json")):
            return found
    raise NotSupported(
        Issue(
            code="not-found",
            key="no-examples",
            text_en="The example resources are not here.",
            text_zh="未找到示例资源。",
            fix_en=f"Set QIAO_SHARED to the folder that holds data/{kind}.",
            fix_zh=f"请将 QIAO_SHARED 设为含有 data/{kind} 的文件夹。",
        )
    )


def _model(models: Any, data: bytes) -> Any:
    """Return the R4B class of a resource if it exists and accepts it."""
    try:
        model = models.get_fhir_model_class(msgspec.json.decode(data)["resourceType"])
        model.model_validate_json(data)
    except (KeyError, LookupError, ValueError):
        return None
    return model


def _cpu(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return the least CPU milliseconds of a few passes."""
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.process_time()
        for item in items:
            work(item)
        best = min(best, time.process_time() - start)
    return round(best * 1000, 1)
