"""The negacyclic number-theoretic transform, in passes that stay in cache.

As OpenFHE's, position i of the result holds the value at psi^(2 bitrev(i) + 1), psi a root of unity of order 2N.

A polynomial of N = A B coefficients is transformed as a matrix of A rows and B columns, in four passes whose data
stay in cache.  X^N + 1 is split by the Cooley-Tukey butterflies (u, v) -> (u + w v, u - w v), log2 N layers of them:

1. the first log2 A layers combine whole rows.  Eight columns at a time are read, in two passes (radix A/16, then 16),
all with the same roots;
2. row r is then a polynomial modulo X^B - psi^(B e), e = 2 bitrev_A(r) + 1.  Eight rows at a time are transposed, so
   that lanes are rows, and go through a pass of radix 16 with roots of their own;
3. what is left are blocks of B/16 coefficients whose roots depend on the row only through psi^e: the substitution X =
   psi^e Y, a product of coefficient j of each block with psi^(e j), makes them the same for all rows, for a last pass
   of radix B/16.

So of N roots only N/16 + 17 A and a few must be stored.  The inverse does the same backwards, with Gentleman and
Sande's butterflies (u, v) -> (u + v, w (u - v)), and multiplies by a constant at last.

Order in memory.  Evaluation form: row r, position j stands at (r // 8) 8 B + 8 j + r % 8.  Coefficients lie in B/8
tiles of eight columns; within a tile rows 16 i + k stand at (k A/16 + i) 8, so that the first pass reads on.  Neither
is OpenFHE's order; :mod:`.ring` converts.

Lazy ranges.  Modulo small primes each layer adds less than p (residues.SmallModulus: |w v| < p/2 + p/128) to the
result of the forward transform: 4 passes of at most 4 layers stay below 2^41; sums of the inverse double at each
layer: those of the first pass reach 2^44, and those of the other 12 layers between two multiplications 2^12 (p/2 +
p/128) < 2^49; both within what products take.  Modulo special primes values are in [0, 16 p): see _LargeButterflies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compilation import compiled
from .intrinsics import LANES, Array, Value, take, transpose, vectorised
from .memory import aligned_copy
from .order import bit_reversed, shape
from .residues import LargeModulus, SmallModulus

RADIX = 16
#: What two passes divide, the second at least by 2.
FEWEST_COLUMNS = 2 * RADIX
#: Elements by which coefficient tiles are longer than what they hold: rows a power of two apart share cache sets.
PADDING = 64


class Tables(NamedTuple):
    """What the transform modulo several primes needs, in either direction; arrays (primes, ...), float64 or uint64.

    rows, columns: A and B.  modulus, inverse: p, and 1/p as float64.  first: the roots of the first pass (16);
    blocks: of the second, A/16 blocks of 16; rows_own: of the third, by eight rows 16 vectors of eight; twist: psi^(e
    j), by eight rows B/16 vectors; last: 16 blocks of 16.  scale: the inverse's final factor.  ..._quotient:
    floor(2^64 w / p) beside each w, for uint64; for float64 the same again."""

    rows: int
    columns: int
    modulus: NDArray
    inverse: NDArray
    first: NDArray
    first_quotient: NDArray
    blocks: NDArray
    blocks_quotient: NDArray
    rows_own: NDArray
    rows_own_quotient: NDArray
    twist: NDArray
    twist_quotient: NDArray
    last: NDArray
    last_quotient: NDArray
    scale: NDArray
    scale_quotient: NDArray


# Passes -----------------------------------------------------------------------------------------------------------


def _layers(radix: int) -> list[tuple[int, int, int]]:
    """The butterflies of a forward pass: positions of u and v, and the number of the root, 2^layer - 1 + block."""
    butterflies, half, blocks = [], radix // 2, 1
    while half:
        for block in range(blocks):
            start = 2 * half * block
            butterflies += [(a, a + half, blocks - 1 + block) for a in range(start, start + half)]
        half, blocks = half // 2, 2 * blocks
    return butterflies


def _inverse_layers(radix: int) -> list[tuple[int, int, int]]:
    """The butterflies of an inverse pass: the forward pass's layers backwards."""
    by_layer: dict[int, list] = {}
    for butterfly in _layers(radix):
        by_layer.setdefault((butterfly[2] + 1).bit_length(), []).append(butterfly)
    return [butterfly for layer in sorted(by_layer, reverse=True) for butterfly in by_layer[layer]]


