"""An OpenAPI document of the FHIR routes, from the registry and the search tables."""

from collections.abc import Iterable
from typing import Any

from conformance.r4.tables import load
from conformance.search_parameters import parameters_of
from routes.registry import Interaction, Operation, Registry
from routes.search_support import COMMON, is_supported

Json = dict[str, Any]

_SHAPES = {
    "": "",
    "metadata": "/metadata",
    "_history": "/_history",
    "_search": "/_search",
    "type": "/{type}",
    "type/_search": "/{type}/_search",
    "type/_history": "/{type}/_history",
    "type/id": "/{type}/{id}",
    "type/id/_history": "/{type}/{id}/_history",
    "type/id/_history/version": "/{type}/{id}/_history/{vid}",
    "type/id/type": "/{type}/{id}/{member}",
    "type/id/type/_search": "/{type}/{id}/{member}/_search",
}
_SEARCHES = frozenset({"search-type", "search-system"})
_CONTROL = {
    "_count": {"type": "integer", "minimum": 0},
    "_sort": {"type": "string"},
    "_include": {"type": "string"},
    "_revinclude": {"type": "string"},
    "_total": {"type": "string", "enum": ["none", "estimate", "accurate"]},
    "_summary": {"type": "string", "enum": ["true", "text", "data", "count", "false"]},
    "_elements": {"type": "string"},
    "_format": {"type": "string", "enum": ["json", "xml"]},
    "_pretty": {"type": "boolean"},
}
_FHIR_JSON = "application/fhir+json"
_RESOURCE = {"$ref": "#/components/schemas/Resource"}


def fhir_paths(registry: Registry, *, root: str) -> Json:
    """Return the `paths` of all FHIR routes below `root`, one for each type."""
    paths: Json = {}
    types = sorted(load().resource_types)
    compartments = load().compartments
    for interaction in registry.interactions:
        pattern = root + _SHAPES[interaction.shape]
        if "{type}" not in pattern:
            _put(paths, pattern, interaction, "")
            continue
        for type_ in types:
            path = pattern.replace("{type}", type_)
            if "{member}" not in path:
                _put(paths, path, interaction, type_)
                continue
            for member in sorted(compartments.get(type_, ())):
                _put(paths, path.replace("{member}", member), interaction, member)
    for operation in registry.operations:
        _put_operation(paths, root, operation, types)
    return paths


def components() -> Json:
    """Return the schemas that the paths refer to."""
    return {
        "Resource": {
            "type": "object",
            "required": ["resourceType"],
            "properties": {
                "resourceType": {"type": "string"},
                "id": {"type": "string", "pattern": "^[A-Za-z0-9\\-.]{1,64}$"},
            },
        }
    }


def _put(paths: Json, path: str, interaction: Interaction, type_: str) -> None:
    method = interaction.method.lower()
    item = paths.setdefault(path, {})
    item[method] = {
        "operationId": f"{interaction.code}:{path}:{method}",
        "summary": interaction.code,
        "tags": [type_ or "system"],
        "parameters": [*_path_parameters(path), *_parameters(interaction, type_)],
        "responses": _responses(),
    }
    body = _body(interaction, type_)
    if body is not None:
        item[method]["requestBody"] = body


def _put_operation(paths: Json, root: str, operation: Operation, types: Iterable[str]) -> None:
    places = []
    if "system" in operation.levels:
        places.append("")
    for type_ in (type_ for type_ in types if operation.is_for(type_)):
        if "type" in operation.levels:
            places.append(f"/{type_}")
        if "instance" in operation.levels:
            places.append(f"/{type_}/{{id}}")
    for place in places:
        path = f"{root}{place}/${operation.code}"
        methods = ["post"] if operation.affects_state else ["get", "post"]
        paths[path] = {
            method: {
                "operationId": f"${operation.code}:{path}:{method}",
                "summary": f"${operation.code}",
                "tags": [place.split("/")[1] if place else "system"],
                "parameters": _path_parameters(path),
                "responses": _responses(),
                **({"requestBody": _resource_body()} if method == "post" else {}),
            }
            for method in methods
        }


def _path_parameters(path: str) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9\\-.]{1,64}$"},
        }
        for name in ("id", "vid")
        if f"{{{name}}}" in path
    ]


def _parameters(interaction: Interaction, type_: str) -> list[Json]:
    if interaction.code not in _SEARCHES or interaction.method != "GET":
        return []
    codes: dict[str, Json] = {code: {"type": "string"} for code in COMMON}
    if type_:
        codes |= {
            code: {"type": "string"}
            for code, parameter in parameters_of(type_).items()
            if is_supported(parameter)
        }
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in sorted((codes | _CONTROL).items())
    ]


def _body(interaction: Interaction, type_: str) -> Json | None:
    if interaction.method == "POST" and interaction.code in _SEARCHES:
        return {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}}
    if interaction.method == "PATCH":
        schema = {"type": "array", "items": {"type": "object"}}
        return {"required": True, "content": {"application/json-patch+json": {"schema": schema}}}
    return _resource_body() if interaction.method in {"POST", "PUT"} else None


def _resource_body() -> Json:
    return {"required": True, "content": {_FHIR_JSON: {"schema": _RESOURCE}}}


def _responses() -> Json:
    content = {_FHIR_JSON: {"schema": _RESOURCE}}
    return {
        "2XX": {"description": "Done.", "content": content},
        "4XX": {"description": "Refused; an OperationOutcome says why.", "content": content},
    }
