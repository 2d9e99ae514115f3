"""The code tables of partners as ConceptMap resources, the same tables that the maps read."""

import json
from collections.abc import Iterator
from typing import Any

from adapters.province.error_table import read_error_table
from conformance.cphc import BASE
from conformance.cphc.code_systems import CONFIDENCE_EXTENSION
from mappings.engine.library import default_folder

_ERRORS = "cphc-cm-province-error-to-partner-error"


def partner_maps() -> Iterator[dict[str, Any]]:
    """Yield the tables whose rows a partner gives, then what the province's errors mean.

    A table of the maps is a partner's where it has an id; those of HL7 v2 have none.
    """
    for file in sorted((default_folder() / "tables").glob("*.json")):
        table = json.loads(file.read_text("utf-8"))
        if "id" in table:
            yield table
    yield _province_errors()


def _province_errors() -> dict[str, Any]:
    """Return each error's class, with what a person does about it as comment."""
    elements = [
        {
            "code": meaning.code,
            "display": meaning.meaning_zh,
            "target": [
                {
                    "code": meaning.error_class,
                    "equivalence": "wider",
                    "comment": f"{meaning.action_zh} ({meaning.action_en})",
                }
            ],
        }
        for meaning in read_error_table().values()
        if meaning.error_class
    ]
    group = {
        "source": "urn:qiao:province:error",
        "target": f"{BASE}/CodeSystem/cphc-partner-error",
        "element": elements,
    }
    return {
        "resourceType": "ConceptMap",
        "id": _ERRORS,
        "extension": [{"url": CONFIDENCE_EXTENSION, "valueCode": "design"}],
        "url": f"{BASE}/ConceptMap/{_ERRORS}",
        "name": "ProvinceError",
        "title": "省平台错误代码与处理办法 (Errors of the province, and what to do)",
        "status": "active",
        "group": [group],
    }
