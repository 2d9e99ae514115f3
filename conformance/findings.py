"""What structural checks return, before it becomes issues."""

from collections.abc import Callable
from typing import Any

# path below the value, key, arguments of the message
Found = tuple[str, str, tuple[str, ...]]
# (value, local references seen so far) -> None or findings
Check = Callable[[Any, list[str]], list[Found] | None]
