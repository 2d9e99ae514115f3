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
    """Return milliseconds of CPU for one pass over all files that both sides accept.

    `structural` is the check alone, of values read before, against validation of values by
    fhir.resources; `from_bytes` has the reading in it on both sides.
    """
    files = [file.read_bytes() for file in _files("r4-examples")]
    models = importlib.import_module("fhir.resources.R4B")
    both = [(data, model) for data in files if (model := _model(models, data)) is not None]
    data = [one for one, _ in both]
    resources = [resource_json.parse(one) for one in data]
    decode = msgspec.json.Decoder().decode
    pairs = [(decode(one), model) for one, model in both]
    figures = cpu_in_turns(
        raw_decode_ms=(decode, data),
        read_ms=(resource_json.parse, data),
        structural_ms=(_check_form, resources),
        structural_from_bytes_ms=(lambda one: _check_form(resource_json.parse(one)), data),
        everything_ms=(structure.check, resources),
        everything_from_bytes_ms=(lambda one: structure.check(resource_json.parse(one)), data),
        fhir_resources_ms=(lambda pair: pair[1].model_validate(pair[0]), pairs),
        fhir_resources_from_bytes_ms=(lambda pair: pair[1].model_validate_json(pair[0]), both),
    )
    theirs = {
        "": figures["fhir_resources_ms"],
        "_from_bytes": figures["fhir_resources_from_bytes_ms"],
    }
    ratios = {
        f"{what}_times_faster{way}": round(theirs[way] / figures[f"{what}{way}_ms"], 1)
        for what in ("structural", "everything")
        for way in theirs
    }
    sizes = {"files": len(both), "bytes": sum(map(len, data))}
    return {**sizes, **figures, **ratios, **_records(models)}


def _records(models: Any) -> dict[str, Any]:
    """Measure Synthea's records, transaction Bundles of hundreds of clinical resources."""
    data = [file.read_bytes() for file in _files("synthea-r4")[:4]]
    bundle = models.get_fhir_model_class("Bundle")
    figures = cpu_in_turns(
        records_fhir_resources_from_bytes_ms=(bundle.model_validate_json, data),
        records_structural_from_bytes_ms=(lambda one: _check_form(resource_json.parse(one)), data),
        records_everything_from_bytes_ms=(
            lambda one: structure.check(resource_json.parse(one)),
            data,
        ),
    )
    theirs, form, whole = figures.values()
    return {
        "records_bytes": sum(map(len, data)),
        **figures,
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


def cpu_in_turns(
    repeats: int = _REPEATS, **works: tuple[Callable[[Any], object], Sequence[Any]]
) -> dict[str, float]:
    """Return the CPU milliseconds of each work over its items.

    All works take turns, item by item in step, and each item counts with the least of a few
    times: so what else the machine does falls on all of them alike.
    """
    totals = dict.fromkeys(works, 0.0)
    count = len(next(iter(works.values()))[1])
    for index in range(count):
        best = dict.fromkeys(works, float("inf"))
        for _ in range(repeats):
            for name, (work, items) in works.items():
                item = items[index]
                start = time.process_time()
                work(item)
                best[name] = min(best[name], time.process_time() - start)
        for name, least in best.items():
            totals[name] += least
    return {name: round(total * 1000, 1) for name, total in totals.items()}
