"""What a caller may see, as conditions the search compiles into every statement.

Routes build an `Authorization` from tokens and roles; the store applies it to each candidate
before LIMIT: matches, chain targets, `_has` sources, includes, totals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fhir_store.search.query import Condition

MORE_MEMBERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Patient": {"Contract": ("patient",), "Task": ("patient",)}
}
"""What rights count to a compartment beside R4's members: kind -> type -> parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compartment:
    """Membership in the compartment of some resources, those themselves included.

    `kind` is Patient, Practitioner, Encounter, RelatedPerson or Device. The owners are named by
    `ids`, or are all that pass `owners` (a condition on `kind`, such as a care team's patients).
    """

    kind: str
    ids: tuple[str, ...] = ()
    owners: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One way to be allowed: the compartment and every condition hold, `excluded` does not."""

    compartment: Compartment | None = None
    conditions: tuple[Condition, ...] = ()
    excluded: Compartment | None = None


@dataclass(frozen=True, slots=True)
class Grounds:
    """What rights were worked out from: its `generation`, and the resources (`Type/id`).

    `keys` None are too many to be named: every change of rights counts.
    """

    generation: int
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The rules by resource type.

    None allows every resource of the type, a tuple those that meet one of its criteria, an empty
    tuple none. `default` rules the types that `by_type` does not name. Statements with criteria
    fail once a commit touches what the rights hang on; None hangs on nothing.
    """

    by_type: Mapping[str, tuple[Criterion, ...] | None] = field(default_factory=dict)
    default: tuple[Criterion, ...] | None = ()
    hangs_on: Grounds | None = None

    def criteria_of(self, type_: str) -> tuple[Criterion, ...] | None:
        """Return the criteria of a type; None is everything."""
        return self.by_type.get(type_, self.default)


EVERYTHING = Authorization(default=None)
NOTHING = Authorization(default=())
