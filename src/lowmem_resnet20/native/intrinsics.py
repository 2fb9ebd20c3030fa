"""Vectors of eight lanes, traced into LLVM: all that is generated.

numba leaves it to LLVM whether a loop becomes vector instructions.  Where it must be certain, a body is written once
over symbolic values and traced: ``@vectorised`` calls it while numba compiles, each operation on a :class:`Value`
emits one LLVM instruction, and Python loops and conditions in the body are unrolled.  Eight lanes of 64 bits are one
register with AVX-512; LLVM splits them in two for AVX2, in four without.

A vectorised function takes arrays (of which it sees only the first element's address) and int64 or float64 numbers,
and returns nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8

_DOUBLE, _INT64, _INT32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
_DOUBLES, _INT64S = ir.VectorType(_DOUBLE, LANES), ir.VectorType(_INT64, LANES)
#: How the elements of an array lie in memory.
_ELEMENTS = {
    types.float64: _DOUBLE,
    types.uint64: _INT64,
    types.int64: _INT64,
    types.uint32: _INT32,
    types.uint8: ir.IntType(8),
}


class Value:
    """A number, or eight: of float64, or of 64 bits that are unsigned unless a function says otherwise.

    A scalar that meets a vector counts in every lane.
    """

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    @property
    def is_vector(self) -> bool:
        return isinstance(self.value.type, ir.VectorType)

    @property
    def is_float(self) -> bool:
        return self.value.type in (_DOUBLE, _DOUBLES)

    def spread(self) -> Value:
        """In every lane."""
        if self.is_vector:
            return self
        undefined = ir.Constant(ir.VectorType(self.value.type, LANES), ir.Undefined)
        first = self.builder.insert_element(undefined, self.value, ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
        return Value(self.builder, self.builder.shuffle_vector(first, undefined, zeros))

    def like(self, number: float) -> Value:
        """A constant of the same type."""
        if self.is_vector:
            return Value(self.builder, ir.Constant(self.value.type, [number] * LANES))
        return Value(self.builder, ir.Constant(self.value.type, number))

    def _both(self, other: Value | float) -> tuple[ir.Value, ir.Value]:
        other = other if isinstance(other, Value) else self.like(other)
        if self.is_vector or other.is_vector:
            return self.spread().value, other.spread().value
        return self.value, other.value

    def _operate(self, float_name: str, integer_name: str, other: Value | float) -> Value:
        name = float_name if self.is_float else integer_name
        return Value(self.builder, getattr(self.builder, name)(*self._both(other)))

    def __add__(self, other: Value | float) -> Value:
        return self._operate("fadd", "add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._operate("fsub", "sub", other)

    def __mul__(self, other: Value | float) -> Value:
        return self._operate("fmul", "mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._operate("", "and_", other)

    def __or__(self, other: Value | int) -> Value:
        return self._operate("", "or_", other)

    def __lshift__(self, other: int) -> Value:
        return self._operate("", "shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        return self._operate("", "lshr", other)

    def __neg__(self) -> Value:
        return Value(self.builder, self.builder.fneg(self.value) if self.is_float else self.builder.neg(self.value))

    def __lt__(self, other: Value | float) -> Value:
        """A mask for :func:`select`; integers compare unsigned."""
        compare = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_unsigned
        return Value(self.builder, compare("<", *self._both(other)))

    def is_negative(self) -> Value:
        """Integers: the mask of lanes that are negative when read as signed."""
        return Value(self.builder, self.builder.icmp_signed("<", *self._both(0)))


def _call(name: str, *operands: Value) -> Value:
    """An LLVM function of doubles, for scalars or vectors alike."""
    vector = any(operand.is_vector for operand in operands)
    values = [operand.spread().value if vector else operand.value for operand in operands]
    suffix, kind = ("v8f64", _DOUBLES) if vector else ("f64", _DOUBLE)
    builder = operands[0].builder
    function = ir.FunctionType(kind, [kind] * len(values))
    return Value(
        builder, builder.call(cgutils.get_or_insert_function(builder.module, function, f"{name}.{suffix}"), values)
    )


def fma(a: Value, b: Value, c: Value) -> Value:
    """a * b + c, rounded once."""
    return _call("llvm.fma", a, b, c)


def rint(a: Value) -> Value:
    """The nearest integer, of two the even one."""
    return _call("llvm.rint", a)


def floor(a: Value) -> Value:
    return _call("llvm.floor", a)


def select(mask: Value, a: Value, b: Value) -> Value:
    """a where the mask holds, else b."""
    return Value(mask.builder, mask.builder.select(mask.value, a.value, b.value))


def minimum(a: Value, b: Value) -> Value:
    """The lesser of two unsigned integers."""
    return select(a < b, a, b)


def unsigned_to_float(a: Value) -> Value:
    """The nearest float64."""
    return Value(a.builder, a.builder.uitofp(a.value, _DOUBLES if a.is_vector else _DOUBLE))


def signed_to_float(a: Value) -> Value:
    """The nearest float64."""
    return Value(a.builder, a.builder.sitofp(a.value, _DOUBLES if a.is_vector else _DOUBLE))


def float_bits(a: Value) -> Value:
    """The representation of a float64, as an integer."""
    return Value(a.builder, a.builder.bitcast(a.value, _INT64S if a.is_vector else _INT64))


def float_of_bits(a: Value) -> Value:
    """The float64 of a representation."""
    return Value(a.builder, a.builder.bitcast(a.value, _DOUBLES if a.is_vector else _DOUBLE))


class Array:
    """An array argument, seen as its first element's address."""

    def __init__(self, builder: ir.IRBuilder, address: ir.Value, element: Any) -> None:
        self.builder, self.address, self.element = builder, address, element

    @property
    def is_float(self) -> bool:
        return self.element == types.float64

    def _at(self, offset: Value) -> ir.Value:
        return self.builder.gep(self.address, [offset.value])

    def _pointer(self, offset: Value) -> ir.Value:
        return self.builder.bitcast(self._at(offset), ir.VectorType(_ELEMENTS[self.element], LANES).as_pointer())

    def load(self, offset: Value) -> Value:
        """Eight consecutive elements; integers of fewer bits are extended by zeros."""
        loaded = self.builder.load(self._pointer(offset))
        loaded.align = self.element.bitwidth // 8
        narrow = self.element.bitwidth < 64
        return Value(self.builder, self.builder.zext(loaded, _INT64S) if narrow else loaded)

    def store(self, offset: Value, value: Value) -> None:
        """Eight consecutive elements; integers of fewer bits take the lowest."""
        vector, narrow = value.spread().value, self.element.bitwidth < 64
        if narrow:
            vector = self.builder.trunc(vector, ir.VectorType(_ELEMENTS[self.element], LANES))
        stored = self.builder.store(vector, self._pointer(offset))
        stored.align = self.element.bitwidth // 8

    def prefetch(self, offset: Value) -> None:
        """Ask for the cache line of an element; past the array's end nothing happens."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        read, near, data = (ir.Constant(_INT32, number) for number in (0, 2, 1))
        self.builder.call(function, [self.builder.bitcast(self._at(offset), byte), read, near, data])

    def scalar(self, offset: Value) -> Value:
        """One element."""
        return Value(self.builder, self.builder.load(self._at(offset)))

    def constant(self, number: float) -> Value:
        """A number in every lane, of the elements' type."""
        return Value(self.builder, ir.Constant(_DOUBLES if self.is_float else _INT64S, [number] * LANES))


