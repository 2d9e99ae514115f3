"""`qiao bench`: measure, print JSON."""

import asyncio
import importlib
import json
import pathlib
from typing import Annotated

import typer

from ops.bench.grounds.machine import machine

app = typer.Typer(rich_markup_mode=None)


def names() -> list[str]:
    """Return the names of all benchmarks."""
    folder = pathlib.Path(__file__).parents[1] / "bench"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


@app.command()
def bench(
    which: Annotated[
        list[str] | None, typer.Argument(help="Names; all where none is given.")
    ] = None,
) -> None:
    """Measure and print JSON: each figure with the raw limit of the same run and the ratio.

    `machine` tells what the machine does in fixed exercises: figures of two are compared by it.
    """
    known = names()
    if unknown := set(which or []) - set(known):
        raise typer.BadParameter(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    here = machine()
    for name in which or known:
        module = importlib.import_module(f"ops.bench.{name}")
        figures = asyncio.run(module.run())
        typer.echo(
            json.dumps({"bench": name, "machine": here, **figures}, ensure_ascii=False, indent=2)
        )
