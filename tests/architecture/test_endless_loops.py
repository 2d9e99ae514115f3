"""An endless loop that bears errors asks whether it was told to end: the telling may be lost."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def forgetful_loops(source):
    """Return the lines of endless loops of coroutines that bear errors and do not ask."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        for loop in ast.walk(function):
            if not isinstance(loop, ast.While) or not isinstance(loop.test, ast.Constant):
                continue
            inner = [node for statement in loop.body for node in ast.walk(statement)]
            names = {node.id for node in inner if isinstance(node, ast.Name)}
            ends = any(isinstance(node, ast.Return | ast.Break) for node in inner)
            bears = "suppress" in ast.dump(loop) or any(isinstance(node, ast.Try) for node in inner)
            if bears and not ends and "end_if_cancelled" not in names:
                found.append(loop.lineno)
    return found


def test_every_endless_loop_that_bears_errors_asks_whether_it_was_cancelled():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("fhir_store", "routes", "ops")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in forgetful_loops(path.read_text("utf-8"))
    ]
    assert found == []


def test_a_loop_that_does_not_ask_is_found():
    asks = "    end_if_cancelled()\n"
    loop = "async def run():\n  while True:\n    try: await step()\n    except OSError: pass\n"
    assert forgetful_loops(loop) == [2]
    assert forgetful_loops(loop + asks) == []