def at_address(address: Value, kind: str) -> Array:
    """The array of float64, uint64, uint32 or uint8 that begins at an address."""
    element = getattr(types, kind)
    pointer = address.builder.inttoptr(address.value, _ELEMENTS[element].as_pointer())
    return Array(address.builder, pointer, element)


class Accumulator:
    """A vector that changes inside a :func:`repeated` loop; LLVM keeps it in a register."""

    def __init__(self, start: Value) -> None:
        self.builder = start.builder
        self.cell = cgutils.alloca_once(self.builder, start.value.type)
        self.value = start

    @property
    def value(self) -> Value:
        return Value(self.builder, self.builder.load(self.cell))

    @value.setter
    def value(self, value: Value) -> None:
        self.builder.store(value.value, self.cell)


@contextmanager
def repeated(count: Value) -> Iterator[Value]:
    """The body is emitted once and runs ``count`` times, a number known only when the kernel runs; gives the
    index."""
    with cgutils.for_range(count.builder, count.value) as loop:
        yield Value(count.builder, loop.index)


def transpose(rows: list[Value]) -> list[Value]:
    """Eight vectors as an 8 x 8 matrix, transposed in three steps of exchanges between rows 1, 2 and 4 apart."""
    builder = rows[0].builder

    def exchange(a: ir.Value, b: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
        low = [lane if not lane & width else lane - width + LANES for lane in range(LANES)]
        high = [lane + width if not lane & width else lane + LANES for lane in range(LANES)]
        indices = [ir.Constant(ir.VectorType(_INT32, LANES), chosen) for chosen in (low, high)]
        return builder.shuffle_vector(a, b, indices[0]), builder.shuffle_vector(a, b, indices[1])

    values = [row.value for row in rows]
    for width in (1, 2, 4):
        for i in range(LANES):
            if not i & width:
                values[i], values[i + width] = exchange(values[i], values[i + width], width)
    return [Value(builder, value) for value in values]


def _symbolic(context: Any, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> Value | Array:
    if isinstance(kind, types.Array):
        return Array(builder, context.make_array(kind)(context, builder, value).data, kind.dtype)
    return Value(builder, context.cast(builder, value, kind, _number_type(kind)))


def _number_type(kind: types.Type) -> types.Type:
    return types.float64 if isinstance(kind, types.Float) else types.int64


def vectorised(body: Callable[..., None]) -> Any:
    """A function for compiled code, from a body over :class:`Array` and scalar :class:`Value` arguments."""

    def definition(_context: Any, *kinds: types.Type) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
            body(*(_symbolic(context, builder, k, v) for k, v in zip(signature.args, values, strict=True)))
            return context.get_dummy_value()

        return types.none(*kinds), generate

    names = ["typingctx", *inspect.signature(body).parameters]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, positional) for name in names])
    definition.__name__, definition.__doc__ = body.__name__, body.__doc__
    vars(definition)["__signature__"] = signature  # what numba fits arguments to
    return intrinsic(definition)


@intrinsic
def take(_context: Any, counter: types.Type) -> Any:
    """The counter's value, which grows by one: no two threads get the same.  counter: int64 (1,)."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
        address = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.atomic_rmw("add", address, ir.Constant(_INT64, 1), "seq_cst")

    return types.int64(counter), generate
