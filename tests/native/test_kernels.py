"""Every kernel against Python's integers, on random values and at the ends of their ranges."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from rings import KINDS, primes, residues, ring, root_of_unity

from lowmem_resnet20.native.kernels import bases, ntt
from lowmem_resnet20.native.kernels.elementwise import MOST_PARTS
from lowmem_resnet20.native.kernels.memory import CACHE_LINE, aligned, aligned_copy
from lowmem_resnet20.native.kernels.order import ROWS, check_dimension
from lowmem_resnet20.native.kernels.polynomials import INTEGERS, Factor, factors, group
from lowmem_resnet20.native.kernels.residues import MOST_LARGE_TERMS, SMALL_LIMIT
from lowmem_resnet20.native.ring.ring import Ring

#: Lengths of small primes: as in shipped sets, and as long as they may be.
BITS = [28, 29]
#: Of what a word holds, in multiples of p.
ROOM = {np.uint32: 4, np.uint64: 16}


def stored(values, dtype):
    """Python integers as kernels take them."""
    return aligned_copy(values.astype(dtype))


def integers(array):
    """The reverse."""
    return array.astype(object)


def both(ring_):
    return ring_.mod_q, ring_.mod_p


def side(ring_, large):
    return ring_.mod_p if large else ring_.mod_q


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


def joined(halves):
    """Python integers (towers, N) of (2 towers, N) lower and upper halves."""
    return integers(halves[0::2]) + (integers(halves[1::2]) << 30)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("dimension", [1 << k for k in range(10, 17)])
@pytest.mark.parametrize("kind", KINDS)
def test_transform_is_its_definition_and_its_inverse_undoes_it(kind, dimension, large):
    ring_ = ring(dimension, 2, 1, bits=29)
    polynomials = side(ring_, large)
    towers = len(polynomials.primes)
    coefficients = residues(kind, polynomials.primes, dimension)
    x, out = stored(coefficients, polynomials.dtype), aligned(1, towers, dimension, dtype=polynomials.dtype)
    polynomials.to_evaluation(out, x[None])
    positions = [0, 1, dimension // 2 - 1, dimension - 1, *np.random.default_rng(1).integers(0, dimension, 4)]
    for t, (prime, root) in enumerate(zip(polynomials.primes, polynomials.roots, strict=True)):
        assert list(integers(out[0, t, ring_.order[positions]])) == evaluations(coefficients[t], prime, root, positions)
    back = aligned(1, towers * (2 if large else 1), dimension, dtype=np.uint32)
    polynomials.to_coefficients(back, out)
    assert ((joined(back[0]) if large else integers(back[0])) == coefficients).all()
    polynomials.to_evaluation(x[None], x[None])
    assert (x == out[0]).all()  # in place as well


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("bits", BITS)
def test_transform_takes_lazy_values_to_their_bound(bits, large):
    ring_ = ring(1 << 12, 2, 1, bits=bits)
    polynomials, n = side(ring_, large), ring_.dimension
    ends = [(0, ROOM[polynomials.dtype] * p - 1) for p in polynomials.primes]
    chosen = np.random.default_rng(2).integers(0, 2, n)
    lazy = np.array([[pair[i] for i in chosen] for pair in ends], object)
    moduli = np.array(polynomials.primes, object)[:, None]
    results = []
    for values in (lazy, lazy % moduli):
        out = aligned(1, len(ends), n, dtype=polynomials.dtype)
        polynomials.to_evaluation(out, stored(values, polynomials.dtype)[None])
        results.append(out)
    assert (results[0] == results[1]).all() and (integers(results[0][0]) < moduli).all()


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_transform_of_integers_of_either_sign(large):
    ring_ = ring(1 << 11, 2, 1, bits=29)
    polynomials, n = side(ring_, large), ring_.dimension
    values = np.random.default_rng(3).integers(-(1 << 62), 1 << 62, n)
    values[:6] = 0, 1, -1, (1 << 62) - 1, -(1 << 62) + 1, 1 << 32
    moduli = np.array(polynomials.primes, object)[:, None]
    out, expected = (aligned(1, len(moduli), n, dtype=polynomials.dtype) for _ in range(2))
    polynomials.to_evaluation(out, aligned_copy(values)[None, None], kind=INTEGERS)
    polynomials.to_evaluation(expected, stored(values.astype(object) % moduli, polynomials.dtype)[None])
    assert (out == expected).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("source", [0, 2])
def test_centred_residues_modulo_every_prime(source, bits):
    ring_ = ring(1 << 10, 3, 1, bits=bits)
    polynomials, n, prime = ring_.mod_q, ring_.dimension, ring_.q[source]
    values = residues("random", (prime,), n)[0]
    values[:6] = 0, 1, prime - 1, (prime - 1) // 2, (prime + 1) // 2, 2
    out, expected = (aligned(1, 3, n, dtype=np.uint32) for _ in range(2))
    polynomials.to_evaluation(out, stored(values, np.uint32)[None, None], kind=prime)
    centred = values - prime * (values > prime // 2)
    moduli = np.array(ring_.q, object)[:, None]
    polynomials.to_evaluation(expected, stored(centred % moduli, np.uint32)[None])
    assert (out == expected).all()


@pytest.mark.parametrize("kind", KINDS)
def test_differences_are_multiplied_and_reordered(kind):
    """What rescaling and ModDown do with a transform's result, and encoding with its order."""
    ring_ = ring(1 << 10, 3, 1, bits=29)
    polynomials, n = ring_.mod_q, ring_.dimension
    x, minuend = residues("random", ring_.q, n, 1), residues(kind, ring_.q, n, 2)
    constants, order = [q - 1 for q in ring_.q], np.random.default_rng(4).permutation(n).astype(np.uint32)
    plain, out = (aligned(1, 3, n, dtype=np.uint32) for _ in range(2))
    polynomials.to_evaluation(plain, stored(x, np.uint32)[None])
    options = {"minuend": stored(minuend, np.uint32)[None], "factors": polynomials.stored(constants), "order": order}
    polynomials.to_evaluation(out, stored(x, np.uint32)[None], **options)
    for t, q in enumerate(ring_.q):
        expected = (minuend[t] - integers(plain[0, t][order])) * constants[t] % q
        assert (integers(out[0, t]) == expected).all()


