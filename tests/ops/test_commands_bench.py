"""`qiao bench` without a name runs every benchmark there is."""

import importlib
import inspect

from ops.commands import bench


def test_every_name_is_a_benchmark() -> None:
    names = bench.names()
    assert {"spine", "search", "mapping", "http"} <= set(names)
    for name in names:
        module = importlib.import_module(f"ops.bench.{name}")
        assert inspect.iscoroutinefunction(module.run), name
