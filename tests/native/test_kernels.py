"""Every kernel against Python's integers, on random values and at the ends of their ranges."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from rings import KINDS, primes, residues, ring, root_of_unity

from lowmem_resnet20.native import bases, elementwise, ntt
from lowmem_resnet20.native.memory import CACHE_LINE, aligned, aligned_copy
from lowmem_resnet20.native.residues import SMALL_LIMIT
from lowmem_resnet20.native.ring import Ring


def in_tiles(ring_, coefficients, dtype):
    """(towers, N) Python integers, in tiles (tiles, towers, stride)."""
    tiles = ring_.coefficients(len(coefficients), dtype=dtype)
    tiles[...] = 0
    flat = tiles.reshape(ring_.tiles, len(coefficients), ring_.tile_stride)
    tile, place = np.divmod(ring_.tile_order, ring_.tile_stride)
    for t, row in enumerate(coefficients):
        flat[tile, t, place] = row.astype(dtype)
    return tiles


def from_tiles(ring_, tiles, polynomial=()):
    """The reverse: object (towers, N)."""
    tile, place = np.divmod(ring_.tile_order, ring_.tile_stride)
    rows = tiles[polynomial][tile, :, place].T
    return np.array([[int(value) for value in row] for row in rows], object)


def evaluations(coefficients, prime, psi, positions):
    """The polynomial at psi^(2 bitrev(i) + 1), by Horner's rule."""
    reversed_ = ntt.bit_reversed(len(coefficients))
    values = []
    for i in positions:
        point, value = pow(psi, int(2 * reversed_[i] + 1), prime), 0
        for coefficient in coefficients[::-1]:
            value = (value * point + coefficient) % prime
        values.append(value)
    return values


