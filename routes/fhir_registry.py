"""The interactions and operations that the hub answers to, each once."""

from conformance.cphc.operations import definition_of
from routes.interactions.batch import batch_of
from routes.interactions.capabilities import capabilities_of
from routes.interactions.create import create
from routes.interactions.delete import conditional_delete, delete
from routes.interactions.history import history_instance, history_system, history_type
from routes.interactions.patch import conditional_patch, patch
from routes.interactions.read import read, vread
from routes.interactions.search import search_compartment, search_system, search_type
from routes.interactions.update import conditional_update, update
from routes.operations.everything import everything, everything_of_all
from routes.operations.fhirpath import fhirpath_operation
from routes.operations.meta import meta, meta_add, meta_delete
from routes.operations.validate import validate
from routes.registry import Handler, Interaction, Level, Operation, Registry, build_registry

_Row = tuple[str, Level, str, str, Handler]

_ROWS: tuple[_Row, ...] = (
    ("read", "instance", "GET", "type/id", read),
    ("vread", "instance", "GET", "type/id/_history/version", vread),
    ("update", "instance", "PUT", "type/id", update),
    ("patch", "instance", "PATCH", "type/id", patch),
    ("delete", "instance", "DELETE", "type/id", delete),
    ("history-instance", "instance", "GET", "type/id/_history", history_instance),
    ("create", "type", "POST", "type", create),
    ("history-type", "type", "GET", "type/_history", history_type),
    ("history-system", "system", "GET", "_history", history_system),
    ("search-type", "type", "GET", "type", search_type),
    ("search-system", "system", "GET", "", search_system),
)
# Other ways to ask for the same interaction; the CapabilityStatement names them by other words.
_ALSO: tuple[_Row, ...] = (
    ("update", "type", "PUT", "type", conditional_update),
    ("patch", "type", "PATCH", "type", conditional_patch),
    ("delete", "type", "DELETE", "type", conditional_delete),
    ("search-type", "type", "POST", "type/_search", search_type),
    ("search-system", "system", "POST", "_search", search_system),
    ("search-type", "instance", "GET", "type/id/type", search_compartment),
    ("search-type", "instance", "POST", "type/id/type/_search", search_compartment),
)
_INSTANCE: frozenset[Level] = frozenset({"instance"})
_TYPE: frozenset[Level] = frozenset({"type"})
_TYPE_AND_INSTANCE: frozenset[Level] = frozenset({"type", "instance"})
_EVERYWHERE: frozenset[Level] = frozenset({"system", "type", "instance"})
_DEFINITION = "http://hl7.org/fhir/OperationDefinition/"

_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        code="everything",
        definition=_DEFINITION + "Patient-everything",
        levels=_INSTANCE,
        handler=everything,
        types=frozenset({"Patient"}),
    ),
    Operation(
        code="everything",
        definition=_DEFINITION + "Patient-everything",
        levels=_TYPE,
        handler=everything_of_all,
        types=frozenset({"Patient"}),
    ),
    Operation(
        code="everything",
        definition=_DEFINITION + "Encounter-everything",
        levels=_INSTANCE,
        handler=everything,
        types=frozenset({"Encounter"}),
    ),
    Operation(
        code="validate",
        definition=_DEFINITION + "Resource-validate",
        levels=_TYPE_AND_INSTANCE,
        handler=validate,
        for_versions=True,
    ),
    Operation(
        code="meta",
        definition=_DEFINITION + "Resource-meta",
        levels=_EVERYWHERE,
        handler=meta,
        for_versions=True,
    ),
    Operation(
        code="meta-add",
        definition=_DEFINITION + "Resource-meta-add",
        levels=_INSTANCE,
        handler=meta_add,
        affects_state=True,
    ),
    Operation(
        code="meta-delete",
        definition=_DEFINITION + "Resource-meta-delete",
        levels=_INSTANCE,
        handler=meta_delete,
        affects_state=True,
    ),
    Operation(
        code="fhirpath",
        definition=definition_of("", "fhirpath"),
        levels=frozenset({"system"}),
        handler=fhirpath_operation,
        affects_state=True,
    ),
)


def fhir_registry(more: tuple[Operation, ...] = ()) -> Registry:
    """Return the registry; `more` are operations that wiring adds."""
    made: list[Registry] = []
    rows: list[tuple[_Row, bool]] = [(row, True) for row in _ROWS]
    rows += [(row, False) for row in _ALSO]
    # These two tell of the registry, or answer by it, in which they stand.
    rows.append((("batch", "system", "POST", "", batch_of(lambda: made[0])), True))
    rows.append(
        (("capabilities", "system", "GET", "metadata", capabilities_of(lambda: made[0])), False)
    )
    interactions = tuple(
        Interaction(
            code=code,
            level=level,
            method=method,
            shape=shape,
            handler=handler,
            is_promised=is_promised,
        )
        for (code, level, method, shape, handler), is_promised in rows
    )
    made.append(build_registry(interactions, (*_OPERATIONS, *more)))
    return made[0]
