"""OpenFHE's files as this program reads and writes them: against OpenFHE, and against whoever alters them."""

from __future__ import annotations

import json
import mmap
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import openfhe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smallring import DEPTH, LOG2_DIMENSION, SLOTS, STEPS, insecure_context, serialised, small_ring

from lowmem_resnet20.errors import CiphertextError, KeyFolderError
from lowmem_resnet20.native.keys import openfhe_files
from lowmem_resnet20.native.keys.archive import Reader
from lowmem_resnet20.native.keys.openfhe_files import (
    read_chain,
    read_ciphertext,
    read_relinearisation_key,
    read_rotation_keys,
    write_ciphertext,
)
from lowmem_resnet20.openfhe.library import BINARY

VALUES = np.linspace(-1, 1, SLOTS)
FUZZ = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_ring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def sealed(small) -> bytes:
    return serialised(small.encrypt(VALUES, 4))


def rewritten(found) -> bytes:
    fields = {name: getattr(found, name) for name in ("slots", "level", "noise_degree", "scale")}
    return write_ciphertext(found.form, found.residues, **fields)


def json_residues(obj) -> np.ndarray:
    """What OpenFHE writes of its residues in its other format: uint64 (vectors, N)."""

    def vectors(node):
        if isinstance(node, list) and len(node) == 1 << LOG2_DIMENSION and isinstance(node[0], int):
            yield node
        elif isinstance(node, (list, dict)):
            for child in node.values() if isinstance(node, dict) else node:
                yield from vectors(child)

    return np.array(list(vectors(json.loads(openfhe.Serialize(obj, openfhe.JSON)))), np.uint64)


@pytest.mark.parametrize("level", [0, 1, 4, DEPTH])
def test_a_fresh_ciphertext_is_read_and_rewritten_byte_for_byte(small, level):
    data = serialised(small.encrypt(VALUES, level))
    found = read_ciphertext(data, small.chain)
    assert found.residues.shape == (2, DEPTH + 1 - level, 1 << LOG2_DIMENSION)
    assert (found.slots, found.level, found.noise_degree) == (SLOTS, level, 1)
    assert rewritten(found) == data


def test_results_of_every_shape_come_back_equal_from_openfhe(small):
    ciphertext = small.encrypt(VALUES, 2)
    product = small.context.EvalMult(ciphertext, ciphertext)
    results = {
        "rotated": small.context.EvalRotate(ciphertext, 1),
        "product": product,
        "three polynomials": small.context.EvalMultNoRelin(ciphertext, ciphertext),
        "next level": small.context.EvalMult(product, ciphertext),
        "few towers": small.context.Compress(ciphertext, 2),
    }
    for name, result in results.items():
        found = read_ciphertext(serialised(result), small.chain, polynomials=len(result.GetElements()))
        assert np.array_equal(found.residues.reshape(-1, small.chain.dimension), json_residues(result)), name
        back = openfhe.DeserializeCiphertextString(rewritten(found), BINARY)
        assert np.array_equal(json_residues(back), json_residues(result)), name
        for fact in ("GetLevel", "GetNoiseScaleDeg", "GetSlots", "GetScalingFactor", "GetKeyTag", "GetEncodingType"):
            assert getattr(back, fact)() == getattr(result, fact)(), (name, fact)


def test_a_ciphertext_of_three_polynomials_is_refused_where_two_are_expected(small):
    ciphertext = small.encrypt(VALUES, 2)
    with pytest.raises(CiphertextError, match="3 polynomials, more than 2"):
        read_ciphertext(serialised(small.context.EvalMultNoRelin(ciphertext, ciphertext)), small.chain)


def test_what_is_written_at_another_level_decrypts(small):
    """The server's result has fewer towers than the picture it was written from."""
    found = read_ciphertext(serialised(small.encrypt(VALUES, 1)), small.chain)
    low = read_ciphertext(serialised(small.encrypt(-VALUES, 8)), small.chain)
    data = write_ciphertext(
        found.form, low.residues, slots=SLOTS, level=8, noise_degree=1, scale=small.chain.scaling_factors()[8]
    )
    values = small.decrypt(openfhe.DeserializeCiphertextString(data, BINARY))
    assert np.abs(values + VALUES).max() < 1e-4
    with pytest.raises(ValueError, match="at level 7"):
        write_ciphertext(found.form, low.residues, slots=SLOTS, level=7, noise_degree=1, scale=1.0)