def transforms(ring_, large):
    return (ring_.forward_p, ring_.inverse_p, ring_.p, ring_.p_roots) if large else (
        ring_.forward_q, ring_.inverse_q, ring_.q, ring_.q_roots)  # fmt: skip


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("dimension", [1 << 10, 1 << 11, 1 << 12, 1 << 13])
@pytest.mark.parametrize("kind", KINDS)
def test_transform_is_its_definition_and_its_inverse_undoes_it(kind, dimension, large):
    ring_ = ring(dimension, 2, 1)
    forward, inverse, moduli, roots = transforms(ring_, large)
    dtype, towers = (np.uint64, 1) if large else (np.float64, 2)
    coefficients = residues(kind, moduli, dimension)
    tiles, out = in_tiles(ring_, coefficients, dtype), aligned(towers, dimension, dtype=dtype)
    places = np.array([(t * dimension, t * ring_.tile_stride, t) for t in range(towers)])
    ring_.workers.run(
        ntt.to_evaluation, towers, out.reshape(-1), tiles.reshape(-1), towers * ring_.tile_stride, places, forward
    )
    positions = [0, 1, dimension // 2 - 1, dimension - 1, *np.random.default_rng(1).integers(0, dimension, 4)]
    for t in range(towers):
        assert list(map(int, out[t, ring_.order[positions]])) == evaluations(
            coefficients[t], moduli[t], roots[t], positions
        )
    back = in_tiles(ring_, np.zeros((towers, dimension), object), dtype)
    places = places[:, [1, 0, 2]].copy()
    ring_.workers.run(
        ntt.to_coefficients, towers, back.reshape(-1), out.reshape(-1), towers * ring_.tile_stride, places, inverse
    )
    assert (back == tiles).all()


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_transform_takes_lazy_values_to_their_bound(large):
    ring_ = ring(1 << 12, 2, 1)
    forward, _, moduli, _ = transforms(ring_, large)
    dtype, n = (np.uint64 if large else np.float64), ring_.dimension
    ends = (0, 16 * moduli[0] - 1) if large else (-(1 << 40), 1 << 40)
    lazy = np.array([[ends[i] for i in np.random.default_rng(2).integers(0, 2, n)]], object)
    results = []
    for values in (lazy, lazy % moduli[0]):
        tiles, out = in_tiles(ring_, values, dtype), aligned(n, dtype=dtype)
        places = np.array([(0, 0, 0)])
        ring_.workers.run(ntt.to_evaluation, 1, out, tiles.reshape(-1), ring_.tile_stride, places, forward)
        results.append(out)
    assert (results[0] == results[1]).all() and results[0].max() < moduli[0]


@pytest.mark.parametrize("dimension", [1 << 9, 1 << 17, 1000])
def test_other_dimensions_are_refused(dimension):
    with pytest.raises(ValueError, match="2\\^10 to 2\\^16"):
        ntt.shape(dimension)


@pytest.mark.parametrize("g", [5, 25, 2 * 1024 - 1, 77])
def test_automorphism_is_the_substitution(g):
    ring_ = ring()
    n, q = ring_.dimension, ring_.q[0]
    coefficients = residues("random", (q,), n)[0]
    substituted = np.zeros(n, object)
    for i, coefficient in enumerate(coefficients):
        turns, place = divmod(i * g, n)
        substituted[place] = coefficient * (-1) ** turns % q
    values = []
    for polynomial in (coefficients, substituted):
        tiles, out = in_tiles(ring_, polynomial[None], np.float64), aligned(n)
        ring_.workers.run(
            ntt.to_evaluation, 1, out, tiles.reshape(-1), ring_.tile_stride, np.array([(0, 0, 0)]), ring_.forward_q
        )
        values.append(out)
    assert (values[0][ring_.automorphism(g)] == values[1]).all()


def longest_ring():
    """Digits of 15 towers, the longest that real sets come near, and the last one shorter."""
    return ring(1024, 17, 9, 15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [ring, longest_ring], ids=["short", "longest"])
def test_raised_digits_are_sums_of_cofactors(make, kind):
    ring_ = make()
    raising, n, alpha = ring_.raising(len(ring_.q)), ring_.dimension, ring_.digit_towers
    towers, k = len(ring_.q), len(ring_.p)
    y = residues(kind, ring_.q, n)
    small = aligned(raising.digits, ring_.tiles, towers, ring_.tile_stride)
    large = aligned(raising.digits, ring_.tiles, k, ring_.tile_stride, dtype=np.uint64)
    small[...] = 0  # towers inside a digit stay so
    layout = (raising.digits, towers, alpha, k, ring_.tiles, ring_.tile_stride, ring_.tile_size)
    ring_.workers.run(bases.mod_up, raising.digits * ring_.tiles, small.reshape(-1),
                      large.reshape(-1), in_tiles(ring_, y, np.float64).reshape(-1), layout,
                      raising.parts.reshape(-1), raising.large_parts.reshape(-1), *ring_.half_shift,
                      ring_.forward_q, ring_.forward_p)  # fmt: skip
    for digit in range(raising.digits):
        own = range(digit * alpha, min(towers, (digit + 1) * alpha))
        product = prod(ring_.q[t] for t in own)
        total = sum(y[t] * (product // ring_.q[t]) for t in own)
        got, got_large = from_tiles(ring_, small, digit), from_tiles(ring_, large, digit)
        for t, q in enumerate(ring_.q):
            if t not in own:
                assert (got[t] % q == total % q).all() and max(abs(got[t])) <= q // 2 + 1
        for j, p in enumerate(ring_.p):
            assert (got_large[j] % p == total % p).all() and max(got_large[j]) < 5 * p


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [ring, longest_ring], ids=["short", "longest"])
def test_lowered_residues_are_sums_of_cofactors(make, kind):
    ring_ = make()
    towers, k = len(ring_.q), len(ring_.p)
    y = residues(kind, ring_.p, ring_.dimension)
    out = aligned(1, ring_.tiles, towers, ring_.tile_stride)
    layout = (towers, k, ring_.tile_stride, ring_.tile_size)
    ring_.workers.run(bases.mod_down, ring_.tiles, out.reshape(-1), in_tiles(ring_, y,
                      np.uint64).reshape(-1), layout, ring_.lowering.parts.reshape(-1), ring_.forward_q)  # fmt: skip
    product = prod(ring_.p)
    total = sum(y[j] * (product // p) for j, p in enumerate(ring_.p))
    got = from_tiles(ring_, out, 0)
    for t, q in enumerate(ring_.q):
        assert (got[t] % q == total % q).all() and max(abs(got[t])) < 2 * q


def test_primes_too_many_or_too_long_for_exact_sums_are_refused():
    sources = primes(37, 1024, 40)
    with pytest.raises(ValueError, match="too many primes"):
        bases.small_to_small_parts(sources * 4, primes(36, 1024, 1)[0])
    with pytest.raises(ValueError, match="too many primes"):
        bases.small_to_large_parts(sources[:16], primes(60, 1024, 1)[0])
    with pytest.raises(ValueError, match="too many primes"):
        bases.large_to_small_parts(primes(60, 1024, 40), sources[0])
    long = next(p for p in primes(38, 1024, 1) if p > SMALL_LIMIT)
    short = ring(1024, 17)
    with pytest.raises(ValueError, match="17 digits"):
        Ring(1024, short.q, short.q_roots, short.p, short.p_roots, 1)
    with pytest.raises(ValueError, match="at most 37 bits"):
        Ring(1024, (long,), (root_of_unity(long, 1024),), (), (), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_centred_residues(kind):
    ring_ = ring()
    q = ring_.q[0]
    values = residues(kind, (q,), 1024)[0]
    values[:2] = (q - 1) // 2, (q + 1) // 2
    x = aligned_copy(values.astype(float))
    ring_.workers.run(bases.centre, 2, x, 512, float(q), 1 / float(q))
    assert [int(v) for v in x] == [v - q if v > q // 2 else v for v in values]


def addresses(arrays):
    return np.array([[array.ctypes.data for array in row] for row in arrays])


def in_planes(values):
    """As plaintexts are kept modulo small primes."""
    integers = values.astype(np.uint64)
    return aligned_copy((integers & 0xFFFFFFFF).astype(np.uint32)), aligned_copy((integers >> 32).astype(np.uint8))


@pytest.mark.parametrize(
    ("large", "shift"),
    [(False, None), (False, 0), (False, 2), (True, 0), (True, 2)],
    ids=["small", "small plaintexts", "short small plaintexts", "large plaintexts", "short large plaintexts"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_products(kind, shift, large):
    ring_ = ring()
    _, _, moduli, _ = transforms(ring_, large)
    tables, dtype = (ring_.forward_p, np.uint64) if large else (ring_.forward_q, np.float64)
    n, counts, plaintexts = ring_.dimension, [3, 40], shift is not None
    shift = shift or 0
    xs = [residues(kind, moduli, n, seed) for seed in range(3)]
    ms = [residues(kind, moduli, n >> shift, 10 + seed) for seed in range(3)]
    kept_x = [aligned_copy(v.astype(dtype)) for v in xs]
    kept_m = [in_planes(m) if plaintexts and not large else (aligned_copy(m.astype(dtype)),) for m in ms]
    kernel = elementwise.large_sums if large else elementwise.small_sums
    if len(kept_m[0]) == 2:
        kernel = elementwise.small_plaintext_sums
    terms = [[j % 3 for j in range(40)] for _ in counts]
    out = aligned(2, len(moduli), n, dtype=dtype)
    factors = [addresses([[planes[j] for j in row] for row in terms]) for planes in zip(*kept_m, strict=True)]
    shifts = [shift] if plaintexts else []
    ring_.workers.run(kernel, len(moduli) * (n // elementwise.PIECE), out.reshape(-1),
                      addresses([[kept_x[j] for j in row] for row in terms]), *factors, np.array(counts), n, *shifts,
                      tables.modulus, tables.inverse)  # fmt: skip
    spread = (np.arange(n) // 8 >> shift) * 8 + np.arange(n) % 8
    for i, count in enumerate(counts):
        for t, modulus in enumerate(moduli):
            expected = sum(xs[terms[i][j]][t] * ms[terms[i][j]][t][spread] for j in range(count)) % modulus
            assert [int(v) for v in out[i, t]] == list(expected)


def test_longest_sum_of_small_products():
    ring_, count = ring(), 1 << 12
    x = aligned_copy(residues("largest", ring_.q, 1024).astype(float))
    out = aligned(1, len(ring_.q), 1024)
    ring_.workers.run(elementwise.small_sums, len(ring_.q), out.reshape(-1), addresses([[x] * count]),
                      addresses([[x] * count]), np.array([count]), 1024, ring_.forward_q.modulus,
                      ring_.forward_q.inverse)  # fmt: skip
    assert (out == count).all()


@pytest.mark.parametrize("kind", KINDS)
def test_combinations_and_constants_differ_by_half(kind):
    ring_ = ring()
    n, towers = ring_.dimension, len(ring_.q)
    x = residues(kind, ring_.q, n)
    factors = residues(kind, ring_.q, 2, 5).reshape(towers, 1, 2)
    kept, tables = aligned_copy(x.astype(float)), ring_.forward_q
    out, added = aligned(1, towers, n), aligned(towers, n)
    ring_.workers.run(elementwise.small_combinations, towers, out.reshape(-1), addresses([[kept, kept]]),
                      np.repeat(factors, 2, axis=1).astype(float), n, tables.modulus, tables.inverse)  # fmt: skip
    ring_.workers.run(elementwise.add_constants, towers, added.reshape(-1), kept.reshape(-1),
                      factors.reshape(-1).astype(float), n, tables.modulus, tables.inverse)  # fmt: skip
    half = np.arange(n) * 2 // n
    for t, q in enumerate(ring_.q):
        assert [int(v) for v in out[0, t]] == list(2 * x[t] * factors[t, 0][half] % q)
        assert [int(v) for v in added[t]] == list((x[t] + factors[t, 0][half]) % q)


@pytest.mark.parametrize("automorphism", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_with_a_key(kind, automorphism):
    """At 3 of 5 towers, whose second digit is short, with a key that is longer."""
    ring_ = ring()
    n, towers, alpha, k = ring_.dimension, 3, ring_.digit_towers, len(ring_.p)
    own = residues(kind, ring_.q[:towers], n)
    digits = [residues(kind, ring_.q[:towers], n, 20 + g) for g in range(2)]
    large = [residues(kind, ring_.p, n, 30 + g) for g in range(2)]
    key = [[residues(kind, ring_.q, n, 40 + 3 * h + g) for g in range(3)] for h in range(2)]
    special = [[residues(kind, ring_.p, n, 50 + 3 * h + g) for g in range(3)] for h in range(2)]
    planes = np.array(key).astype(np.uint64)
    low, high = aligned_copy(planes & np.uint64(0xFFFFFFFF), np.uint32), aligned_copy(planes >> np.uint64(32), np.uint8)
    out, out_large = aligned(2, towers, n), aligned(2, k, n, dtype=np.uint64)
    permutation = ring_.permutation(automorphism)
    place = permutation if automorphism != 1 else np.arange(n)
    pieces, q, p = n // elementwise.PIECE, ring_.forward_q, ring_.forward_p
    ring_.workers.run(elementwise.small_key_sums, towers * pieces, out.reshape(-1),
                      aligned_copy(own.astype(float)).reshape(-1),
                      aligned_copy(np.array(digits).astype(float)).reshape(-1), alpha, n, towers, 2,
                      low.reshape(-1), high.reshape(-1), (3, 5),
                      aligned_copy(own.astype(float)).reshape(-1), ring_.lowering.p, permutation, q.modulus,
                      q.inverse)  # fmt: skip
    ring_.workers.run(elementwise.large_key_sums, k * pieces, out_large.reshape(-1),
                      aligned_copy(np.array(large).astype(np.uint64)).reshape(-1), n, k, 2,
                      aligned_copy(np.array(special).astype(np.uint64)).reshape(-1), (3, 5),
                      aligned_copy(large[1].astype(np.uint64)).reshape(-1), permutation, p.modulus,
                      p.inverse)  # fmt: skip
    for h in range(2):
        for t in range(towers):
            total = sum((own if t // alpha == g else digits[g])[t][place] * key[h][g][t] for g in range(2))
            total = total + (own[t][place] * prod(ring_.p) if h == 0 else 0)
            assert [int(v) % ring_.q[t] for v in out[h, t]] == list(total % ring_.q[t])
            assert abs(out[h, t]).max() < 3 * (0.5 + 1 / 128) * ring_.q[t]
        for j in range(k):
            total = sum(large[g][j][place] * special[h][g][j] for g in range(2))
            total = total + (large[1][j][place] if h == 0 else 0)
            assert [int(v) for v in out_large[h, j]] == list(total % ring_.p[j])


@pytest.mark.parametrize("kind", KINDS)
def test_sums_modulo_special_primes(kind):
    ring_ = ring()
    x = residues(kind, ring_.p, 1024)
    kept, out = aligned_copy(x.astype(np.uint64)), aligned(1, len(ring_.p), 1024, dtype=np.uint64)
    ring_.workers.run(elementwise.large_additions, len(ring_.p), out.reshape(-1), addresses([[kept] * 5]), 1024,
                      ring_.forward_p.modulus, ring_.forward_p.inverse)  # fmt: skip
    for j, p in enumerate(ring_.p):
        assert [int(v) for v in out[0, j]] == list(5 * x[j] % p)


def test_arrays_start_on_cache_lines():
    assert all(
        aligned(3, 5, dtype=dtype).ctypes.data % CACHE_LINE == 0 for dtype in (np.uint8, np.float64) for _ in range(9)
    )
