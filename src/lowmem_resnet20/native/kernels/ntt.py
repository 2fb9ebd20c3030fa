"""The negacyclic number-theoretic transform, in passes that stay in cache.

As OpenFHE's, position i of the result holds the value at psi^(2 bitrev(i) + 1), psi a root of unity of order 2N; its
butterflies are Cooley and Tukey's (u, v) -> (u + w v, u - w v), log2 N layers of them, of which layer l has 2^l roots:
w = psi^(N / 2^(l + 1) (2 bitrev_l(i) + 1)) for block i.

1. All but the last eight layers combine vectors that are far apart, two or three layers a pass over memory.  After the
first pass what is left is done part by part.
2. What remains are blocks of 256 coefficients, 16 rows of 16.  Four layers combine rows, with the same root for all
of a row.
3. Rows become lanes: the block is transposed, in registers where they suffice.
4. In the last four layers each lane has roots of its own.  Those of row 16 b + r are psi^((8 / 2^k) e) and turns of
it, e = 2 bitrev(16 b + r) + 1 = (2 bitrev(b) + 1) + 2 N / 256 bitrev_4(r): without the first term they are the same
for all blocks.  The substitution X = psi^(2 bitrev(b) + 1) Y takes it away, a product of coefficient j of each row
with psi^(j (2 bitrev(b) + 1)): multiplied into the roots of the first layer of step 2, it costs half a layer more.

So of N roots N/16 + N/8 and 240 must be stored.  The inverse does the same backwards, with Gentleman and Sande's
butterflies (u, v) -> (u + v, w (u - v)), and multiplies by a constant in its last layer.

Order in memory.  Coefficients lie as they are.  Of evaluation form blocks of 256 positions are transposed as 16 x 16
matrices (:mod:`.order`).

Lazy ranges.  Bounds of each value, in multiples of p, are followed while a pass is traced; ROOM is what a word holds.
Forward: u is brought below ROOM / 2 where u + w v could leave the room, and to u - w v the bound of products is added.
Inverse: all values are below ROOM / 2 before a butterfly, and the bound of v is added to u - v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled
from .intrinsics import Array, Value, at_address, either, repeated, select, transpose, vectorised
from .jobs import next_job, take
from .memory import aligned, aligned_copy
from .order import BLOCK, ROWS, bit_reversed
from .residues import constants, modulus, with_quotient

_LAYERS_OF_ROWS = 4
_VECTORS = 2 * ROWS  # a vector of 16 factors and one of their quotients


class Tables(NamedTuple):
    """What the transform modulo several primes needs, in one direction; a factor's quotient lies behind it.

    passes: int64 (passes, 2), the radix of each over what blocks of 256 are parts of, and the number of parts before;
    constants: (primes, 8) of :func:`.residues.constants`; roots: (primes, N/16, 2), of block i of layer l at 2^l + i;
    twist: (primes, N/256, 2, 2, 16), by block: of u and of v; lanes: (primes, 16, 2, 16) of the last layers, one more
    than there are; scales: (primes, 2, 2), the inverse's final factors of u and of v."""

    passes: NDArray[np.int64]
    constants: NDArray
    roots: NDArray
    twist: NDArray
    lanes: NDArray
    scales: NDArray


# Butterflies ------------------------------------------------------------------------------------------------------


def _layers(radix: int) -> list[list[tuple[int, int, int]]]:
    """The layers of a forward pass, of butterflies: positions of u and v, and the number of the root, 2^layer - 1 +
    block."""
    layers, half, blocks = [], radix // 2, 1
    while half:
        starts = [(2 * half * block, blocks - 1 + block) for block in range(blocks)]
        layers.append([(a, a + half, root) for start, root in starts for a in range(start, start + half)])
        half, blocks = half // 2, 2 * blocks
    return layers


Root = Callable[[int], Any]
#: Factors of u and of v, in place of the root.
Turn = tuple[Any, Any]


