"""What a translation hands over: resources with their identity, order key, merge and trace."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from conformance.problem import Issue

# The last part of the system of identifiers made for resources that have none of their own.
DERIVED_KEY = "derived-key"


class Match(StrEnum):
    """How a produced resource finds the stored one it is about."""

    MERGE = "merge"  # found by any of the identity keys, its mapped elements replace the stored
    REPLACE = "replace"  # found by any of the identity keys, becomes the new version as a whole
    CREATE = "create"  # always a new resource


# Where one value came from: target `Patient.name[0].family`, source `PID[1]-5[1].1`, row `XPN-1`;
# with `TranslatedMessage.map_hash` it names the very row.
TraceEntry = tuple[str, str, str]


class TranslatedResource(NamedTuple):
    """One resource of a message, as a tuple since a message makes dozens of them.

    `key` is its place in this message only; `resource` refers to the others of the message by
    `urn:uuid:<key>` (a UUID), which the writer replaces by the id it finds or makes.
    `identity` holds (system, value) pairs: business identifiers, the strongest first. It is empty
    where `match` is `create`. `origin` is the segment (or field) it was made of, such as `NK1[2]`,
    by the map `map_name`. `parts` are elements that rows of other maps filled: map, path in the
    resource (`diagnosis[0]`), origin.
    """

    key: str
    resource: Mapping[str, Any]
    identity: tuple[tuple[str, str], ...]
    match: Match
    trace: tuple[TraceEntry, ...] = ()
    map_name: str = ""
    origin: str = ""
    parts: tuple[tuple[str, str, str], ...] = ()

    @property
    def type(self) -> str:
        """The resource type."""
        return str(self.resource["resourceType"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A40 and its kin: the prior record's identifiers now belong to the surviving one."""

    type: str
    surviving: tuple[tuple[str, str], ...]
    prior: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A24 and A37: two records of one person that stay two are linked, or no longer linked.

    `ends` are the identities of both; `Patient.link` with type `seealso` says it in each.
    """

    type: str
    ends: tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
    is_linked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCode:
    """A code without a row in its table, whose table says `unknown: hold`."""

    table: str
    code: str
    system: str
    source: str
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedMessage:
    """A message as FHIR; `held` is not empty where a person must resolve codes first."""

    event: str
    control_id: str
    order_keys: tuple[str, ...]
    resources: tuple[TranslatedResource, ...]
    merges: tuple[Merge, ...] = ()
    held: tuple[HeldCode, ...] = ()
    notes: tuple[Issue, ...] = ()
    map_name: str = ""
    map_hash: str = ""
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmapped:
    """No map covers the event: the message is kept and counted, and blocks nobody."""

    event: str
    control_id: str
    order_keys: tuple[str, ...] = ()


@lru_cache(maxsize=8192)
def key_of(*parts: str) -> str:
    """Return a stable UUID (version 8 layout, RFC 9562) made of the parts."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
