"""The template of agreements that comes with the hub: a Contract of status `policy`."""

from typing import Any

from conformance.cphc import BASE, VERSION
from conformance.cphc.code_systems import sources
from conformance.yaml_text import read_yaml


def agreement_template() -> dict[str, Any]:
    """Return the template; each clause is a `term` with its words in `term.text`."""
    source = read_yaml((sources() / "agreement.yaml").read_text("utf-8"))
    return {
        "resourceType": "Contract",
        "id": source["id"],
        "url": f"{BASE}/Contract/{source['id']}",
        "version": VERSION,
        "status": "policy",
        "title": source["title"],
        "term": [
            {"offer": {"text": f"条款 {number}"}, "text": words}
            for number, words in enumerate(source["clauses"], 1)
        ],
    }
