"""OpenFHE's objects in files: written whole or not at all, under any name, and a context from a stranger."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openfhe
import pytest

from lowmem_resnet20.errors import KeyFolderError
from lowmem_resnet20.files import keystore
from lowmem_resnet20.openfhe import context
from lowmem_resnet20.openfhe.secret import bootstrapping_rotations
from miniature import INSECURE_FUNCTIONAL_SET, INSECURE_SET


@pytest.fixture(scope="module")
def made():
    made = context.new_context(INSECURE_SET)
    return made, made.KeyGen()


def test_a_public_key_under_a_name_that_is_not_utf8(tmp_path, made):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    context.write_object(folder / "public.key", made[1].publicKey)
    assert (folder / "public.key").stat().st_size > 1 << 20
    key = context.read_public_key(folder / "public.key")
    plaintext = made[0].MakeCKKSPackedPlaintext([0.5, -0.25], 1, 0, None, 2)
    decrypted = made[0].Decrypt(made[0].Encrypt(key, plaintext), made[1].secretKey)
    assert np.allclose(decrypted.GetRealPackedValue()[:2], [0.5, -0.25], atol=1e-6)
    context.write_object(folder / "context.bin", made[0])
    context.read_context(folder / "context.bin")


def test_rotation_keys_under_a_name_that_is_not_utf8(tmp_path, made):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.key"))
    ours, pair = made
    context.clear_rotation_keys()
    ours.EvalRotateKeyGen(pair.secretKey, [1, 2])
    context.write_rotation_keys(path, ours, pair.secretKey.GetKeyTag())
    context.clear_rotation_keys()
    context.load_rotation_keys(path, ours)
    assert len(ours.GetExistingEvalAutomorphismKeyIndices(pair.secretKey.GetKeyTag())) == 2
    context.clear_rotation_keys()


def test_a_folder_that_is_missing(tmp_path, made):
    with pytest.raises(FileNotFoundError):
        context.write_object(tmp_path / "absent" / "x", made[1].publicKey)
    with pytest.raises(OSError, match="OpenFHE could not write"):
        context.write_rotation_keys(tmp_path / "x", made[0], "no such tag")


SHORT = """
import resource, signal, sys
from pathlib import Path
from lowmem_resnet20.openfhe.context import new_context, write_object
from miniature import INSECURE_SET
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
key = new_context(INSECURE_SET).KeyGen().publicKey
write_object(Path(sys.argv[1]), key)
size = Path(sys.argv[1]).stat().st_size
for room in (size, size - 1, size // 2, 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, size))
    try:
        write_object(Path(sys.argv[1]), key)
        print("written")
    except OSError as error:
        print(error.strerror)
"""


def test_a_disk_with_room_for_all_but_the_last_byte(tmp_path):
    """The limit on a file's size stands in for the disk.  OpenFHE itself does not notice the second of these."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", SHORT, tmp_path / "x"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["written", *["File too large"] * 3]


def test_a_context_is_compared_with_the_sets_own_before_openfhe_sees_it(tmp_path, made, monkeypatch):
    path = tmp_path / "context.bin"
    path.write_bytes(context.context_bytes(INSECURE_SET))
    context.checked_context(path, INSECURE_SET)
    context.set_up_bootstrapping(made[0], INSECURE_SET, 256, precompute=False)  # which alters OpenFHE's one context
    content = path.read_bytes()
    altered = bytearray(content)
    altered[700] ^= 1
    monkeypatch.setattr(openfhe, "DeserializeCryptoContext", lambda *_: pytest.fail("must not be read"))
    monkeypatch.setattr(openfhe, "DeserializeCryptoContextString", lambda *_: pytest.fail("must not be read"))
    assert context.checked_context(path, INSECURE_SET) == made[0]
    for forged, difference in (
        (bytes(altered), "byte 700 differs"),
        (content[:-1], "shorter than"),
        (content + bytes(1 << 20), "longer than"),
        (b"", "shorter than"),
    ):
        path.write_bytes(forged)
        with pytest.raises(KeyFolderError, match=rf"not the context of parameter set 1: .*{difference}"):
            context.checked_context(path, INSECURE_SET)


def test_a_context_with_less_security(tmp_path):
    """Other primes under the number of a set."""
    weaker = replace(INSECURE_SET, scaling_bits=47, first_modulus_bits=51)
    (tmp_path / "context.bin").write_bytes(context.context_bytes(weaker))
    with pytest.raises(KeyFolderError, match="differs"):
        context.checked_context(tmp_path / "context.bin", INSECURE_SET)


@pytest.mark.parametrize("set_", [INSECURE_SET, INSECURE_FUNCTIONAL_SET], ids=["Chebyshev", "functional"])
def test_the_bound_on_bootstrapping_rotations_holds_and_is_near(set_):
    for chosen in (set_, replace(set_, dim1=(4, 4))):
        most = keystore._most_bootstrapping_rotations(chosen)
        for steps in bootstrapping_rotations(chosen).values():
            assert len(steps | context.power_of_two_rotations(chosen)) <= most < 10 * len(steps)
