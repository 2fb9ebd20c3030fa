"""Native keys: what conversion writes, what opening refuses, and how little memory either takes."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smallring import DEPTH, STEPS, small_ring

from lowmem_resnet20.errors import KeyFolderError
from lowmem_resnet20.native.kernels.order import permutation
from lowmem_resnet20.native.keys.keys import Header, MappedKeys, Order, mapped_file, open_key, write_key, write_keys
from lowmem_resnet20.native.keys.openfhe_files import read_relinearisation_key, read_rotation_keys
from lowmem_resnet20.native.ring.chain import read_chain_file
from lowmem_resnet20.native.ring.keynames import CONJUGATION, RELINEARISATION, automorphism, rotation_name

TOWERS = DEPTH + 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_ring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def source(small):
    """OpenFHE's keys by index, and the whole chain."""
    with mapped_file(small.rotations) as data:
        keys = read_rotation_keys(data, small.chain)
        order = 2 * small.chain.dimension
        chain = replace(small.chain, p=keys[order - 1].primes[TOWERS:])
        yield keys, chain


def openfhe_order(dimension: int) -> Order:
    return Order("openfhe", np.arange(dimension))


def shuffled(dimension: int) -> Order:
    return Order("shuffled", np.random.default_rng(1).permutation(dimension))


@pytest.fixture(scope="module")
def native(source, tmp_path_factory):
    """Keys of every kind, at various levels: folder, plan, chain, order."""
    keys, chain = source
    plan = {rotation_name(step, chain.dimension): towers for step, towers in zip(STEPS, (TOWERS, 7, 6), strict=True)}
    plan |= {CONJUGATION: 5}
    folder = tmp_path_factory.mktemp("native")
    write_keys(folder, keys, plan, chain, shuffled(chain.dimension))
    return folder, plan, chain


def test_a_converted_key_holds_the_rows_its_level_needs(source, native):
    keys, _ = source
    folder, plan, chain = native
    order = shuffled(chain.dimension).order
    for name, towers in plan.items():
        key = open_key(folder / f"{name}.key", name, chain, towers, "shuffled")
        assert (key.header.towers, key.header.digits) == (towers, 2 if towers > chain.digit_towers else 1)
        original = keys[automorphism(name, chain.dimension)]
        places = np.argsort(order)
        special = len(original.primes) - key.header.special
        for half, letter in enumerate("ba"):
            for digit in range(key.header.digits):
                expected = [original.residues(letter, digit, t)[places] for t in range(len(original.primes))]
                assert np.array_equal(key.small[half, digit], expected[:towers]), (name, letter, digit)
                assert np.array_equal(key.special[half, digit], expected[special:]), (name, letter, digit)


def test_residues_start_on_cache_lines_and_take_four_bytes_and_eight(native):
    folder, _, chain = native
    name = rotation_name(1, chain.dimension)
    key = open_key(folder / f"{name}.key", name, chain, TOWERS, "shuffled")
    for part in (key.small, key.special):
        assert part.ctypes.data % 64 == 0 and part.flags.c_contiguous
    sizes = 4 * 2 * 2 * TOWERS * chain.dimension, 8 * 2 * 2 * len(chain.p) * chain.dimension
    assert (key.small.nbytes, key.special.nbytes) == sizes
    assert (folder / f"{name}.key").stat().st_size == 4096 + sum(sizes)
    assert key.automorphism == 5
    before = key.small.copy()
    key.release()
    assert np.array_equal(key.small, before)


def test_a_folders_keys_are_mapped_when_asked_for(native):
    folder, plan, chain = native
    keys = MappedKeys(folder, plan, chain, "shuffled")
    assert set(keys) == set(plan) and len(keys) == len(plan)
    assert {name: key.header.towers for name, key in keys.items()} == plan
    assert keys[CONJUGATION] is keys[CONJUGATION]
    keys.release()
    with pytest.raises(KeyError):
        keys["rotation-9"]
    with pytest.raises(KeyFolderError, match="No such file"):
        MappedKeys(folder, {"rotation-9": 1}, chain, "shuffled")["rotation-9"]


def test_an_automorphism_permutes_what_openfhe_orders(small):
    """X^j becomes X^(gj): its value at psi^e becomes psi^(e g j)."""
    n, (p, psi) = small.chain.dimension, small.chain.q[0]
    powers = np.array([pow(psi, k, p) for k in range(2 * n)], object)
    bits = n.bit_length() - 1
    exponents = np.array([2 * int(format(i, f"0{bits}b")[::-1], 2) + 1 for i in range(n)])
    for g in (automorphism(name, n) for name in (rotation_name(1, n), rotation_name(-3, n), CONJUGATION)):
        for j in (1, 5, n - 1):
            assert np.array_equal(
                powers[exponents * j % (2 * n)][permutation(g, n)], powers[exponents * g * j % (2 * n)]
            )
    assert np.array_equal(permutation(1, n), np.arange(n))
    assert automorphism(RELINEARISATION, n) == 1


