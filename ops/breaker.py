"""Leaves a destination alone after a row of failures, and tries it again with one delivery."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Breaker:
    """Closed: everything goes. Open: nothing goes until `rest` is over, then one probe.

    Each probe that fails doubles the rest up to `longest_seconds`.
    """

    failures_to_open: int = 5
    rest_seconds: float = 5.0
    longest_seconds: float = 300.0
    clock: Callable[[], float] = field(default=time.monotonic)
    failures: int = 0
    rests: int = 0
    open_until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the destination is being left alone or probed."""
        return self.open_until is not None

    def allowed(self, wanted: int) -> int:
        """Return how many deliveries may be tried now."""
        if self.open_until is None:
            return wanted
        return min(wanted, 1) if self.clock() >= self.open_until else 0

    def seconds_left(self) -> float:
        """Return how long the destination is still left alone."""
        return max(0.0, (self.open_until or 0.0) - self.clock())

    def succeeded(self) -> None:
        """Note that the destination answered, whatever it said."""
        self.failures = self.rests = 0
        self.open_until = None

    def failed(self) -> None:
        """Note that the destination did not answer."""
        self.failures += 1
        if self.is_open or self.failures >= self.failures_to_open:
            rest = min(self.longest_seconds, self.rest_seconds * 2**self.rests)
            self.rests += 1
            self.open_until = self.clock() + rest
