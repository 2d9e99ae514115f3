"""FHIRPath as R4 uses it (http://hl7.org/fhirpath/N1/): compiled once, bounded, typed by R4.

`evaluate("Patient.name.given", patient)` returns plain values; `compile` keeps the compiled form,
which also gives types (`values`) and places (`nodes`).
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from conformance.fhirpath.compiled import Compiled, Value, compile
from conformance.fhirpath.evaluation import Ports, Resolver, Terminology
from conformance.fhirpath.limits import DEFAULT_LIMITS, Limits
from conformance.fhirpath.nodes import Node
from conformance.fhirpath.quantity import Quantity
from conformance.fhirpath.temporal import Temporal

__all__ = [
    "DEFAULT_LIMITS",
    "Compiled",
    "Limits",
    "Node",
    "Ports",
    "Quantity",
    "Resolver",
    "Temporal",
    "Terminology",
    "Value",
    "compile",
    "evaluate",
]


def evaluate(
    expression: str,
    resource: Mapping[str, Any] | None,
    *,
    variables: Mapping[str, Any] | None = None,
    resolver: Resolver | None = None,
    terminology: Terminology | None = None,
    ports: Ports | None = None,
    strict: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    now: dt.datetime | None = None,
) -> list[Any]:
    """Evaluate an expression over a resource and return plain values.

    Elements come as their JSON value (one that has only extensions has none and is left out),
    computed values as bool, int, Decimal, str, Temporal or Quantity. `variables` are what `%name`
    means. `strict` also refuses names that the resource's type does not have. Raises
    InvalidContent on a wrong expression, TooCostly over a limit.
    """
    type_name = resource.get("resourceType") if strict and resource is not None else None
    compiled = compile(expression, type_name, strict=strict, limits=limits)
    if ports is None:
        ports = Ports(resolver=resolver, terminology=terminology)
    return compiled.evaluate(resource, variables=variables, ports=ports, now=now)