def test_the_relinearisation_key_is_not_permuted(small, source, tmp_path):
    _, chain = source
    key = read_relinearisation_key(small.relinearisation.read_bytes(), small.chain)
    order = openfhe_order(chain.dimension)
    write_key(tmp_path / "r.key", key, Header.of(RELINEARISATION, 9, chain, order.name, key.tag), chain, order)
    found = open_key(tmp_path / "r.key", RELINEARISATION, chain, 9, order.name)
    assert np.array_equal(found.special[1, 1, -1], key.residues("a", 1, len(key.primes) - 1))


def test_conversion_takes_the_memory_of_few_towers(source, tmp_path):
    keys, chain = source
    plan = {rotation_name(1, chain.dimension): TOWERS}
    write_keys(tmp_path, keys, plan, chain, openfhe_order(chain.dimension))
    (path,) = tmp_path.iterdir()
    size = path.stat().st_size
    path.unlink()
    tracemalloc.start()
    write_keys(tmp_path, keys, plan, chain, openfhe_order(chain.dimension))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * 8 * chain.dimension < size
    tracemalloc.start()
    open_key(path, *plan, chain, TOWERS, "openfhe")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 16


def test_keys_that_do_not_fit_are_not_converted(source, tmp_path):
    keys, chain = source
    order = openfhe_order(chain.dimension)
    with pytest.raises(KeyFolderError, match="the rotation-9 key is missing"):
        write_keys(tmp_path, {}, {"rotation-9": 3}, chain, order)
    shorter = replace(chain, p=chain.p[:-1])
    with pytest.raises(KeyFolderError, match="of another chain of primes"):
        write_keys(tmp_path, keys, {rotation_name(1, chain.dimension): 3}, shorter, order)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "has not"),
        (lambda data: data + b"\0", "has not"),
        (lambda data: data[:4000], "is not a native key"),
        (lambda data: b"", "is not a native key"),
        (lambda data: b"x" + data[1:], "is not a native key"),
        (lambda data: data.replace(b'"format": 2', b'"format": 1'), "has format 1, and this program reads 2"),
        (lambda data: data.replace(b'"towers": 7', b'"towers": 9'), "has not"),
        (lambda data: data.replace(b'"towers": 7', b'"towers": 0'), "does not hold"),
        (lambda data: data.replace(b'"towers": 7', b'"towers":-7'), "does not hold"),
        (lambda data: data.replace(b'"towers": 7', b'"towers":[7'), "is not a native key"),
        (lambda data: data.replace(b'"digits": 2', b'"digits": 9'), "does not hold"),
        (lambda data: data.replace(b'"order"', b'"0rder"'), "is not a native key"),
        (lambda data: data.replace(b'"shuffled"', b'"unknown_"'), "does not hold"),
        (lambda data: data.replace(b'"pair": "', b'"pair":[],"'), "is not a native key"),
    ],
)
def test_altered_files_are_refused_before_they_are_mapped(native, tmp_path, change, message):
    folder, _, chain = native
    name = rotation_name(2, chain.dimension)
    path = tmp_path / "key"
    path.write_bytes(change((folder / f"{name}.key").read_bytes()))
    with pytest.raises(KeyFolderError, match=message):
        open_key(path, name, chain, 7, "shuffled")


def test_a_key_of_another_name_or_level_is_refused(native):
    folder, _, chain = native
    path = folder / f"{rotation_name(2, chain.dimension)}.key"
    with pytest.raises(KeyFolderError, match="does not hold the rotation-1 key"):
        open_key(path, "rotation-1", chain, 7, "shuffled")
    with pytest.raises(KeyFolderError, match="serves 7 towers, not 8"):
        open_key(path, "rotation-2", chain, 8, "shuffled")
    with pytest.raises(KeyFolderError, match="No such file"):
        open_key(folder / "nothing.key", "rotation-2", chain, 7, "shuffled")
    with pytest.raises(KeyFolderError, match="does not hold"):
        open_key(path, "rotation-2", replace(chain, digits=3), 7, "shuffled")


def test_the_chain_is_read_back(source, tmp_path):
    _, chain = source
    path = tmp_path / "chain.json"
    path.write_bytes(chain.to_json())
    assert read_chain_file(path) == chain
    assert read_chain_file(path).digest == chain.digest != replace(chain, p=()).digest


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))


def test_altered_chains_are_refused(source, tmp_path):
    _, chain = source
    path = tmp_path / "chain.json"
    sound = json.loads(chain.to_json())

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from([None, *sound]), JSON)
    def altered(field, value):
        path.write_text(json.dumps(value if field is None else sound | {field: value}))
        try:
            found = read_chain_file(path)
        except KeyFolderError as error:
            assert "\n" not in str(error)
        else:
            assert all(prime.fits(found.dimension) for prime in (*found.q, *found.p))
            assert 1 <= found.digits <= len(found.q)

    altered()
    for broken in (chain.to_json()[:-3], b"", b"[" * 100000, chain.to_json().replace(b"[[", b"[[4,1],[", 1)):
        path.write_bytes(broken)
        with pytest.raises(KeyFolderError, match="does not describe a chain"):
            read_chain_file(path)
