"""Terminology and forms as they stand in the store, kept in memory until one of them changes."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from conformance import resource_json
from conformance.cphc.code_systems import code_systems, value_sets
from conformance.forms.questionnaires import option_value_sets, questionnaires
from conformance.terminology.library import KINDS, Library
from fhir_store.definitions import definitions_mark, definitions_of
from fhir_store.store import Store

LOOK_SECONDS = 1.0
"""How stale an answer may be: a code system created elsewhere counts within this time."""


class Definitions:
    """The library of one process; the package's own resources stand behind the stored ones."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own = [*code_systems(), *value_sets(), *option_value_sets()]
        self._library = Library(self._own)
        self._mark: tuple[int, int] | None = None
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def library(self) -> Library:
        """Return code systems, value sets and maps: stored, of the package, of R4."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return self._library
        async with self._lock:
            mark = await definitions_mark(self._store.pool, KINDS)
            if mark != self._mark:
                bodies = await definitions_of(self._store.pool, KINDS)
                stored = [resource_json.parse(body) for body in bodies]
                self._library = Library([*stored, *self._own])
                self._mark = mark
            self._looked_at = time.monotonic()
            return self._library

    async def questionnaire(self, canonical: str) -> Mapping[str, Any] | None:
        """Return a form by its canonical address: of the package, or one that is stored."""
        url, _, version = canonical.partition("|")
        for form in questionnaires().values():
            if form["url"] == url and version in ("", form["version"]):
                return form
        for body in await definitions_of(self._store.pool, ("Questionnaire",)):
            form = resource_json.parse(body)
            if form.get("url") == url and version in ("", form.get("version", "")):
                return form
        return None
