"""Where code systems, value sets and concept maps are found by canonical address."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from conformance.problem import Issue, NotFound
from conformance.r4 import tables
from conformance.terminology.concepts import CodeSystem, index

KINDS = ("CodeSystem", "ValueSet", "ConceptMap")


def split_canonical(canonical: str) -> tuple[str, str | None]:
    """Return address and version of `url|version`."""
    url, _, version = canonical.partition("|")
    return url, version or None


class Library:
    """Terminology resources by canonical address, those of R4 included unless told otherwise.

    A library never changes; `with_resources` gives a larger one.
    """

    def __init__(
        self, resources: Iterable[Mapping[str, Any]] = (), *, built_in: bool = True
    ) -> None:
        self._resources = [r for r in resources if r.get("resourceType") in KINDS]
        self._built_in = built_in
        self._by_url: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for resource in self._resources:
            if "url" in resource:  # a ConceptMap without one can still be read
                key = (resource["resourceType"], resource["url"])
                self._by_url.setdefault(key, []).append(resource)
        self._indexes: dict[tuple[str, str | None, tuple[str, ...]], CodeSystem] = {}

    def with_resources(self, resources: Iterable[Mapping[str, Any]]) -> "Library":
        """Return a library in which these come before what is known already."""
        return Library([*resources, *self._resources], built_in=self._built_in)

    def find(self, kind: str, canonical: str) -> Mapping[str, Any] | None:
        """Return the resource; without a version the latest one."""
        url, version = split_canonical(canonical)
        found = self._by_url.get((kind, url), [])
        if version:
            found = [resource for resource in found if resource.get("version") == version]
        if found:
            return max(found, key=lambda resource: _sortable(resource.get("version")))
        known = self._built_in_of(kind).get(url) if self._built_in else None
        if known is None or (version and known.get("version") not in (None, version)):
            return None
        return known

    def of_id(self, kind: str, id_: str) -> Mapping[str, Any] | None:
        """Return the given resource of a kind by its id; R4's own have none here."""
        found = (r for r in self._resources if (r["resourceType"], r.get("id")) == (kind, id_))
        return next(found, None)

    def code_system(self, canonical: str, supplements: tuple[str, ...] = ()) -> CodeSystem | None:
        """Return the indexed CodeSystem with its supplements, or None where it is not known."""
        url, version = split_canonical(canonical)
        key = (url, version, supplements)
        if key not in self._indexes:
            resource = self.find("CodeSystem", canonical)
            if resource is None or resource.get("content") == "supplement":
                return None
            fitting = [s for s in map(self._supplement, supplements) if _is_for(s, url)]
            self._indexes[key] = index(resource, fitting)
        return self._indexes[key]

    def require_supplements(self, canonicals: Iterable[str]) -> tuple[str, ...]:
        """Return the canonicals as they are, or raise NotFound for one that is not known."""
        return tuple(canonical for canonical in canonicals if self._supplement(canonical))

    def concept_maps(self) -> Iterator[Mapping[str, Any]]:
        """Yield every ConceptMap, given ones first."""
        yield from (r for r in self._resources if r["resourceType"] == "ConceptMap")
        if self._built_in:
            yield from self._built_in_of("ConceptMap").values()

    def _supplement(self, canonical: str) -> Mapping[str, Any]:
        found = self.find("CodeSystem", canonical)
        if found is None or found.get("content") != "supplement":
            raise NotFound(
                Issue(
                    code="not-found",
                    key="supplement-not-found",
                    text_en=f"Required supplement not found: {canonical}",
                    text_zh=f"找不到所需的补充代码系统：{canonical}",
                    fix_en="Create the supplement CodeSystem first, or leave it out.",
                    fix_zh="请先创建该补充代码系统，或不要引用它。",
                )
            )
        return found

    def _built_in_of(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        loaded = tables.load()
        if kind == "CodeSystem":
            return loaded.code_systems
        return loaded.value_sets if kind == "ValueSet" else loaded.concept_maps


def _is_for(supplement: Mapping[str, Any], url: str) -> bool:
    return split_canonical(supplement.get("supplements", ""))[0] == url


def _sortable(version: str | None) -> tuple[tuple[int, int, str], ...]:
    parts = (version or "").replace("-", ".").split(".")
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts)
