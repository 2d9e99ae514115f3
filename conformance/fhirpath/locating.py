"""Where in the expression a refusal belongs: the same tree once more, each part watched.

The closures that answer carry no places, which would cost every evaluation; only after a refusal
is the expression compiled and evaluated again in this way.
"""

from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.evaluation import Closure, Collection, Frame, Step
from conformance.fhirpath.faults import in_place
from conformance.fhirpath.syntax import Call, Expression, Indexer, Member, Special
from conformance.problem import InvalidContent

AnyStep = Member | Call | Indexer | Special


class LocatingCompiler(Compiler):
    """Compiles to closures whose refusals name the innermost part that refused."""

    def __init__(self, source: str, *, as_filters: bool) -> None:
        super().__init__(as_filters=as_filters)
        self.source = source

    def expression(self, tree: Expression) -> Closure:
        """Return the closure of an expression, watched."""
        try:
            closure = super().expression(tree)
        except InvalidContent as failure:
            raise in_place(failure, self.source, tree.at) from failure

        def run(frame: Frame) -> Collection:
            try:
                return closure(frame)
            except InvalidContent as failure:
                raise in_place(failure, self.source, tree.at) from failure

        return run

    def step(self, step: AnyStep) -> Step:
        """Return the closure of a step, watched."""
        try:
            closure = super().step(step)
        except InvalidContent as failure:
            raise in_place(failure, self.source, step.at) from failure

        def run(frame: Frame, focus: Collection) -> Collection:
            try:
                return closure(frame, focus)
            except InvalidContent as failure:
                raise in_place(failure, self.source, step.at) from failure

        return run
