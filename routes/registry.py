"""What the hub answers to: interactions and operations as data.

The dispatcher, the CapabilityStatement and the OpenAPI document all read these tables, so none
of them can promise what another does not do.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from routes.answer import Answer
from routes.hub import Hub
from routes.request import Request

Handler = Callable[[Hub, Request], Awaitable[Answer]]
Level = Literal["system", "type", "instance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One RESTful interaction: its code (TypeRestfulInteraction), where and how it is asked for.

    `is_promised` is False for a second way to ask for the same thing, such as HEAD.
    """

    code: str
    level: Level
    method: str
    shape: str
    handler: Handler
    is_promised: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: its code, its definition, and the levels and types it is asked at.

    `types` None means every type. One that `affects_state` is asked by POST only. At a version of
    an instance only those are asked that are `for_versions`: others would take it for the instance.
    """

    code: str
    definition: str
    levels: frozenset[Level]
    handler: Handler
    types: frozenset[str] | None = None
    affects_state: bool = False
    for_versions: bool = False

    def is_for(self, type_: str) -> bool:
        """Say whether the operation is asked at this type or its instances."""
        return self.types is None or type_ in self.types


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All of them, found by address; built once."""

    interactions: tuple[Interaction, ...]
    operations: tuple[Operation, ...]
    by_address: Mapping[tuple[str, str], Interaction]
    methods: Mapping[str, tuple[str, ...]]
    by_code: Mapping[str, tuple[Operation, ...]]


def build_registry(
    interactions: tuple[Interaction, ...], operations: tuple[Operation, ...]
) -> Registry:
    """Index interactions and operations; two at one address are a mistake of ours."""
    by_address: dict[tuple[str, str], Interaction] = {}
    methods: dict[str, tuple[str, ...]] = {}
    for interaction in interactions:
        address = (interaction.method, interaction.shape)
        if address in by_address:
            raise ValueError(f"two interactions at {address}")
        by_address[address] = interaction
        methods[interaction.shape] = (*methods.get(interaction.shape, ()), interaction.method)
    by_code: dict[str, tuple[Operation, ...]] = {}
    for operation in operations:
        by_code[operation.code] = (*by_code.get(operation.code, ()), operation)
    return Registry(
        interactions=interactions,
        operations=operations,
        by_address=by_address,
        methods=methods,
        by_code=by_code,
    )
