"""Vectors of unsigned integers, traced into LLVM: all that is generated.

numba leaves it to LLVM whether a loop becomes vector instructions.  Where it must be certain, a body is written once
over symbolic values and traced: ``@vectorised`` calls it while numba compiles, each operation on a :class:`Value`
emits one LLVM instruction, and Python loops and conditions in the body are unrolled.  A vector fills a register of the
processor that is compiled for: 64 bytes with AVX-512, else 32; what comes out is the same.

A vectorised function takes arrays (of which it sees only the first element's address) and int64 numbers, and returns
nothing.  Memory without a numpy array is an address and becomes an :class:`Array` by :func:`at_address`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compilation import register_bytes

_INT64, _INT32 = ir.IntType(64), ir.IntType(32)


def _lanes_of(bits: int) -> int:
    return 8 * register_bytes() // bits


class Value:
    """An unsigned number of 32 or 64 bits, or a vector of them.  A scalar that meets a vector counts in every lane."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    @property
    def lanes(self) -> int:
        """0 for a scalar."""
        return self.value.type.count if isinstance(self.value.type, ir.VectorType) else 0

    @property
    def bits(self) -> int:
        """Of each number."""
        return (self.value.type.element if self.lanes else self.value.type).width

    def spread(self, lanes: int) -> Value:
        """In every lane of a vector."""
        undefined = ir.Constant(ir.VectorType(self.value.type, lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, self.value, ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
        return Value(self.builder, self.builder.shuffle_vector(first, undefined, zeros))

    def like(self, number: int) -> Value:
        """A constant of the same type."""
        return Value(self.builder, ir.Constant(self.value.type, [number] * self.lanes if self.lanes else number))

    def _operate(self, name: str, other: Value | int) -> Value:
        other = other if isinstance(other, Value) else self.like(other)
        lanes = max(self.lanes, other.lanes)
        operands = [x.value if x.lanes == lanes else x.spread(lanes).value for x in (self, other)]
        return Value(self.builder, getattr(self.builder, name)(*operands))

    def __add__(self, other: Value | int) -> Value:
        return self._operate("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._operate("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._operate("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._operate("and_", other)

    def __or__(self, other: Value | int) -> Value:
        return self._operate("or_", other)

    def __lshift__(self, other: Value | int) -> Value:
        return self._operate("shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        return self._operate("lshr", other)

    def __lt__(self, other: Value) -> Value:
        """A mask for :func:`select`."""
        return Value(self.builder, self.builder.icmp_unsigned("<", self.value, other.value))

    def extended(self) -> Value:
        """A scalar of 32 bits in 64."""
        return self if self.bits == 64 else Value(self.builder, self.builder.zext(self.value, _INT64))

    def narrowed(self) -> Value:
        """The lowest 32 bits of a scalar."""
        return Value(self.builder, self.builder.trunc(self.value, _INT32))

    def even(self) -> Value:
        """Lanes 0, 2, 4 .. of 32 bits in half as many of 64."""
        return self._pairs() & 0xFFFFFFFF

    def odd(self) -> Value:
        """Lanes 1, 3, 5 .. of 32 bits in half as many of 64."""
        return self._pairs() >> 32

    def _pairs(self) -> Value:
        return Value(self.builder, self.builder.bitcast(self.value, ir.VectorType(_INT64, self.lanes // 2)))

    def halves(self) -> Value:
        """Lanes of 64 bits as twice as many of 32, lower halves first."""
        return Value(self.builder, self.builder.bitcast(self.value, ir.VectorType(_INT32, 2 * self.lanes)))


def select(mask: Value, a: Value, b: Value) -> Value:
    """a where the mask holds, else b."""
    return Value(mask.builder, mask.builder.select(mask.value, a.value, b.value))


def minimum(a: Value, b: Value) -> Value:
    """The lesser."""
    return select(a < b, a, b)


def upper_halves(even: Value, odd: Value) -> Value:
    """The upper 32 bits of lanes of 64: those of ``even`` in lanes 0, 2, 4 .., those of ``odd`` in lanes 1, 3, 5 .."""
    return _halves(even, odd, 1)


def lower_halves(even: Value, odd: Value) -> Value:
    """The lower 32 bits of lanes of 64 in the same way."""
    return _halves(even, odd, 0)


def _halves(even: Value, odd: Value, upper: int) -> Value:
    lanes = 2 * even.lanes
    chosen = [lane + upper if lane % 2 == 0 else lane - 1 + upper + lanes for lane in range(lanes)]
    indices = ir.Constant(ir.VectorType(_INT32, lanes), chosen)
    builder = even.builder
    return Value(builder, builder.shuffle_vector(even.halves().value, odd.halves().value, indices))


class Array:
    """An array, seen as its first element's address; elements are unsigned, or signed ones read as unsigned."""

    def __init__(self, builder: ir.IRBuilder, address: ir.Value, bits: int) -> None:
        self.builder, self.address, self.bits = builder, address, bits

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return _lanes_of(self.bits)

    def _at(self, offset: Value) -> ir.Value:
        return self.builder.gep(self.address, [offset.value])

    def _pointer(self, offset: Value, lanes: int) -> ir.Value:
        return self.builder.bitcast(self._at(offset), ir.VectorType(ir.IntType(self.bits), lanes).as_pointer())

    def load(self, offset: Value) -> Value:
        """Consecutive elements that fill a register."""
        return self._load(offset, self.lanes)

    def load_extended(self, offset: Value) -> Value:
        """Consecutive elements of 32 bits that fill a register once they have 64."""
        narrow = self._load(offset, _lanes_of(64))
        return Value(self.builder, self.builder.zext(narrow.value, ir.VectorType(_INT64, narrow.lanes)))

    def _load(self, offset: Value, lanes: int) -> Value:
        loaded = self.builder.load(self._pointer(offset, lanes))
        loaded.align = self.bits // 8
        return Value(self.builder, loaded)

    def store(self, offset: Value, value: Value) -> None:
        """A number, or a vector's lanes one after the other, of 64 bits the lowest 32 where elements have no more."""
        if not value.lanes:
            self.builder.store(value.value, self._at(offset))
            return
        if value.bits > self.bits:
            kind = ir.VectorType(ir.IntType(self.bits), value.lanes)
            value = Value(self.builder, self.builder.trunc(value.value, kind))
        stored = self.builder.store(value.value, self._pointer(offset, value.lanes))
        stored.align = self.bits // 8

    def prefetch(self, offset: Value) -> None:
        """Have the cache line of an element brought into the first cache, to be read; any address will do."""
        pointer = self.builder.bitcast(self._at(offset), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INT32, _INT32, _INT32])
        prefetch = self.builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        self.builder.call(prefetch, [pointer, *(ir.Constant(_INT32, number) for number in (0, 3, 1))])

    def scalar(self, offset: Value) -> Value:
        """One element."""
        return Value(self.builder, self.builder.load(self._at(offset)))

    def constant(self, number: int, bits: int) -> Value:
        """A number of so many bits in every lane of a register."""
        return Value(
            self.builder, ir.Constant(ir.VectorType(ir.IntType(bits), _lanes_of(bits)), [number] * _lanes_of(bits))
        )


def at_address(address: Value, bits: int) -> Array:
    """The array of elements of so many bits that begins at an address."""
    return Array(address.builder, address.builder.inttoptr(address.value, ir.IntType(bits).as_pointer()), bits)


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


def either(mask: Value, a: Any, b: Any) -> Iterator[tuple[AbstractContextManager, Any]]:
    """Two bodies, of which one runs: where a scalar condition holds that of ``a``, else that of ``b``.  Gives for each
    the context to emit it in."""
    with mask.builder.if_else(mask.value) as (then, otherwise):
        yield then, a
        yield otherwise, b


def transpose(rows: list[Value]) -> list[Value]:
    """Vectors as a square matrix, transposed in steps of exchanges between rows 1, 2, 4 .. apart."""
    builder, lanes = rows[0].builder, len(rows)

    def exchange(a: ir.Value, b: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
        low = [lane if not lane & width else lane - width + lanes for lane in range(lanes)]
        high = [lane + width if not lane & width else lane + lanes for lane in range(lanes)]
        indices = [ir.Constant(ir.VectorType(_INT32, lanes), chosen) for chosen in (low, high)]
        return builder.shuffle_vector(a, b, indices[0]), builder.shuffle_vector(a, b, indices[1])

    values = [row.value for row in rows]
    for width in (1 << k for k in range(lanes.bit_length() - 1)):
        for i in range(lanes):
            if not i & width:
                values[i], values[i + width] = exchange(values[i], values[i + width], width)
    return [Value(builder, value) for value in values]


def _symbolic(context: Any, builder: ir.IRBuilder, kind: types.Type, value: ir.Value) -> Value | Array:
    if isinstance(kind, types.Array):
        return Array(builder, context.make_array(kind)(context, builder, value).data, kind.dtype.bitwidth)
    return Value(builder, context.cast(builder, value, kind, types.int64))


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
