"""Loads what the first requests would wait for: tables, search parameters, pinyin."""

import asyncio

from conformance.r4.tables import load
from conformance.search_parameters import parameters_of
from conformance.structure import check
from conformance.text_folding import sounds_of

_COMMON = ("Patient", "Observation", "Condition", "Encounter", "Bundle")


async def warm_up() -> None:
    """Load the lazily loaded tables in a thread; once in a process, then free of cost."""
    await asyncio.to_thread(_load)


def _load() -> None:
    sounds_of("一")  # any Chinese character loads the dictionary
    for type_ in load().resource_types:
        parameters_of(type_)
    for type_ in _COMMON:
        check({"resourceType": type_})
