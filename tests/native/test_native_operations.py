"""Operations on ciphertexts: equal to OpenFHE's residue for residue; where its binding does not show them, within
noise in the worst slot."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from types import SimpleNamespace

import numpy as np
import pytest
from compared import compared
from smallring import serialised

from lowmem_resnet20.errors import PlanError
from lowmem_resnet20.native.kernels import bases
from lowmem_resnet20.native.kernels.memory import aligned
from lowmem_resnet20.native.refresh import exponential
from lowmem_resnet20.native.refresh.transforms import SlotTransform
from lowmem_resnet20.native.ring.ciphertext import Ciphertext, NativeArithmetic
from lowmem_resnet20.native.ring.encoding import Encoder
from lowmem_resnet20.native.ring.ring import Ring

DEPTH, SLOTS = 10, 256
#: 11 towers: digits of 6 and 5, and of 4, 4 and 3, on rings whose rows and columns are as many or not.
RINGS = {"two digits": (10, 2), "three digits": (11, 3)}
NOISE = 4e-4
#: By digits, at how many towers some of the special primes are left out.
FEWER = {2: range(1, 5), 3: range(1, 4)}


@pytest.fixture(scope="module", params=RINGS)
def both(request, tmp_path_factory):
    log2_dimension, digits = RINGS[request.param]
    return compared(tmp_path_factory.mktemp("keys"), log2_dimension=log2_dimension, depth=DEPTH, digits=digits)


@pytest.fixture
def values():
    random = np.random.default_rng(0)
    return lambda n=SLOTS: random.uniform(-1, 1, n)


@pytest.mark.parametrize("towers", range(1, DEPTH + 2))
def test_rotations_and_products_equal_openfhes_at_any_number_of_towers(both, values, towers):
    a = both.context.Compress(both.encrypt(values()), towers)
    x = both.imported(a)
    (rotated,) = both.native.rotate(x, [2])
    assert both.same(both.context.EvalRotate(a, 2), rotated) and rotated.scale == x.scale
    product = both.context.EvalMult(a, a)
    squared = both.native.sum_of_products([(x, x)])
    assert both.same(product, squared) and squared.scale == product.GetScalingFactor()


@pytest.mark.parametrize("towers", range(1, DEPTH + 2))
def test_results_of_divided_keys_are_openfhes_within_noise(both, values, towers):
    """And the same where towers need all special primes."""
    native, shipped = both.native, NativeArithmetic(both.chain, both.native.keys, 1)
    x, vectors = native.drop(both.imported(both.encrypt(values())), towers), [values() for _ in range(3)]
    transform = SlotTransform((0, 1), (0, 8), dict(zip([(0, 0), (0, 1), (1, 1)], vectors, strict=True)))

    def results(ev) -> list[Ciphertext]:
        moved = [*ev.rotate(x, [1, 8]), ev.add_conjugate(x)]
        if towers == 1:
            return moved
        scale = x.scale * ev.moduli[towers - 1]
        return [*moved, ev.sum_of_products([(x, x)], rescaled=True), ev.transform(x, transform, scale, rescaled=True)]

    divided = towers in FEWER[both.chain.digits]
    assert (len(shipped.ring.special(towers)) < len(shipped.ring.p)) == divided
    for found, expected in zip(results(shipped), results(native), strict=True):
        assert np.abs(both.decrypted(found) - both.decrypted(expected)).max() < NOISE
        assert divided or (both.native_residues(found) == both.native_residues(expected)).all()


def test_towers_that_are_dropped_do_not_count(both, values):
    a = both.encrypt(values())
    x = both.native.drop(both.imported(a), 5)
    assert both.same(both.context.EvalRotate(both.context.Compress(a, 5), -3), both.native.rotate(x, [-3])[0])
    y = both.imported(both.encrypt(values()))
    assert both.native.add(y, x).towers == 5
    with pytest.raises(PlanError, match="5 towers cannot be dropped to 6"):
        both.native.drop(x, 6)


def test_hoisted_rotations_equal_openfhes(both, values):
    a = both.encrypt(values())
    digits = both.context.EvalFastRotationPrecompute(a)
    x = both.imported(a)
    rotated = both.native.rotate(x, [1, 0, 8, -3, 1])
    assert rotated[1] is x
    order = 2 * both.chain.dimension
    for step, result in zip((1, 8, -3, 1), (rotated[0], *rotated[2:]), strict=True):
        assert both.same(both.context.EvalFastRotation(a, step, order, digits), result)


def test_rescaled_products_equal_openfhes(both, values):
    a, b = both.encrypt(values()), both.encrypt(values())
    product = both.native.rescale(both.native.sum_of_products([(both.imported(a), both.imported(b))]))
    theirs = both.context.EvalMult(a, b)
    for _ in range(DEPTH - 1):  # each multiplication rescales its operands first
        theirs = both.context.EvalMult(theirs, theirs)
        squared = both.native.sum_of_products([(product, product)])
        assert both.same(theirs, squared) and squared.scale == pytest.approx(theirs.GetScalingFactor(), rel=1e-12)
        product = both.native.rescale(squared)
    assert product.towers == 1
    with pytest.raises(PlanError, match="no tower is left"):
        both.native.rescale(product)


def test_sums_equal_openfhes(both, values):
    a, b = both.encrypt(values()), both.encrypt(values())
    x, y = both.imported(a), both.imported(b)
    assert both.same(both.context.EvalAdd(a, b), both.native.add(x, y))
    assert both.same(both.context.EvalSub(a, b), both.native.combination([x, y], [1, -1], x.scale))
    with pytest.raises(PlanError, match="are added"):
        both.native.add(x, replace(y, scale=y.scale * 1.001))


@pytest.mark.parametrize("slots", [1, 8, SLOTS, None])
@pytest.mark.parametrize("level", [0, 7])
def test_plaintexts_equal_openfhes(both, values, slots, level):
    slots = slots or both.chain.dimension // 2
    vector, a = values(slots), both.encrypt(values(), level)
    plaintext = both.context.MakeCKKSPackedPlaintext(vector, 1, level, None, slots)
    x = both.imported(a)
    product = both.native.weighted_sum([x], lambda _: vector, x.scale**2)
    assert both.same(both.context.EvalMult(a, plaintext), product)
    assert both.same(both.context.EvalAdd(a, plaintext), both.native.add_vector(x, vector))


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """A ring in which plaintexts of few slots are kept in part."""
    return compared(tmp_path_factory.mktemp("keys"), log2_dimension=12, depth=2, digits=1, steps=(1,))


@pytest.mark.parametrize(("slots", "shift"), [(2048, 0), (1024, 1), (512, 2), (256, 2)])
def test_plaintexts_equal_openfhes_in_whichever_part_of_the_ring(wider, values, slots, shift):
    vector, a = values(slots), wider.encrypt(values())
    plaintext = wider.context.MakeCKKSPackedPlaintext(vector, 1, 0, None, slots)
    assert wider.same(wider.context.EvalAdd(a, plaintext), wider.native.add_vector(wider.imported(a), vector))
    assert wider.native._encoder._subring(slots).shift == shift


def test_weighted_sums_equal_openfhes(both, values):
    encrypted, vectors = [both.encrypt(values()) for _ in range(3)], [values() for _ in range(20)]
    total = None
    for j, vector in enumerate(vectors):
        plaintext = both.context.MakeCKKSPackedPlaintext(vector, 1, 0, None, SLOTS)
        term = both.context.EvalMult(encrypted[j % 3], plaintext)
        total = term if total is None else both.context.EvalAdd(total, term)
    xs = [both.imported(a) for a in encrypted]
    native = both.native.weighted_sum([xs[j % 3] for j in range(20)], lambda j: vectors[j], xs[0].scale ** 2)
    assert both.same(total, native)


def test_a_sum_of_products_is_relinearised_once(both, values):
    a, b, c = values(), values(), values()
    x, y, z = (both.imported(both.encrypt(v)) for v in (a, b, c))
    total = both.native.rescale(both.native.sum_of_products([(x, y), (z, z), (y, z)]))
    assert np.abs(both.decrypted(total) - (a * b + c * c + b * c)).max() < NOISE


def test_constants_and_complex_vectors(both, values):
    a, b, complex_ = values(), values(), values() + 1j * values()
    native = both.native
    x, y = both.imported(both.encrypt(a)), native.drop(both.imported(both.encrypt(b)), 7)
    scale = x.scale * native.moduli[6]
    combined = native.rescale(native.combination([x, y], [0.5 - 2j, 0.25j], scale))
    assert np.abs(both.decrypted(combined) - ((0.5 - 2j) * a + 0.25j * b)).max() < NOISE
    assert np.abs(both.decrypted(native.add_constant(x, -1.5 + 1j)) - (a - 1.5 + 1j)).max() < NOISE
    turned = native.rescale(native.weighted_sum([x], lambda _: complex_, x.scale * native.moduli[10]))
    assert np.abs(both.decrypted(turned) - complex_ * a).max() < NOISE
    assert np.abs(both.decrypted(native.add_conjugate(turned)) - 2 * (complex_ * a).real).max() < NOISE


def test_transforms_hoisted_twice(both, values):
    a, native = values(), both.native
    x = native.drop(both.imported(both.encrypt(a)), 8)
    babies, giants = (0, 1, 2, 3), (0, 8, 16, -3)
    present = [(i, j) for i in range(4) for j in range(4) if (i, j) != (2, 1)]
    vectors = {place: values() + 1j * values() for place in present}
    expected = sum(np.roll(vectors[i, j] * np.roll(a, -babies[j]), -giants[i]) for i, j in present)
    result = native.transform(x, SlotTransform(babies, giants, vectors), x.scale * native.moduli[7])
    assert (result.towers, result.scale) == (8, x.scale * native.moduli[7])
    assert np.abs(both.decrypted(native.rescale(result)) - expected).max() < NOISE


@pytest.mark.parametrize("towers", [2, 5, DEPTH + 1])
def test_what_a_key_switch_does_besides_is_what_steps_of_their_own_do(both, values, towers):
    """Residue for residue: it adds, and it rescales."""
    native = both.native
    x, y = (native.drop(both.imported(both.encrypt(values())), towers) for _ in range(2))
    z = native.drop(both.imported(both.encrypt(values())), towers - 1)
    transform = SlotTransform((0, 1), (0, 8), {(0, 0): values(), (0, 1): values(), (1, 1): values()})
    pairs, linear, scale = [(x, y), (x, x)], [(x, 0.5 - 2j), (y, 3)], x.scale * y.scale
    sums = native.add(native.sum_of_products(pairs), native.combination([x, y], [c for _, c in linear], scale))
    steps = [
        (native.add_constant(sums, 1 - 2j), lambda **how: native.sum_of_products(pairs, linear, 1 - 2j, **how)),
        (native.add(y, native.rotate(x, [2])[0]), lambda **how: native.add_rotated(y, x, 2, **how)),
        (native.add_conjugate(x), lambda **how: native.add_conjugate(x, **how)),
        (native.transform(x, transform, scale), lambda **how: native.transform(x, transform, scale, **how)),
    ]
    for expected, operation in steps:
        for rescaled, result in ((expected, operation()), (native.rescale(expected), operation(rescaled=True))):
            assert (result.towers, result.scale, result.slots) == (rescaled.towers, rescaled.scale, rescaled.slots)
            assert (both.native_residues(result) == both.native_residues(rescaled)).all()
    assert native.sum_of_products(pairs, [(z, 1)]).towers == native.add_rotated(z, x, 2).towers == towers - 1
    with pytest.raises(PlanError, match="a rotation by no step"):
        native.add_rotated(x, y, both.chain.dimension // 2)
    with pytest.raises(PlanError, match="no tower is left"):
        native.add_conjugate(native.drop(x, 1), rescaled=True)


def secret_residues(both, prime):
    """(N,) the dense secret modulo a prime, in OpenFHE's order: found in what OpenFHE writes by the numbers around
    it."""
    data, n = serialised(both.pair.secretKey), both.chain.dimension
    end = data.index(prime.to_bytes(8, "little"), 8 * n)
    while True:
        for gap in (0, 4):  # a class's version may come between
            start = end - gap - 8 * n
            found = np.frombuffer(data, "<u8", n, start) if start > 8 else np.array([prime])
            if found.max() < prime and data[start - 8 : start] == n.to_bytes(8, "little"):
                return found
        end = data.index(prime.to_bytes(8, "little"), end + 1)


def phase(both, x, towers):
    """(N,) Python integers: the coefficients of c0 + c1 s, centred modulo so many primes."""
    ring, total, product = both.native.ring, 0, prod(both.native.ring.q[:towers])
    secret = ring.from_openfhe(np.array([secret_residues(both, q) for q in ring.q[:towers]]))
    terms, coefficients = (
        np.empty((1, towers, ring.dimension), np.uint32),
        aligned(1, towers, ring.dimension, dtype=np.uint32),
    )
    for t, q in enumerate(ring.q[:towers]):
        c0, c1, s = (row.astype(object) for row in (x.residues[0, t], x.residues[1, t], secret[t]))
        terms[0, t] = (c0 + c1 * s) % q
    ring.mod_q.to_coefficients(coefficients, terms)
    for t, (q, inverse) in enumerate(zip(ring.q[:towers], bases.cofactor_inverses(ring.q[:towers]), strict=True)):
        total = total + coefficients[0, t].astype(object) * inverse % q * (product // q)
    return (total + product // 2) % product - product // 2


def test_the_raise_keeps_the_message_and_adds_multiples_as_foreseen(both, values):
    """Coefficients are counted: their deviation is that of 193 uniforms, and as many are beyond each bound as the
    formula says that decides the plan's bound, within three deviations of such a count; it holds for any message, so it
    allows for 1/2 more, and for 1/2 less the count must not fall short of it."""
    native, multiples = both.native, []
    for _ in range(20):
        a = values()
        raised = native.raise_modulus(native.drop(both.imported(both.encrypt(a)), 1))
        assert raised.towers == DEPTH + 1
        assert np.abs(both.decrypted(native.drop(raised, 1)) - a).max() < NOISE  # modulo q_0 nothing has changed
        multiples += [coefficient / native.moduli[0] for coefficient in phase(both, raised, 3)]
    found = np.abs(np.array(multiples))
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(193 / 12), rel=0.03)
    for bound in (2, 4, 8, 12):
        most, least = (len(found) * 2 ** exponential.log2_failure(overflow=bound + more) for more in (0, 1))
        assert least - 3 * np.sqrt(least) < np.sum(found > bound) < most + 3 * np.sqrt(most), bound


def test_the_raise_is_the_centred_residue_modulo_every_prime(both, values):
    native, ring = both.native, both.native.ring
    x = native.drop(both.imported(both.encrypt(values())), 1)
    raised = native.raise_modulus(x)
    low, high = (aligned(2, count, ring.dimension, dtype=np.uint32) for count in (1, len(ring.q)))
    ring.mod_q.to_coefficients(low, x.residues[:, :1])
    ring.mod_q.to_coefficients(high, raised.residues)
    centred = low[:, 0].astype(object) - ring.q[0] * (low[:, 0] > ring.q[0] // 2)
    for t, q in enumerate(ring.q):
        assert (high[:, t] == centred % q).all()


def test_missing_and_short_keys_are_named(both, values):
    x = both.imported(both.encrypt(values()))
    with pytest.raises(PlanError, match="the key of automorphism"):
        both.native.rotate(x, [77])
    key = both.native.keys[both.native.ring.rotation(1)]
    small, special = key.small[:, :1, :3].copy(), key.special[:, :1].copy()
    short = SimpleNamespace(automorphism=key.automorphism, small=small, special=special)
    cut, whole = (NativeArithmetic(both.chain, {both.native.ring.rotation(1): k}, 1) for k in (short, key))
    (one,), (other,) = (ev.rotate(ev.drop(x, 3), [1]) for ev in (cut, whole))
    assert (one.residues == other.residues).all()
    with pytest.raises(PlanError, match="a key of 3 towers is used at 4"):
        cut.rotate(cut.drop(x, 4), [1])


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_residues(both, values, threads):
    several = NativeArithmetic(both.chain, both.native.keys, threads)
    x, vector = both.imported(both.encrypt(values())), values()
    transform = SlotTransform((0, 1), (0, 8), {(0, 0): vector, (0, 1): vector, (1, 1): vector})

    def results(ev) -> list[Ciphertext]:
        return [ev.rotate(x, [3])[0], ev.rescale(ev.sum_of_products([(x, x)])), ev.transform(x, transform,
                          x.scale**2), ev.weighted_sum([x, x], lambda _: vector, x.scale**2),
                          ev.raise_modulus(ev.drop(x, 1))]  # fmt: skip

    for one, more in zip(results(both.native), results(several), strict=True):
        assert (one.residues == more.residues).all()


def test_plaintext_coefficients_round_halves_away_from_zero(both):
    """One slot with a value of k + 1/2 at scale 1, and its negative."""
    encoder = Encoder(both.native.ring)
    for value, rounded in ((2.5, 3), (-2.5, -3), (0.5, 1), (0.49999999999999994, 0), (-3.5, -4)):
        assert encoder.coefficients(np.array([value]), 1.0)[0] == rounded


def test_values_too_large_for_their_scale_are_refused(both):
    x = both.imported(both.encrypt(np.zeros(SLOTS)))
    for value in (1e20, np.nan, np.inf):
        with pytest.raises(PlanError, match="too large"):
            both.native.add_vector(x, np.full(SLOTS, value))
    with pytest.raises(PlanError, match="3 slots cannot be encoded"):
        both.native.add_vector(x, np.zeros(3))


def test_large_coefficients_are_reduced_exactly(both):
    encoder, ring = Encoder(both.native.ring), both.native.ring
    vector = np.full(ring.dimension // 2, 0.9)
    plaintexts = encoder.encode([vector], [2.0**61], 3, extended=True)
    (coefficient,) = {int(c) for c in encoder.coefficients(vector, 2.0**61)} - {0}
    assert [int(tower[0]) for tower in plaintexts.small[0]] == [coefficient % q for q in ring.q[:3]]
    assert [int(tower[0]) for tower in plaintexts.large[0]] == [coefficient % p for p in ring.p]


def test_the_memory_order_is_a_permutation(both):
    ring: Ring = both.native.ring
    assert sorted(ring.order) == list(range(ring.dimension))
    values = np.arange(ring.dimension, dtype=np.uint64)[None]
    assert (ring.to_openfhe(ring.from_openfhe(values)) == values).all()
