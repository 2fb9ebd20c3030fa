"""Jobs that threads take one by one, and whether all are done.

The counter is int64 (3,): the next job that nobody has taken, how many are done, and how many there are."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compilation import compiled

_INT64 = ir.IntType(64)
#: Looks at what other threads are still at: some 50 microseconds.
_LOOKS = 20_000


def _atomic(operation: str, at: int) -> Any:
    """A function of a counter for compiled code: one element, as all threads see it, and one more in it after "add"."""

    @intrinsic
    def change(_context: Any, counter: types.Type) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
            address = context.make_array(signature.args[0])(context, builder, values[0]).data
            element = builder.gep(address, [ir.Constant(_INT64, at)])
            if operation == "add":
                return builder.atomic_rmw("add", element, ir.Constant(_INT64, 1), "seq_cst")
            return builder.load_atomic(element, "seq_cst", 8)

        return types.int64(counter), generate

    return change


#: The first job for a thread, or one that there is not: no two threads get the same.
take = _atomic("add", 0)
_done = _atomic("add", 1)
_how_many_are_done = _atomic("load", 1)


@compiled
def next_job(shared: Any) -> int:
    """The next one for a thread that has done its last, whose results others see from now on."""
    _done(shared)
    return take(shared)


@compiled
def wait(shared: Any) -> None:
    """While other threads are at their last jobs, as long as these should take: so the next call begins without
    delay."""
    looks = 0
    while looks < _LOOKS and _how_many_are_done(shared) < shared[2]:
        looks += 1
