"""The bounds of one expression and one evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an expression may ask for; what is over it is refused as too costly.

    Reasons: the longest expression that R4 defines has 1,386 characters; `depth` counts 4 for a
    nested expression, 2 for a comparison and 1 for another operator of a chain or a step of a path,
    and stays below Python's own stack.
    """

    characters: int = 32_768
    depth: int = 256
    steps: int = 2_000_000
    items: int = 100_000
    text: int = 1_000_000


DEFAULT_LIMITS = Limits()