def _forward(m: Any, x: list[Value], root: Root, turn: Turn | None = None) -> None:
    """All layers of values below ROOM p, results too; ``turn`` in the first."""
    bound = [m.ROOM] * len(x)
    for i, layer in enumerate(_layers(len(x))):
        for a, b, k in layer:
            if i == 0 and turn:
                x[a], bound[a] = m.multiply(x[a], turn[0]), m.PRODUCT
            elif bound[a] > m.ROOM - m.PRODUCT:
                x[a], bound[a] = m.lower(x[a], m.ROOM // 2), m.ROOM // 2
            product = m.multiply(x[b], turn[1] if i == 0 and turn else root(k))
            x[a], x[b] = x[a] + product, x[a] + m.multiple(m.PRODUCT) - product
            bound[a] = bound[b] = bound[a] + m.PRODUCT


def _inverse(m: Any, x: list[Value], root: Root, turn: Turn | None = None) -> None:
    """All layers backwards of values below PRODUCT p, results too; ``turn`` in the last."""
    bound = [m.PRODUCT] * len(x)
    layers = _layers(len(x))
    for i, layer in reversed(list(enumerate(layers))):
        for a, b, k in layer:
            difference = x[a] + m.multiple(bound[b]) - x[b]
            x[a], bound[a] = x[a] + x[b], bound[a] + bound[b]
            if i == 0 and turn:
                x[a], bound[a] = m.multiply(x[a], turn[0]), m.PRODUCT
            elif bound[a] > m.ROOM // 2:
                x[a], bound[a] = m.lower(x[a], m.ROOM // 2), m.ROOM // 2
            x[b], bound[b] = m.multiply(difference, turn[1] if i == 0 and turn else root(k)), m.PRODUCT
    for i in range(len(x)):
        while bound[i] > m.PRODUCT:
            bound[i] //= 2
            x[i] = m.lower(x[i], bound[i])


def _once(read: Callable[[int], Any]) -> Root:
    """Reads each root when it is first asked for."""
    known: dict[int, Any] = {}
    return lambda k: known[k] if k in known else known.setdefault(k, read(k))


def _shared_roots(m: Any, roots: Array, r0: Value, node: Value) -> Root:
    """Roots for all lanes, of a part that begins at ``node`` = 2^layer + block of the tree."""

    def read(k: int) -> Any:
        layer = (k + 1).bit_length() - 1
        return m.factor(roots, r0 + (((node << layer) + (k + 1 - (1 << layer))) << 1))

    return _once(read)


def _lane_roots(m: Any, lanes: Array, l0: Value) -> Root:
    return _once(lambda k: m.factors(lanes, l0 + _VECTORS * k, ROWS))


def _turn(m: Any, twist: Array, t0: Value) -> Turn:
    return m.factors(twist, t0, ROWS), m.factors(twist, t0 + _VECTORS, ROWS)


# Passes -----------------------------------------------------------------------------------------------------------


def _pass(butterflies: Callable[..., None], *, last: bool = False) -> Any:
    """dst[size] from src[size], addresses: the layers of a pass of radix 4 or 8 over a part that begins at ``node``.

    The inverse's last pass multiplies by the scales, and its results are canonical."""

    def layers(radix, dst, src, size, roots, r0, node, scales, constants, i):
        for chosen, log2_radix in either(radix < radix.like(8), 2, 3):
            with chosen:
                body(1 << log2_radix, dst, src, size >> log2_radix, roots, r0, node, scales, constants, i)

    def body(radix, dst, src, stride, roots, r0, node, scales, constants, i):
        source, target, m = at_address(src, constants.bits), at_address(dst, constants.bits), modulus(constants, i)
        root = _shared_roots(m, roots, r0, node)
        turn = (m.factor(scales, i * 4), m.factor(scales, i * 4 + 2)) if last else None
        for k in range(1 if last else 0, radix - 1):
            root(k)  # before the loop
        with repeated(stride >> (source.lanes.bit_length() - 1)) as vector:
            places = [stride * j + vector * source.lanes for j in range(radix)]
            x = [source.load(at) for at in places]
            butterflies(m, x, root, turn)
            for at, value in zip(places, x, strict=True):
                target.store(at, m.canonical(value, m.PRODUCT) if last else value)

    return vectorised(layers)


_forward_pass, _inverse_pass, _last_pass = _pass(_forward), _pass(_inverse), _pass(_inverse, last=True)


@vectorised
def _forward_block(data, buffer, roots, r0, node, twist, t0, lanes, l0, constants, i):
    """Steps 2 to 4 of a block at an address, in place; results canonical.  buffer: address of room for a block."""
    x, between = at_address(data, constants.bits), at_address(buffer, constants.bits)
    m, width, start = modulus(constants, i), x.lanes, data.like(0)
    root = _shared_roots(m, roots, r0, node)
    for column in range(0, ROWS, width):
        rows = [x.load(start + (ROWS * row + column)) for row in range(ROWS)]
        _forward(m, rows, root, _turn(m, twist, t0 + column))
        if width < ROWS:
            _store_rows(between, start, rows, column)
    for row in range(0, ROWS, width):
        if width < ROWS:
            squares = [
                [between.load(start + (ROWS * (row + j) + c)) for j in range(width)] for c in range(0, ROWS, width)
            ]
        else:
            squares = [rows]
        columns = [column for square in squares for column in transpose(square)]
        _forward(m, columns, _lane_roots(m, lanes, l0 + row))
        _store_rows(x, start, [m.canonical(column, m.ROOM) for column in columns], row)


@vectorised
def _inverse_block(dst, src, buffer, roots, r0, node, twist, t0, lanes, l0, constants, i):
    """The reverse, from one address to another; results below PRODUCT p."""
    source, target, between = (at_address(address, constants.bits) for address in (src, dst, buffer))
    m, width, start = modulus(constants, i), source.lanes, src.like(0)
    root = _shared_roots(m, roots, r0, node)
    for row in range(0, ROWS, width):
        columns = [source.load(start + (ROWS * column + row)) for column in range(ROWS)]
        _inverse(m, columns, _lane_roots(m, lanes, l0 + row))
        squares = [transpose(columns[c : c + width]) for c in range(0, ROWS, width)]
        if width < ROWS:
            for c, square in zip(range(0, ROWS, width), squares, strict=True):
                for j, value in enumerate(square):
                    between.store(start + (ROWS * (row + j) + c), value)
    for column in range(0, ROWS, width):
        places = [start + (ROWS * row + column) for row in range(ROWS)]
        rows = [between.load(at) for at in places] if width < ROWS else squares[0]
        _inverse(m, rows, root, _turn(m, twist, t0 + column))
        _store_rows(target, start, rows, column)


def _store_rows(array: Array, start: Value, rows: Sequence[Value], column: int) -> None:
    for row, value in enumerate(rows):
        array.store(start + (ROWS * row + column), value)


# What goes before and comes after ---------------------------------------------------------------------------------


@vectorised
def _reduce(dst, src, n, constants, i):
    """Of n integers below 2^62, of 64 bits with signs, residues below ROOM p; addresses."""
    source, target, m = at_address(src, 64), at_address(dst, constants.bits), modulus(constants, i)
    lanes = source.lanes
    with repeated(n >> (lanes.bit_length() - 1)) as vector:
        at = vector * lanes
        target.store(at, m.of_integers(source.load(at)))


@vectorised
def _centre(dst, src, n, prime, constants, i):
    """Of n residues modulo a prime below 4 p those of the representatives nearest to 0, below ROOM p, modulo small
    p."""
    if constants.bits > 32:
        return
    source, target, m = at_address(src, 32), at_address(dst, 32), modulus(constants, i)
    half, change = ((number).narrowed().spread(source.lanes) for number in (prime >> 1, prime.like(0) - prime))
    with repeated(n >> (source.lanes.bit_length() - 1)) as vector:
        y = source.load(vector * source.lanes)
        target.store(vector * source.lanes, select(half < y, y + (change + m.multiple(2)), y))


@vectorised
def _subtract(out, minuend, n, factors, constants, i):
    """out = (minuend - out) times factor i, all canonical."""
    x, y = at_address(minuend, constants.bits), at_address(out, constants.bits)
    m = modulus(constants, i)
    factor = m.factor(factors, i * 2)
    with repeated(n >> (x.lanes.bit_length() - 1)) as vector:
        at = vector * x.lanes
        y.store(at, m.canonical(m.multiply(x.load(at) + m.p - y.load(at), factor), m.PRODUCT))


@vectorised
def gather(dst, src, places, p0, n, constants):
    """dst[e] = src[places[p0 + e]], e < n, addresses of residues."""
    source, target = at_address(src, constants.bits), at_address(dst, constants.bits)
    with repeated(n) as e:
        target.store(e, source.scalar(places.scalar(p0 + e).extended()))


@vectorised
def _halve(dst, src, n):
    """n residues of 60 bits as n lower and then n upper halves, of 30 bits in 32."""
    source, target = at_address(src, 64), at_address(dst, 32)
    with repeated(n >> (source.lanes.bit_length() - 1)) as vector:
        y = source.load(vector * source.lanes)
        target.store(vector * source.lanes, y & ((1 << 30) - 1))
        target.store(vector * source.lanes + n, y >> 30)


#: What the transform is given, beside the value of another prime, whose residues are centred.
RESIDUES, INTEGERS = 0, 1


@compiled
def to_evaluation(counter, jobs, scratch, places, order, factors, n, t):
    """Forward transforms, of coefficients below ROOM p; results canonical.

    places: int64 (jobs, 5): addresses of the result and of the coefficients, which may be the same; the number of the
    prime in t; RESIDUES, INTEGERS below 2^62, or a prime modulo which they are residues to be centred; the address of
    what the result is subtracted from, 0 for none: the difference is multiplied by the prime's of factors (primes, 2).
    order: of the result's places in the transform's, empty for its own."""
    size, blocks, parts, twist = t.constants.itemsize, n // BLOCK, t.passes[0, 0], 2 * _VECTORS
    buffer = scratch.ctypes.data
    coefficients = buffer + BLOCK * size
    job = take(counter)
    while job < jobs:
        out, x, i, kind, minuend = places[job]
        if kind == INTEGERS:
            _reduce(coefficients, x, n, t.constants, i)
            x = coefficients
        elif kind != RESIDUES:
            _centre(coefficients, x, n, kind, t.constants, i)
            x = coefficients
        y = coefficients + n * size if len(order) else out
        r0, l0 = 2 * i * (n // ROWS), i * ROWS * _VECTORS
        for part in range(parts):
            for level in range(min(part, 1), len(t.passes)):  # the first once
                radix, nodes = t.passes[level]
                first = part * nodes // parts
                for node in range(first, max(first + 1, (part + 1) * nodes // parts)):
                    at = node * (n // nodes) * size
                    _forward_pass(radix, y + at, (y if level else x) + at, n // nodes, t.roots, r0, nodes + node,
                                  t.scales, t.constants, i)  # fmt: skip
            for block in range(part * blocks // parts, (part + 1) * blocks // parts):
                _forward_block(y + block * BLOCK * size, buffer, t.roots, r0, blocks + block, t.twist,
                               twist * (i * blocks + block), t.lanes, l0, t.constants, i)  # fmt: skip
        if len(order):
            gather(out, y, order, 0, n, t.constants)
        if minuend:
            _subtract(out, minuend, n, factors, t.constants, i)
        job = next_job(counter)


@compiled
def to_coefficients(counter, jobs, scratch, places, n, t):
    """Inverse transforms, with tables of the inverse, of evaluation form below PRODUCT p; results times the tables'
    scale, canonical, in halves modulo special primes.

    places: int64 (jobs, 3): addresses of the result and of evaluation form, the number of the prime in t."""
    size, blocks, parts, twist = t.constants.itemsize, n // BLOCK, t.passes[0, 0], 2 * _VECTORS
    buffer = scratch.ctypes.data
    job = take(counter)
    while job < jobs:
        out, y, i = places[job]
        x = buffer + BLOCK * size if size == 8 else out
        r0, l0 = 2 * i * (n // ROWS), i * ROWS * _VECTORS
        for part in range(parts):
            for block in range(part * blocks // parts, (part + 1) * blocks // parts):
                at = block * BLOCK * size
                _inverse_block(x + at, y + at, buffer, t.roots, r0, blocks + block, t.twist,
                               twist * (i * blocks + block), t.lanes, l0, t.constants, i)  # fmt: skip
            for level in range(len(t.passes) - 1, 0, -1):
                radix, nodes = t.passes[level]
                for node in range(part * nodes // parts, (part + 1) * nodes // parts):
                    at = x + node * (n // nodes) * size
                    _inverse_pass(radix, at, at, n // nodes, t.roots, r0, nodes + node, t.scales, t.constants, i)
        _last_pass(parts, x, x, n, t.roots, r0, 1, t.scales, t.constants, i)
        if size == 8:
            _halve(out, x, n)
        job = next_job(counter)


def scratch_elements(n: int) -> int:
    """What either needs of scratch."""
    return 2 * n + BLOCK


# Tables -----------------------------------------------------------------------------------------------------------


def passes(n: int) -> NDArray[np.int64]:
    """(passes, 2): as few as can be, each of two or three layers: their radix, and of how many parts before."""
    layers = (n // BLOCK).bit_length() - 1
    count = -(-layers // 3)
    fours = 3 * count - layers
    radices = [8] * (count - fours) + [4] * fours
    return np.array([radices, np.cumprod([1, *radices[:-1]])], np.int64).T.copy()


class _Powers:
    """psi^e modulo p for arrays of exponents: of two small tables, since few of 2n powers are needed."""

    def __init__(self, psi: int, order: int, p: int) -> None:
        kind = np.uint64 if p < 1 << 32 else object  # whose products stay exact
        self.order, self.p, self.bits = order, np.array(p, kind), np.array(32 if p < 1 << 32 else 64, kind)
        self.low = np.array([pow(psi, e, p) for e in range(256)], kind)
        self.high = np.array([pow(psi, 256 * e, p) for e in range(-(-order // 256))], kind)

    def __call__(self, exponents: NDArray[np.int64]) -> NDArray:
        high, low = np.divmod(exponents % self.order, 256)
        return self.high[high] * self.low[low] % self.p

    def quotients(self, factors: NDArray) -> NDArray:
        """floor(2^32 w / p) or floor(2^64 w / p) of each."""
        return (factors << self.bits) // self.p


def make_tables(n: int, primes: Sequence[int], roots: Sequence[int], dtype: Any) -> Tables:
    """Tables of the transform with ``roots`` for psi, or of the inverse of the one whose roots are their inverses."""
    nodes, reversed_rows = n // BLOCK, bit_reversed(ROWS)
    layers = [1 << k for k in range((n // ROWS).bit_length() - 1)]
    exponents = np.concatenate([[0], *(n // (2 * m) * (2 * bit_reversed(m) + 1) for m in layers)])
    columns = np.arange(ROWS) * (2 * bit_reversed(nodes)[:, None] + 1)
    twist = np.stack([columns, columns + exponents[nodes : 2 * nodes, None]], axis=1)
    lanes = np.zeros((ROWS, ROWS), np.int64)
    for k in range(_LAYERS_OF_ROWS):
        for i in range(1 << k):  # of block 0, without the 1
            inner = (reversed_rows + (ROWS * bit_reversed(1 << k)[i])) * nodes
            lanes[(1 << k) - 1 + i] = (8 >> k) * 2 * inner
    tables = Tables(
        passes(n),
        constants(primes, dtype),
        aligned(len(primes), n // ROWS, 2, dtype=dtype),
        aligned(len(primes), nodes, 2, 2, ROWS, dtype=dtype),
        aligned(len(primes), ROWS, 2, ROWS, dtype=dtype),
        aligned(len(primes), 2, 2, dtype=dtype),
    )
    for i, (p, psi) in enumerate(zip(primes, roots, strict=True)):
        power = _Powers(psi, 2 * n, p)
        for table, exponents_of in ((tables.twist, twist), (tables.lanes, lanes)):
            factors = power(exponents_of)
            table[i, ..., 0, :], table[i, ..., 1, :] = factors, power.quotients(factors)
        factors = power(exponents)
        tables.roots[i, :, 0], tables.roots[i, :, 1] = factors, power.quotients(factors)
    return with_scales(tables, primes, [1] * len(primes))


def with_scales(tables: Tables, primes: Sequence[int], scales: Sequence[int]) -> Tables:
    """The inverse's tables with other factors, scales / n, modulo the first primes."""
    n = tables.roots.shape[1] * ROWS
    factors = [scale * pow(n, -1, p) for p, scale in zip(primes, scales, strict=False)]
    turned = [factor * int(root) for factor, root in zip(factors, tables.roots[:, 1, 0], strict=False)]
    pairs = [with_quotients(values, primes, tables.scales.dtype.type) for values in (factors, turned)]
    return tables._replace(scales=aligned_copy(np.stack(pairs, axis=1)))


def with_quotients(factors: Sequence[int], primes: Sequence[int], dtype: Any) -> NDArray:
    """(factors, 2) factors modulo the first primes and their quotients, as they are stored."""
    pairs = [with_quotient(factor, p, dtype) for factor, p in zip(factors, primes, strict=False)]
    return np.array(pairs, dtype).reshape(-1, 2)