class _SmallButterflies:
    """Butterflies modulo a small prime: nothing is reduced but by products."""

    def __init__(self, p: Value, inverse: Value) -> None:
        self.modulus = SmallModulus(p, inverse)
        self.multiply = self.modulus.multiply

    def forward(self, x: list[Value], root: Callable[[int], tuple[Value, Value]]) -> None:
        for a, b, k in _layers(len(x)):
            product = self.multiply(x[b], *root(k))
            x[a], x[b] = x[a] + product, x[a] - product

    def inverse(self, x: list[Value], root: Callable[[int], tuple[Value, Value]]) -> None:
        for a, b, k in _inverse_layers(len(x)):
            x[a], x[b] = x[a] + x[b], self.multiply(x[a] - x[b], *root(k))

    def settle(self, x: list[Value]) -> None:
        """Nothing: products take what sums have become."""

    def finish_forward(self, x: list[Value]) -> None:
        x[:] = [self.modulus.canonical(value) for value in x]

    finish_inverse = finish_forward


class _LargeButterflies:
    """Butterflies modulo a special prime, on values in [0, 16 p).

    Bounds of each value are followed while a pass is traced.  Forward: a product is in [0, 4p); u is brought below 8p
    where it could be above 12p, so u + w v and u - w v + 4p are below 16 p.  Inverse: all values are below 4p or 8p;
    a sum of more is brought below 8p."""

    def __init__(self, p: Value, inverse: Value) -> None:
        self.modulus = LargeModulus(p, inverse)
        self.multiply = self.modulus.multiply

    def forward(self, x: list[Value], root: Callable[[int], tuple[Value, Value]]) -> None:
        four = self.modulus.multiple[4]
        bound = [16] * len(x)
        for a, b, k in _layers(len(x)):
            if bound[a] > 12:
                x[a], bound[a] = self.modulus.lower(x[a], 8), 8
            product = self.multiply(x[b], *root(k))
            x[a], x[b] = x[a] + product, x[a] - product + four
            bound[a] = bound[b] = bound[a] + 4

    def inverse(self, x: list[Value], root: Callable[[int], tuple[Value, Value]]) -> None:
        bound = [4] * len(x)
        for a, b, k in _inverse_layers(len(x)):
            difference = x[a] - x[b] + self.modulus.multiple[bound[b]]
            x[a], x[b] = x[a] + x[b], self.multiply(difference, *root(k))
            bound[a], bound[b] = bound[a] + bound[b], 4
            if bound[a] not in (4, 8):
                self._lower(x, bound, a)
        self._bound = bound

    def _lower(self, x: list[Value], bound: list[int], i: int) -> None:
        k = 8 if bound[i] > 8 else 4
        x[i], bound[i] = self.modulus.lower(x[i], k), k

    def settle(self, x: list[Value]) -> None:
        """After an inverse pass: below 4p, which the next begins with."""
        for i in range(len(x)):
            while self._bound[i] > 4:
                self._lower(x, self._bound, i)

    def finish_forward(self, x: list[Value]) -> None:
        x[:] = [self.modulus.canonical(value, 16) for value in x]

    def finish_inverse(self, x: list[Value]) -> None:
        """After the product with the scale: canonical."""
        x[:] = [self.modulus.canonical(value, 4) for value in x]


def _butterflies(array: Array, p: Value, inverse: Value) -> Any:
    return _SmallButterflies(p, inverse) if array.is_float else _LargeButterflies(p, inverse)


def _roots(w: Array, quotients: Array, offset: Value, by_lane: bool) -> Callable[[int], tuple[Value, Value]]:
    """Root k of a pass, read when first asked for: the same for all lanes, or one for each."""
    known: dict[int, tuple[Value, Value]] = {}

    def root(k: int) -> tuple[Value, Value]:
        if k not in known:
            known[k] = _factor(w, quotients, offset + (LANES * k if by_lane else k), by_lane)
        return known[k]

    return root


def _factor(w: Array, quotients: Array, offset: Value, by_lane: bool) -> tuple[Value, Value]:
    """A factor and its quotient; modulo small primes there is none to read."""
    factor = w.load(offset) if by_lane else w.scalar(offset).spread()
    if w.is_float:
        return factor, factor
    return factor, quotients.load(offset) if by_lane else quotients.scalar(offset).spread()


def _strided(start: Value, stride: Value, count: int) -> list[Value]:
    return [start + stride * i for i in range(count)]


