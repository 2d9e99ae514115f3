"""Terminology, profiles and forms as they stand in the store, kept until one of them changes."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from conformance import resource_json
from conformance.cphc.artefacts import package
from conformance.fhirpath import Node, Ports
from conformance.forms.answers import check_response
from conformance.forms.questionnaires import questionnaires
from conformance.problem import Issue
from conformance.profiles import Profiles
from conformance.terminology.library import KINDS, Library
from conformance.terminology.port import terminology_of
from conformance.validation import ENFORCE, Validator
from fhir_store.definitions import definitions_mark, definitions_of
from fhir_store.store import Store

_TYPES = (*KINDS, "StructureDefinition")
LOOK_SECONDS = 1.0
"""How stale an answer may be: a code system created elsewhere counts within this time."""


class Definitions:
    """The library and the validator of one process; the package stands behind what is stored."""

    def __init__(self, store: Store, *, claimed: str = ENFORCE) -> None:
        self._store = store
        self._claimed = claimed
        self._own = [one for one in package() if one["resourceType"] in _TYPES]
        self._library = Library(self._own)
        self._validator = self._validator_of(self._own)
        self._mark: tuple[int, int] | None = None
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def library(self, *, is_fresh: bool = False) -> Library:
        """Return code systems, value sets and maps: stored, of the package, of R4.

        `is_fresh` asks the store whether anything has changed, however lately it was asked.
        """
        if not is_fresh and time.monotonic() - self._looked_at < LOOK_SECONDS:
            return self._library
        async with self._lock:
            mark = await definitions_mark(self._store.pool, _TYPES)
            if mark != self._mark:
                bodies = await definitions_of(self._store.pool, _TYPES)
                stored = [resource_json.parse(body) for body in bodies]
                self._library = Library([*stored, *self._own])
                self._validator = self._validator_of([*stored, *self._own])
                self._mark = mark
            self._looked_at = time.monotonic()
            return self._library

    async def refresh(self) -> None:
        """Read the stored definitions again where they have changed."""
        await self.library()

    async def reread(self) -> None:
        """Read them again where they have changed, however lately that was asked."""
        await self.library(is_fresh=True)

    def check_profiles(self, resource: Mapping[str, Any], profiles: tuple[str, ...]) -> list[Issue]:
        """Return what is found beyond the form, by the definitions last read."""
        return self._validator.check_content(resource, profiles=profiles)

    def fhirpath_ports(self, root: Node) -> Ports:
        """Return what `memberOf()`, `conformsTo()` and `slice()` ask, by the same definitions."""
        return self._validator.ports_for(root)

    async def check_answers(self, response: Mapping[str, Any]) -> list[Issue]:
        """Return what is wrong with a response by its form; an unknown form is a warning."""
        if not isinstance(response.get("questionnaire"), str):
            return []
        form = await self.form_of(response)
        issues = check_response(response, form, await self.library())
        return issues if form is not None else [replace(one, severity="warning") for one in issues]

    async def form_of(self, response: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the form that a response names: one inside it, or one by its address."""
        canonical = str(response.get("questionnaire", ""))
        if not canonical.startswith("#"):
            return await self.questionnaire(canonical)
        inside = response.get("contained", ())
        return next((one for one in inside if one.get("id") == canonical[1:]), None)

    def _validator_of(self, resources: list[dict[str, Any]]) -> Validator:
        ports = Ports(terminology=terminology_of(self._library))
        return Validator(profiles=Profiles(resources), ports=ports, claimed=self._claimed)

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
