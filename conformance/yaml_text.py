"""YAML sources of ours, read by the fast parser where the package has it."""

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """Return the document; only plain data, no objects."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - both loaders are the safe one
