"""`=` and `~` (http://hl7.org/fhirpath/N1/#equality) and the sets built on them."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from conformance.fhirpath.evaluation import Collection, Run
from conformance.fhirpath.nodes import Node, TypeName, system_value
from conformance.fhirpath.quantity import Quantity, in_common_unit
from conformance.fhirpath.temporal import Temporal, compare


def equal(left: Collection, right: Collection) -> bool | None:
    """Return whether two collections are equal in order; None where nobody can tell."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    is_unknown = False
    for one, other in zip(left, right, strict=True):
        verdict = equal_items(one, other)
        if verdict is False:
            return False
        is_unknown = is_unknown or verdict is None
    return None if is_unknown else True


def equal_items(left: Any, right: Any) -> bool | None:
    """Return whether two items are equal."""
    one, other = system_value(left), system_value(right)
    kind, other_kind = type(one), type(other)
    if kind is str and other_kind is str:
        return bool(one == other)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return bool(one == other)
    if isinstance(one, Temporal) and isinstance(other, Temporal):
        return _equal_moments(one, other)
    if isinstance(one, Quantity) or isinstance(other, Quantity):
        return _equal_quantities(one, other)
    if isinstance(left, Node) and isinstance(right, Node):
        return bool(left.value == right.value and left.companion == right.companion)
    return isinstance(one, TypeName) and one == other


def _equal_moments(left: Temporal, right: Temporal) -> bool | None:
    if (left.kind == "Time") != (right.kind == "Time"):
        return False
    order = compare(left, right)
    return None if order is None else order == 0


def as_quantity(value: Any) -> Quantity | None:
    """Return a number as a quantity of unit `'1'`, a quantity as itself."""
    if isinstance(value, Quantity):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Quantity(Decimal(value), "1")
    return None


def _equal_quantities(left: Any, right: Any) -> bool | None:
    one, other = as_quantity(left), as_quantity(right)
    if one is None or other is None:
        return False
    values = in_common_unit(one, other)
    return None if values is None else values[0] == values[1]


def equivalent(left: Collection, right: Collection, run: Run) -> bool:
    """Return whether two collections hold the same items, in any order, loosely compared."""
    if len(left) != len(right):
        return False
    run.charge(len(left) * len(right))
    rest = list(right)
    for item in left:
        for index, other in enumerate(rest):
            if equivalent_items(item, other):
                del rest[index]
                break
        else:
            return False
    return True


def equivalent_items(left: Any, right: Any) -> bool:
    """Return whether two items are equivalent (http://hl7.org/fhirpath/N1/#equivalence)."""
    one, other = system_value(left), system_value(right)
    if isinstance(one, str) and isinstance(other, str):
        return " ".join(one.casefold().split()) == " ".join(other.casefold().split())
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return _equal_to_least_precision(one, other)
    if isinstance(one, Quantity) or isinstance(other, Quantity):
        return _equivalent_quantities(one, other)
    if isinstance(left, Node) and isinstance(right, Node) and isinstance(left.value, Mapping):
        return _equivalent_json(left.value, right.value)
    return bool(equal_items(left, right))


def _equivalent_quantities(left: Any, right: Any) -> bool:
    one, other = as_quantity(left), as_quantity(right)
    if one is None or other is None:
        return False
    values = in_common_unit(one, other, is_loose=True)
    return values is not None and _equal_to_least_precision(*values)


def _equal_to_least_precision(left: int | Decimal, right: int | Decimal) -> bool:
    digits = min(_decimals(left), _decimals(right))
    return rounded(Decimal(left), digits) == rounded(Decimal(right), digits)


def _decimals(number: int | Decimal) -> int:
    exponent = Decimal(number).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def rounded(number: Decimal, digits: int) -> Decimal:
    """Return the number to so many decimals, halves away from zero."""
    if number.adjusted() + digits > 27 or digits > 27:
        return number
    return number.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)


def _equivalent_json(left: Any, right: Any) -> bool:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(
            _equivalent_json(left[key], right[key]) for key in left
        )
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return False
        rest = list(right)
        for item in left:
            match = next((i for i, one in enumerate(rest) if _equivalent_json(item, one)), None)
            if match is None:
                return False
            del rest[match]
        return True
    return type(left) is type(right) and equivalent_items(left, right)


def key_of(item: Any) -> Any:
    """Return a hashable that equal items share; None where only comparison can tell."""
    value = system_value(item)
    if isinstance(value, bool):
        return ("Boolean", value)
    if isinstance(value, str):
        return value
    if isinstance(value, int | Decimal):
        return ("Number", value)
    if isinstance(item, Node) and isinstance(value, Node):
        return ("Element", frozen(item.value), frozen(item.companion))
    return None


def frozen(value: Any) -> Any:
    """Return plain JSON as a hashable that equal JSON shares."""
    if isinstance(value, Mapping):
        return frozenset((key, frozen(content)) for key, content in value.items())
    if isinstance(value, list):
        return ("list", *(frozen(content) for content in value))
    return (type(value).__name__, value) if isinstance(value, bool) else value


class Seen:
    """The items met so far, by equality; dates and quantities are compared one by one."""

    __slots__ = ("_keys", "_others", "_run")

    def __init__(self, run: Run, items: Collection | None = None) -> None:
        self._run = run
        self._keys: set[Any] = set()
        self._others: list[Any] = []
        for item in items or ():
            self.add(item)

    def __contains__(self, item: Any) -> bool:
        key = key_of(item)
        if key is not None:
            return key in self._keys
        self._run.charge(len(self._others))
        return any(equal_items(item, other) for other in self._others)

    def add(self, item: Any) -> bool:
        """Keep the item; return whether it is new."""
        key = key_of(item)
        if key is not None:
            size = len(self._keys)
            self._keys.add(key)
            return len(self._keys) > size
        if item in self:
            return False
        self._others.append(item)
        return True


def distinct(collection: Collection, run: Run) -> Collection:
    """Return the collection without repeated items, first ones kept."""
    if len(collection) < 2:
        return collection
    run.charge(len(collection))
    seen = Seen(run)
    return [item for item in collection if seen.add(item)]
