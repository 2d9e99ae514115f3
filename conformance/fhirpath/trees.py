"""What can be read off a syntax tree alone."""

from typing import Any

from conformance.fhirpath import model
from conformance.fhirpath.syntax import Binary, Call, Expression, Member, Path, Special, TypeTest


def starts_elsewhere(tree: Expression, type_name: str) -> bool:
    """Say whether an alternative starts at another type and so gives nothing."""
    while isinstance(tree, Path | TypeTest):
        tree = tree.head if isinstance(tree, Path) else tree.operand
    return (
        isinstance(tree, Member)
        and tree.name[:1].isupper()
        and model.is_known(tree.name)
        and not model.is_kind_of(type_name, tree.name)
    )


def asks_position(tree: Any) -> bool:
    """Say whether `$index` or `$total` stands anywhere in the tree."""
    if isinstance(tree, Special):
        return tree.name != "$this"
    if isinstance(tree, tuple):
        return any(asks_position(part) for part in tree)
    names = getattr(type(tree), "__dataclass_fields__", ())
    return any(asks_position(getattr(tree, name)) for name in names)


def is_count(tree: Expression) -> bool:
    """Say whether an expression is a number of items, or a sum of such."""
    match tree:
        case Path(_, (*_, Call("count", ()))):
            return True
        case Binary("+", left, right):
            return is_count(left) and is_count(right)
    return False