def test_scaling_factors_are_openfhes(small):
    found = [small.encrypt(VALUES, level).GetScalingFactor() for level in range(DEPTH + 1)]
    assert list(small.chain.scaling_factors()) == found


def test_the_relinearisation_key_is_read(small):
    key = read_relinearisation_key(small.relinearisation.read_bytes(), small.chain)
    (held,) = small.context.GetEvalMultKeyVector(small.pair.secretKey.GetKeyTag())
    towers = len(small.chain.q) + 3
    assert (key.digits, len(key.primes), key.primes[: DEPTH + 1]) == (2, towers, small.chain.q)
    assert key.tag == held.GetKeyTag()
    halves = [[[key.residues(half, d, t) for t in range(towers)] for d in range(2)] for half in "ab"]
    assert np.array_equal(np.reshape(halves, (-1, small.chain.dimension)), json_residues(held))


def test_rotation_keys_are_found_in_a_memory_map_without_reading_them(small):
    with open(small.rotations, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        tracemalloc.start()
        keys = read_rotation_keys(data, small.chain)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < len(data) / 20
        order = 2 * small.chain.dimension
        assert {pow(5, step, order) for step in STEPS} | {order - 1} <= keys.keys()
        assert (keys[order - 1].digits, keys[order - 1].primes) == (2, keys[5].primes)
        key = keys[5]
        assert all(key.residues("b", 1, t).max() < prime.value for t, prime in enumerate(key.primes))
        del key, keys


def test_the_ring_is_the_contexts(small):
    assert read_chain(serialised(small.context)) == small.chain
    assert (small.chain.digits, small.chain.digit_towers, len(small.chain.q)) == (2, 6, DEPTH + 1)
    assert [small.chain.digits_at(towers) for towers in (1, 6, 7, 11)] == [1, 1, 2, 2]


def test_a_ciphertext_of_other_parameters_is_refused(small):
    other = insecure_context(depth=DEPTH - 1)
    plaintext = other.MakeCKKSPackedPlaintext(VALUES, 1, 0, None, SLOTS)
    data = serialised(other.Encrypt(other.KeyGen().publicKey, plaintext))
    with pytest.raises(CiphertextError, match="belongs to other parameters"):
        read_ciphertext(data, small.chain)


@pytest.mark.parametrize("kind", ["public key", "context", "key map", "empty", "text", "zeros", "JSON"])
def test_what_is_no_ciphertext_is_refused(small, kind):
    data = {
        "public key": lambda: serialised(small.pair.publicKey),
        "context": lambda: serialised(small.context),
        "key map": lambda: small.relinearisation.read_bytes(),
        "empty": lambda: b"",
        "text": lambda: b"\x01 a text",
        "zeros": lambda: bytes(1 << 16),
        "JSON": lambda: openfhe.Serialize(small.context, openfhe.JSON).encode(),
    }[kind]()
    with pytest.raises(CiphertextError, match=r"^the ciphertext cannot be read: "):
        read_ciphertext(data, small.chain)
    with pytest.raises(KeyFolderError):
        read_rotation_keys(data, small.chain)


def test_a_residue_as_large_as_its_prime_is_refused(small, sealed):
    found = read_ciphertext(sealed, small.chain)
    last, prime = found.residues[0, 0, -1], small.chain.q[0].value
    place = sealed.index(last.tobytes() + struct.pack("<Q", prime))
    for value, refused in ((prime - 1, False), (prime, True), ((1 << 64) - 1, True)):
        data = sealed[:place] + struct.pack("<Q", value) + sealed[place + 8 :]
        if refused:
            with pytest.raises(CiphertextError, match=f"not below its prime {prime}"):
                read_ciphertext(data, small.chain)
        else:
            assert read_ciphertext(data, small.chain).residues[0, 0, -1] == value


def fields(monkeypatch, read, data, chain) -> list[tuple[int, int]]:
    """Where the fields of a file stand, values of polynomials left out: place and size."""
    places = []

    class Recorder(Reader):
        def take(self, size):
            if size < 8 << LOG2_DIMENSION:
                places.append((self.at, size))
            return super().take(size)

    monkeypatch.setattr(openfhe_files, "Reader", Recorder)
    read(data, chain)
    monkeypatch.undo()
    return places


def test_each_field_cut_or_made_enormous_is_refused_without_memory(small, sealed, monkeypatch):
    """Every field in turn: the file ends in it, it is all zeros, it is all ones.

    Zeros may be legal.  Ones are only where the context tells what its maker had set up for bootstrapping.
    """
    places = fields(monkeypatch, read_ciphertext, sealed, small.chain)
    assert len(places) > 200
    accepted = []
    for at, size in places:
        for data in (sealed[:at], sealed[: at + size - 1]):
            with pytest.raises(CiphertextError):
                read_ciphertext(data, small.chain)
        if size <= 8:
            if quietly_read(sealed[:at] + b"\xff" * size + sealed[at + size :], small.chain):
                accepted.append((at, size))
            quietly_read(sealed[:at] + bytes(size) + sealed[at + size :], small.chain)
    scheme = sealed.index(b"lbcrypto::FHECKKSRNS")
    assert all(scheme < at < sealed.index(small.pair.secretKey.GetKeyTag().encode()) for at, _ in accepted)


def quietly_read(data: bytes, chain) -> bool:
    """Whether a ciphertext is accepted; if so it is sound.  Never more memory than a few times its size."""
    tracemalloc.start()
    try:
        found = read_ciphertext(data, chain)
    except CiphertextError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        return False
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * len(data) + (1 << 16)
    primes = np.array([prime.value for prime in chain.q[: found.residues.shape[1]]], np.uint64)
    assert (found.residues < primes[None, :, None]).all() and np.isfinite(found.scale)
    assert read_ciphertext(rewritten(found), chain).slots == found.slots
    return True


EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(["byte", "cut", "insert", "repeat"]), st.binary(min_size=1)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, places: list[tuple[int, int]], edits) -> bytes:
    """``data`` with fields altered, cut out, pushed aside or repeated."""
    for which, kind, new in edits:
        at, size = places[which % len(places)]
        data = {
            "byte": data[:at] + new[:size] + data[at + len(new[:size]) :],
            "cut": data[:at] + data[at + size :],
            "insert": data[:at] + new + data[at:],
            "repeat": data[: at + size] + data[at:],
        }[kind]
    return data


