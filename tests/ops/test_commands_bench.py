"""`qiao bench` without a name runs every benchmark there is."""

import importlib
import inspect
import json

from typer.testing import CliRunner

from ops.commands import bench


def test_every_name_is_a_benchmark() -> None:
    names = bench.names()
    assert {"spine", "search", "mapping", "http"} <= set(names)
    for name in names:
        module = importlib.import_module(f"ops.bench.{name}")
        assert inspect.iscoroutinefunction(module.run), name


def test_figures_come_with_what_the_machine_does() -> None:
    shown = json.loads(CliRunner().invoke(bench.app, ["terminology"]).stdout)
    assert shown["bench"] == "terminology"
    assert shown["machine"]["cores"] >= 1
    assert shown["machine"]["python_ns_per_step"] > 1
    assert shown["machine"]["sync_us"] > 0