@pytest.mark.parametrize("dimension", [1 << 9, 1 << 17, 1000])
def test_other_dimensions_are_refused(dimension):
    with pytest.raises(ValueError, match="2\\^10 to 2\\^16"):
        check_dimension(dimension)


@pytest.mark.parametrize("g", [5, 25, 2 * 1024 - 1, 77])
def test_automorphism_is_the_substitution(g):
    ring_ = ring()
    n, q = ring_.dimension, ring_.q[0]
    coefficients = residues("random", (q,), n)[0]
    substituted = np.zeros(n, object)
    for i, coefficient in enumerate(coefficients):
        turns, place = divmod(i * g, n)
        substituted[place] = coefficient * (-1) ** turns % q
    out = aligned(2, 1, n, dtype=np.uint32)
    ring_.mod_q.to_evaluation(out, stored(np.array([[coefficients], [substituted]]), np.uint32))
    assert (out[0, 0][ring_.automorphism(g)] == out[1, 0]).all()


def longest_ring():
    """Digits of as many towers as sums take, of the longest primes, and the last one shorter."""
    return ring(1024, 17, 9, 15, bits=29)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [ring, longest_ring], ids=["short", "longest"])
def test_raised_digits_are_sums_of_cofactors(make, kind):
    ring_ = make()
    towers, n = len(ring_.q), ring_.dimension
    raising = ring_.raising(towers)
    y = residues(kind, ring_.q, n)
    sources = [stored(y[digit], np.uint32) for digit in raising.digits]
    for polynomials, constants, omitted in (
        (ring_.mod_q, raising.to_q, raising.own),
        (ring_.mod_p, raising.to_p, np.zeros((len(sources), len(ring_.p)), bool)),
    ):
        out = aligned(len(sources), len(polynomials.primes), n, dtype=polynomials.dtype)
        out[...] = 7
        polynomials.convert(out, sources, constants, omitted)
        for digit, towers_of in enumerate(raising.digits):
            own = range(towers)[towers_of]
            product = prod(ring_.q[t] for t in own)
            total = sum(y[t] * (product // ring_.q[t]) for t in own)
            for t, modulus in enumerate(polynomials.primes):
                got = integers(out[digit, t])
                if omitted[digit, t]:
                    assert (got == 7).all()
                else:
                    assert (got % modulus == total % modulus).all()
                    assert got.max() < (3 if polynomials is ring_.mod_q else 12) * modulus


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [ring, longest_ring], ids=["short", "longest"])
def test_lowered_residues_are_sums_of_cofactors(make, kind):
    ring_ = make()
    y = residues(kind, ring_.p, ring_.dimension)
    halves = np.array([half for row in y for half in (row & (2**30 - 1), row >> 30)], object)
    out = aligned(1, len(ring_.q), ring_.dimension, dtype=np.uint32)
    ring_.mod_q.convert(out, [stored(halves, np.uint32)], ring_.lowering(len(ring_.q)).to_q)
    product = prod(ring_.p)
    total = sum(y[j] * (product // p) for j, p in enumerate(ring_.p))
    for t, q in enumerate(ring_.q):
        got = integers(out[0, t])
        assert (got % q == total % q).all() and got.max() < 3 * q


def test_primes_out_of_bounds_are_refused():
    short = ring(1024, 17)
    with pytest.raises(ValueError, match="17 digits of 1 towers are too many"):
        Ring(1024, short.q, short.q_roots, short.p, short.p_roots, 1)
    with pytest.raises(ValueError, match="digits of 16 towers are too many"):
        Ring(1024, short.q, short.q_roots, short.p, short.p_roots, 16)
    long = next(p for p in primes(31, 1024, 1) if p > SMALL_LIMIT)
    with pytest.raises(ValueError, match="at most 30 bits, not 31"):
        Ring(1024, (long,), (root_of_unity(long, 1024),), (), (), 1)
    uneven = (primes(30, 1024, 1)[0], primes(27, 1024, 1)[0])
    with pytest.raises(ValueError, match="differ by more than two bits"):
        Ring(1024, uneven, tuple(root_of_unity(q, 1024) for q in uneven), (), (), 1)
    special = primes(59, 1024, 1)[0]
    with pytest.raises(ValueError, match="must have 60 bits, not 59"):
        Ring(1024, short.q, short.q_roots, (special,), (root_of_unity(special, 1024),), 2)


def spread(n, shift):
    """Where a factor of which one of 2^shift neighbouring vectors is kept has what each position meets."""
    return (np.arange(n) // ROWS >> shift) * ROWS + np.arange(n) % ROWS


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("shift", [0, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("automorphism", [1, 5])
@pytest.mark.parametrize("together", [1, 2])
def test_sums_of_products(kind, shift, large, automorphism, together):
    ring_ = ring(bits=29)
    polynomials, n = side(ring_, large), ring_.dimension
    counts = [3, 8, 9, 40]
    moduli = polynomials.primes
    xs = [residues(kind, moduli, n, seed) for seed in range(3)]
    ms = [residues(kind, moduli, n >> shift, 10 + seed) for seed in range(3)]
    kept_x = [stored(x, polynomials.dtype) for x in xs]
    kept_m = factors(np.stack([stored(m, polynomials.dtype) for m in ms]), shift)
    products = [
        [(kept_m[j % 3], group(*(kept_x[(j + k) % 3] for k in range(together)))) for j in range(count)]
        for count in counts
    ]
    if large and automorphism != 1:
        products, counts = products[:3], counts[:3]  # as many digits as there can be
    out = aligned(len(counts) * together, len(moduli), n, dtype=polynomials.dtype)
    polynomials.sum_of_products(out, products, ring_.permutation(automorphism))
    place = ring_.automorphism(automorphism)
    for i, count in enumerate(counts):
        for k in range(together):
            for t, modulus in enumerate(moduli):
                terms = (xs[(j + k) % 3][t] * ms[j % 3][t][spread(n, shift)] for j in range(count))
                assert (integers(out[i * together + k, t]) == (sum(terms) % modulus)[place]).all()


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [1, 2])
def test_sums_of_sums(kind, large, together):
    """Of as many parts as there may be, each under another automorphism; one has no products."""
    ring_, shift = ring(bits=29), 2
    polynomials, n, count = side(ring_, large), ring_.dimension, MOST_PARTS
    moduli = polynomials.primes
    xs, ms = ([residues(kind, moduli, n, first + seed) for seed in range(3)] for first in (0, 10))
    outer = [residues(kind, moduli, n >> shift, 20 + seed) for seed in range(3)]
    kept_x, kept_m = ([stored(x, polynomials.dtype) for x in each] for each in (xs, ms))
    kept_outer = factors(np.stack([stored(m, polynomials.dtype) for m in outer]), shift)
    terms = [i % 4 for i in range(count)]
    parts = [
        [(kept_m[j], group(*(kept_x[(i + j + k) % 3] for k in range(together)))) for j in range(terms[i])]
        for i in range(count)
    ]
    indices = [pow(5, i, 2 * n) for i in range(count)]
    places = [range(0, count, 2), range(1, count, 2), [3, 3, 3]]
    out = aligned(len(places) * together, len(moduli), n, dtype=polynomials.dtype)
    permutations = np.stack([ring_.automorphism(index) for index in indices])
    products = [[(kept_outer[i % 3], i) for i in row] for row in places]
    polynomials.sum_of_sums(out, parts, permutations, products)
    for t, modulus in enumerate(moduli):
        for k in range(together):
            sums = [
                sum((xs[(i + j + k) % 3][t] * ms[j][t] for j in range(terms[i])), np.zeros(n, object))
                for i in range(count)
            ]
            moved = [total[ring_.automorphism(index)] for total, index in zip(sums, indices, strict=True)]
            for i, row in enumerate(places):
                expected = sum(moved[part] * outer[part % 3][t][spread(n, shift)] for part in row) % modulus
                assert (integers(out[i * together + k, t]) == expected).all()


def test_more_parts_than_can_be_kept_are_refused():
    ring_ = ring()
    polynomials, out = ring_.mod_p, aligned(1, 3, 1024, dtype=np.uint64)
    permutations = np.stack([ring_.automorphism(1)] * (MOST_PARTS + 1))
    with pytest.raises(ValueError, match="16 parts, are too many"):
        polynomials.sum_of_sums(out, [[]] * (MOST_PARTS + 1), permutations, [[(polynomials.ones, 0)]])
    with pytest.raises(ValueError, match="16 products"):
        polynomials.sum_of_sums(out, [[]], permutations[:1], [[(polynomials.ones, 0)] * 16])


def test_sums_of_many_terms():
    """Sums of any length are settled in time."""
    ring_, count = ring(bits=29), 1000
    for polynomials in both(ring_):
        x = stored(residues("largest", polynomials.primes, 1024), polynomials.dtype)
        out = aligned(1, len(polynomials.primes), 1024, dtype=polynomials.dtype)
        polynomials.sum_of_products(out, [[(x, x[None])] * count])
        assert (out == count).all()


def test_sums_of_many_terms_modulo_special_primes_are_not_made_together_with_others():
    """They are several calls, one after the other."""
    polynomials = ring().mod_p
    x, out = aligned(3, 1024, dtype=np.uint64), aligned(1, 3, 1024, dtype=np.uint64)
    with pytest.raises(ValueError, match="step by step"), polynomials.workers.together():
        polynomials.sum_of_products(out, [[(x, x[None])] * (MOST_LARGE_TERMS + 1)])


def test_a_sum_may_take_the_place_of_a_term():
    ring_ = ring()
    for polynomials in both(ring_):
        values = residues("random", polynomials.primes, 1024)
        x = stored(values, polynomials.dtype)
        polynomials.sum_of_products(x[None], [[(polynomials.whole(3, len(x)), x[None]), (x, group(polynomials.ones))]])
        assert (integers(x) == 4 * values % np.array(polynomials.primes, object)[:, None]).all()


def test_constants_differ_by_half_and_towers_may_lie_anywhere():
    ring_ = ring(bits=29)
    for polynomials in both(ring_):
        moduli, n = polynomials.primes, ring_.dimension
        towers = len(moduli)
        values = residues("random", moduli, 2, 5)
        x = residues("random", moduli, n)
        kept = [stored(row, polynomials.dtype) for row in x]
        scattered = Factor(np.array([row.ctypes.data for row in kept]), 0, kept)
        out = aligned(1, towers, n, dtype=polynomials.dtype)
        polynomials.sum_of_products(out, [[(polynomials.constant(values), group(scattered))]])
        half = np.arange(n) * 2 // n
        for t, modulus in enumerate(moduli):
            assert (integers(out[0, t]) == x[t] * values[t][half] % modulus).all()


def test_arrays_start_on_cache_lines():
    assert all(
        aligned(3, 5, dtype=dtype).ctypes.data % CACHE_LINE == 0 for dtype in (np.uint8, np.uint32) for _ in range(9)
    )


def test_conversion_factors_are_as_many_as_sources():
    table = bases.factors([(3, 5), (7,)], (11, 13), np.uint64)
    assert table.tolist() == [[[5, 3], [5, 3]], [[1, 0], [1, 0]]]