def test_altered_ciphertexts_are_refused_or_sound(small, sealed, monkeypatch):
    places = fields(monkeypatch, read_ciphertext, sealed, small.chain)

    @FUZZ
    @given(EDITS)
    def altered(edits):
        quietly_read(edited(sealed, places, edits), small.chain)

    altered()


@pytest.mark.parametrize("file", ["relinearisation", "rotations"])
def test_altered_keys_are_refused_or_sound(small, monkeypatch, file):
    whole = getattr(small, file).read_bytes()
    read = {"relinearisation": read_relinearisation_key, "rotations": read_rotation_keys}[file]
    places = fields(monkeypatch, read, whole, small.chain)

    @settings(FUZZ, max_examples=FUZZ.max_examples // (1 + len(whole) // (1 << 20)))
    @given(EDITS)
    def altered(edits):
        data = edited(whole, places, edits)
        try:
            keys = read(data, small.chain)
        except KeyFolderError as error:
            assert "\n" not in str(error) and len(str(error)) < 300
        else:
            for key in keys.values() if isinstance(keys, dict) else [keys]:
                assert key.primes[0] == small.chain.q[0] and len(key.a) == len(key.b) == key.digits

    altered()


def test_an_index_out_of_range_or_twice_is_refused(small):
    """The map's first entry begins behind endianness, number of pairs, tag, pointer and number of keys."""
    whole = small.rotations.read_bytes()
    at = 1 + 8 + 8 + 32 + 4 + 8
    indices = sorted(read_rotation_keys(whole, small.chain))
    assert struct.unpack_from("<I", whole, at)[0] in indices
    for index, refused in ((2 * small.chain.dimension, True), (indices[-1], True), ((1 << 32) - 1, True), (3, False)):
        data = whole[:at] + struct.pack("<I", index) + whole[at + 4 :]
        if refused:
            with pytest.raises(KeyFolderError, match=f"an automorphism index {index}$"):
                read_rotation_keys(data, small.chain)
        else:
            assert index in read_rotation_keys(data, small.chain)


@FUZZ
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(small, data):
    with pytest.raises(CiphertextError):
        read_ciphertext(data, small.chain)
    with pytest.raises(KeyFolderError):
        read_rotation_keys(b"\x01" + data, small.chain)
    with pytest.raises(KeyFolderError):
        read_chain(data)


def test_files_are_read_without_openfhe():
    program = "import sys; from lowmem_resnet20.native.keys import keys, openfhe_files; print('openfhe' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