def _tiled(start: Value, row_block: Value, count: int) -> list[Value]:
    """Rows of an 8 x 8 tile each, in blocks of eight rows."""
    return [start + row_block * (i // LANES) + LANES * (i % LANES) for i in range(count)]


def _forward_pass(radix: int) -> Any:
    """dst[d0 + i ds] from src[s0 + i ss], i < radix, vectors of eight: all layers of a pass, unreduced."""

    def forward(dst, d0, ds, src, s0, ss, w, quotients, w0, p, inverse):
        x = [src.load(at) for at in _strided(s0, ss, radix)]
        _butterflies(src, p, inverse).forward(x, _roots(w, quotients, w0, by_lane=False))
        for at, value in zip(_strided(d0, ds, radix), x, strict=True):
            dst.store(at, value)

    return vectorised(forward)


def _forward_last_pass(radix: int) -> Any:
    """The same, results canonical."""

    def forward_last(dst, d0, ds, src, s0, ss, w, quotients, w0, p, inverse):
        x = [src.load(at) for at in _strided(s0, ss, radix)]
        butterflies = _butterflies(src, p, inverse)
        butterflies.forward(x, _roots(w, quotients, w0, by_lane=False))
        butterflies.finish_forward(x)
        for at, value in zip(_strided(d0, ds, radix), x, strict=True):
            dst.store(at, value)

    return vectorised(forward_last)


@vectorised
def _forward_to_tiles(dst, d0, row_block, src, s0, ss, w, quotients, w0, p, inverse):
    """A pass of radix 16 over rows, which are stored as the rows of 8 x 8 tiles."""
    x = [src.load(at) for at in _strided(s0, ss, RADIX)]
    _butterflies(src, p, inverse).forward(x, _roots(w, quotients, w0, by_lane=False))
    for at, value in zip(_tiled(d0, row_block, RADIX), x, strict=True):
        dst.store(at, value)


@vectorised
def _forward_own_roots(buffer, d0, ds, w, quotients, w0, twist, twist_quotients, t0, p, inverse):
    """In place: a pass of radix 16 in which each lane is a row with roots of its own, then the row's twist."""
    places = _strided(d0, ds, RADIX)
    x = [buffer.load(at) for at in places]
    butterflies = _butterflies(buffer, p, inverse)
    butterflies.forward(x, _roots(w, quotients, w0, by_lane=True))
    factor = _factor(twist, twist_quotients, t0, by_lane=True)
    for at, value in zip(places, x, strict=True):
        buffer.store(at, butterflies.multiply(value, *factor))


def _inverse_pass(radix: int) -> Any:
    """dst[d0 + i ds] from src[s0 + i ss], i < radix, vectors of eight: all layers of a pass, below 4p modulo special
    primes."""

    def inverse(dst, d0, ds, src, s0, ss, w, quotients, w0, p, inverse):
        x = [src.load(at) for at in _strided(s0, ss, radix)]
        butterflies = _butterflies(src, p, inverse)
        butterflies.inverse(x, _roots(w, quotients, w0, by_lane=False))
        butterflies.settle(x)
        for at, value in zip(_strided(d0, ds, radix), x, strict=True):
            dst.store(at, value)

    return vectorised(inverse)


def _inverse_last_pass(radix: int) -> Any:
    """The same, times a constant, results canonical."""

    def inverse_last(dst, d0, ds, src, s0, ss, w, quotients, w0, scale, scale_quotients, c0, p, inverse):
        x = [src.load(at) for at in _strided(s0, ss, radix)]
        butterflies = _butterflies(src, p, inverse)
        butterflies.inverse(x, _roots(w, quotients, w0, by_lane=False))
        factor = _factor(scale, scale_quotients, c0, by_lane=False)
        x = [butterflies.multiply(value, *factor) for value in x]
        butterflies.finish_inverse(x)
        for at, value in zip(_strided(d0, ds, radix), x, strict=True):
            dst.store(at, value)

    return vectorised(inverse_last)


@vectorised
def _inverse_own_roots(buffer, d0, ds, w, quotients, w0, twist, twist_quotients, t0, p, inverse):
    """In place: the twist undone, then a pass of radix 16 in which each lane is a row with roots of its own."""
    places = _strided(d0, ds, RADIX)
    butterflies = _butterflies(buffer, p, inverse)
    factor = _factor(twist, twist_quotients, t0, by_lane=True)
    x = [butterflies.multiply(buffer.load(at), *factor) for at in places]
    butterflies.inverse(x, _roots(w, quotients, w0, by_lane=True))
    butterflies.settle(x)
    for at, value in zip(places, x, strict=True):
        buffer.store(at, value)


@vectorised
def _inverse_from_tiles(dst, d0, ds, src, s0, row_block, w, quotients, w0, p, inverse):
    """A pass of radix 16 over rows, which are read from the rows of 8 x 8 tiles."""
    x = [src.load(at) for at in _tiled(s0, row_block, RADIX)]
    butterflies = _butterflies(src, p, inverse)
    butterflies.inverse(x, _roots(w, quotients, w0, by_lane=False))
    butterflies.settle(x)
    for at, value in zip(_strided(d0, ds, RADIX), x, strict=True):
        dst.store(at, value)


@vectorised
def _fetch(x, x0):
    """Ask for the 16 cache lines from x0 on, which the next tile's first pass reads."""
    for i in range(RADIX):
        x.prefetch(x0 + LANES * i)


@vectorised
def _transpose(dst, d0, src, s0):
    """64 consecutive elements as an 8 x 8 matrix, transposed."""
    rows = transpose([src.load(s0 + LANES * i) for i in range(LANES)])
    for i, row in enumerate(rows):
        dst.store(d0 + LANES * i, row)


_forward_2, _forward_4, _forward_8, _forward_16 = (_forward_pass(radix) for radix in (2, 4, 8, 16))
_forward_last_2, _forward_last_4, _forward_last_8, _forward_last_16 = (_forward_last_pass(r) for r in (2, 4, 8, 16))
_inverse_2, _inverse_4, _inverse_8, _inverse_16 = (_inverse_pass(radix) for radix in (2, 4, 8, 16))
_inverse_last_2, _inverse_last_4, _inverse_last_8, _inverse_last_16 = (_inverse_last_pass(r) for r in (2, 4, 8, 16))


@compiled
def _forward_rows(radix, d, d0, ds, s, s0, ss, w, wq, w0, p, inverse):
    if radix == 16:
        _forward_16(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    elif radix == 8:
        _forward_8(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    elif radix == 4:
        _forward_4(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    else:
        _forward_2(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)


@compiled
def _forward_last(radix, d, d0, ds, s, s0, ss, w, wq, w0, p, inverse):
    if radix == 16:
        _forward_last_16(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    elif radix == 8:
        _forward_last_8(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    elif radix == 4:
        _forward_last_4(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    else:
        _forward_last_2(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)


@compiled
def _inverse_rows(radix, d, d0, ds, s, s0, ss, w, wq, w0, p, inverse):
    if radix == 16:
        _inverse_16(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    elif radix == 8:
        _inverse_8(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    elif radix == 4:
        _inverse_4(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)
    else:
        _inverse_2(d, d0, ds, s, s0, ss, w, wq, w0, p, inverse)


@compiled
def _inverse_last(radix, d, d0, ds, s, s0, ss, w, wq, w0, scale, scaleq, c0, p, inverse):
    if radix == 16:
        _inverse_last_16(d, d0, ds, s, s0, ss, w, wq, w0, scale, scaleq, c0, p, inverse)
    elif radix == 8:
        _inverse_last_8(d, d0, ds, s, s0, ss, w, wq, w0, scale, scaleq, c0, p, inverse)
    elif radix == 4:
        _inverse_last_4(d, d0, ds, s, s0, ss, w, wq, w0, scale, scaleq, c0, p, inverse)
    else:
        _inverse_last_2(d, d0, ds, s, s0, ss, w, wq, w0, scale, scaleq, c0, p, inverse)


# The transform ----------------------------------------------------------------------------------------------------


@compiled
def forward(y, y0, x, x0, tile_stride, scratch, t, i):
    """Evaluation form y[y0:y0 + N], canonical, of coefficients in tiles at x[x0], tile_stride apart, modulo prime i
    of tables t.

    x: canonical, or |x| <= 2^40 modulo small, x < 16 p modulo special primes.  scratch: scratch_elements(N) of y's
    type."""
    rows, columns = t.rows, t.columns
    outer, inner, row_block = rows // RADIX, columns // RADIX, LANES * columns
    p, inverse = t.modulus[i], t.inverse[i]
    w, b, v, buffer = i * RADIX, i * outer * RADIX, i * RADIX * RADIX, rows * columns + PADDING
    for tile in range(columns // LANES):
        source = x0 + tile * tile_stride
        for r in range(RADIX):
            _fetch(x, source + tile_stride + r * outer * LANES)
            _forward_rows(outer, scratch, buffer + r * LANES, RADIX * LANES, x, source + r * outer * LANES, LANES,
                          t.first, t.first_quotient, w, p, inverse)  # fmt: skip
        for k in range(outer):
            _forward_to_tiles(scratch, 2 * k * row_block + tile * LANES * LANES, row_block, scratch,
                              buffer + k * RADIX * LANES, LANES, t.blocks, t.blocks_quotient, b + k * RADIX,
                              p, inverse)  # fmt: skip
    for block in range(rows // LANES):
        own = (i * (rows // LANES) + block) * RADIX * LANES
        twist = (i * (rows // LANES) + block) * inner * LANES
        for j in range(0, row_block, LANES * LANES):
            _transpose(scratch, buffer + j, scratch, block * row_block + j)
        for j in range(inner):
            _forward_own_roots(scratch, buffer + j * LANES, inner * LANES, t.rows_own, t.rows_own_quotient, own,
                               t.twist, t.twist_quotient, twist + j * LANES, p, inverse)  # fmt: skip
        for k in range(RADIX):
            _forward_last(inner, y, y0 + block * row_block + k * inner * LANES, LANES, scratch,
                          buffer + k * inner * LANES, LANES, t.last, t.last_quotient, v + k * RADIX, p,
                          inverse)  # fmt: skip


@compiled
def backward(x, x0, tile_stride, y, y0, scratch, t, i):
    """Coefficients of y[y0:y0 + N] times the tables' scale, canonical, in tiles at x[x0]: forward's inverse, with
    tables of the inverse.

    y: canonical, or |y| <= 2^40 modulo small, y < 4p modulo special primes.  x may not be y.
    """
    rows, columns = t.rows, t.columns
    outer, inner, row_block = rows // RADIX, columns // RADIX, LANES * columns
    p, inverse = t.modulus[i], t.inverse[i]
    w, b, v, buffer = i * RADIX, i * outer * RADIX, i * RADIX * RADIX, rows * columns + PADDING
    for block in range(rows // LANES):
        own = (i * (rows // LANES) + block) * RADIX * LANES
        twist = (i * (rows // LANES) + block) * inner * LANES
        for k in range(RADIX):
            _inverse_rows(inner, scratch, buffer + k * inner * LANES, LANES, y,
                          y0 + block * row_block + k * inner * LANES, LANES, t.last, t.last_quotient,
                          v + k * RADIX, p, inverse)  # fmt: skip
        for j in range(inner):
            _inverse_own_roots(scratch, buffer + j * LANES, inner * LANES, t.rows_own, t.rows_own_quotient, own,
                               t.twist, t.twist_quotient, twist + j * LANES, p, inverse)  # fmt: skip
        for j in range(0, row_block, LANES * LANES):
            _transpose(scratch, block * row_block + j, scratch, buffer + j)
    for tile in range(columns // LANES):
        target = x0 + tile * tile_stride
        for k in range(outer):
            _inverse_from_tiles(scratch, buffer + k * RADIX * LANES, LANES, scratch,
                                2 * k * row_block + tile * LANES * LANES, row_block,
                                t.blocks, t.blocks_quotient, b + k * RADIX, p, inverse)  # fmt: skip
        for r in range(RADIX):
            _inverse_last(outer, x, target + r * outer * LANES, LANES, scratch, buffer + r * LANES, RADIX * LANES,
                          t.first, t.first_quotient, w, t.scale, t.scale_quotient, i, p, inverse)  # fmt: skip


def scratch_elements(n: int) -> int:
    """What a transform needs of scratch."""
    return n + PADDING + LANES * max(shape(n))


@compiled
def to_evaluation(counter, jobs, scratch, y, x, tile_stride, places, t):
    """Forward transforms.  places: int64 (jobs, 3), each where in y, where in x, and number of the prime in t."""
    job = take(counter)
    while job < jobs:
        forward(y, places[job, 0], x, places[job, 1], tile_stride, scratch.view(y.dtype), t, places[job, 2])
        job = take(counter)


@compiled
def to_coefficients(counter, jobs, scratch, x, y, tile_stride, places, t):
    """Inverse transforms.  places: int64 (jobs, 3), each where in x, where in y, and number of the prime in t."""
    job = take(counter)
    while job < jobs:
        backward(x, places[job, 0], tile_stride, y, places[job, 1], scratch.view(y.dtype), t, places[job, 2])
        job = take(counter)


# Tables -----------------------------------------------------------------------------------------------------------


class _PowersOf:
    """psi^e modulo p for arrays of exponents, as Python integers: of two small tables, since few of 2n powers are
    needed."""

    def __init__(self, psi: int, order: int, p: int) -> None:
        self.order, self.p = order, p
        self.low = np.array([pow(psi, e, p) for e in range(256)], object)
        self.high = np.array([pow(psi, 256 * e, p) for e in range(-(-order // 256))], object)

    def __call__(self, exponents: NDArray[np.int64]) -> NDArray:
        high, low = np.divmod(exponents % self.order, 256)
        return self.high[high] * self.low[low] % self.p


def _roots_of_prime(rows: int, columns: int, p: int, psi: int) -> dict[str, NDArray]:
    """One prime's part of the tables, as Python integers; psi: a primitive root of unity of order 2n."""
    outer, inner, n = rows // RADIX, columns // RADIX, rows * columns
    power, node = _PowersOf(psi, 2 * n, p), bit_reversed(n)  # psi^node[m + i] splits block i of m in OpenFHE's tree
    layers = [(m, i) for m in (1, 2, 4, 8) for i in range(m)]
    ms, places = np.array(layers).T
    block, lane = np.arange(RADIX)[:, None], np.arange(rows).reshape(-1, 1, LANES)
    first = node[[m + i for m, i in layers if m < outer]]
    blocks = node[outer * ms + np.arange(outer)[:, None] * ms + places]
    own = node[rows * ms[:, None] + lane * ms[:, None] + places[:, None]]
    twist = (2 * bit_reversed(rows).reshape(-1, 1, LANES) + 1) * np.arange(inner)[:, None]
    m, i = ms[ms < inner], places[ms < inner]
    last = node[rows * RADIX * m + block * m + i] - inner // (2 * m)  # of row 0, whose e is 1, after its twist
    return {
        "first": _padded(power(first)),
        "blocks": _padded(power(blocks)),
        "rows_own": np.concatenate([power(own), np.zeros((len(own), 1, LANES), object)], axis=1),
        "twist": power(twist),
        "last": _padded(power(last)),
    }


def _padded(values: NDArray) -> NDArray:
    """Rows of RADIX, filled up by zeros."""
    return np.concatenate([values, np.zeros((*values.shape[:-1], RADIX - values.shape[-1]), object)], axis=-1)


def make_tables(rows: int, columns: int, primes: Sequence[int], roots: Sequence[int], dtype: Any) -> Tables:
    """Tables of the transform with ``roots`` for psi, or of the inverse of the one whose roots are their inverses."""
    parts = [_roots_of_prime(rows, columns, p, psi) for p, psi in zip(primes, roots, strict=True)]
    fields: dict[str, Any] = {}
    for name in parts[0]:
        values = np.stack([part[name].reshape(-1) for part in parts])
        fields[name], fields[f"{name}_quotient"] = _with_quotients(values, primes, dtype)
    factors = np.array([pow(rows * columns, -1, p) for p in primes], object)
    fields["scale"], fields["scale_quotient"] = _with_quotients(factors, primes, dtype)
    moduli = np.array(primes, dtype)
    return Tables(rows=rows, columns=columns, modulus=moduli, inverse=1 / moduli.astype(np.float64), **fields)


def with_scales(tables: Tables, primes: Sequence[int], scales: Sequence[int]) -> Tables:
    """The inverse's tables with other factors, scales / n."""
    n = tables.rows * tables.columns
    factors = np.array([scale * pow(n, -1, p) % p for p, scale in zip(primes, scales, strict=True)], object)
    scale, quotient = _with_quotients(factors, primes, tables.modulus.dtype)
    return tables._replace(scale=scale, scale_quotient=quotient)


def some_primes(tables: Tables, first: int, end: int) -> Tables:
    """The tables of consecutive primes among several."""
    arrays = {name: getattr(tables, name)[first:end] for name in Tables._fields[2:]}
    return tables._replace(**arrays)


def _with_quotients(values: NDArray, primes: Sequence[int], dtype: Any) -> tuple[NDArray, NDArray]:
    """Factors as they are stored, and floor(2^64 w / p) beside them where the arithmetic wants it."""
    stored = aligned_copy(values.astype(dtype))
    if dtype == np.float64:
        return stored, stored
    moduli = np.array(primes, object).reshape((-1,) + (1,) * (values.ndim - 1))
    return stored, aligned_copy(((values << 64) // moduli).astype(dtype))
