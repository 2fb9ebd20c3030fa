"""The secret key under a passphrase: sealed, opened again, refused, and in no file otherwise."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cryptography")

import parties
from lowmem_resnet20.cli.passphrase import FILE_VARIABLE, passphrase_of
from lowmem_resnet20.client import Client, sealing
from lowmem_resnet20.client import keys as keygeneration
from lowmem_resnet20.errors import ExitCode, KeyFolderError
from lowmem_resnet20.files.keystore import CLIENT, SERVER
from lowmem_resnet20.openfhe.secret import SECRET_KEY
from lowmem_resnet20.server.server import Server
from miniature import INSECURE_SHORT_SET as SET
from miniature import random_picture, random_weights
from secretnumbers import needles

PASSPHRASE = b"correct horse battery staple"
WEIGHTS = random_weights(SET.architecture)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "exp6"
    parties.generate_keys(SET, folder, PASSPHRASE)
    return folder


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Have the passphrase in a file, as whoever decrypts without a terminal does."""

    def give(passphrase: bytes) -> None:
        path = tmp_path / "passphrase"
        path.touch(mode=0o600)
        path.write_bytes(passphrase + b"\n")
        monkeypatch.setenv(FILE_VARIABLE, str(path))

    return give


def test_what_is_sealed_can_be_opened():
    seal = sealing.sealer(PASSPHRASE)
    sealed = seal(b"secret")
    assert sealing.is_sealed(sealed) and not sealing.is_sealed(b"secret")
    assert b"secret" not in sealed and PASSPHRASE not in sealed
    assert sealing.opened(sealed, PASSPHRASE) == b"secret"
    assert seal(b"secret") != sealed  # another nonce
    assert sealing.sealer(PASSPHRASE)(b"")[:41] != sealed[:41]  # another salt


def test_another_passphrase_and_every_altered_byte_are_refused():
    sealed = sealing.sealer(PASSPHRASE)(b"secret")
    start = len(sealing.MAGIC)
    altered = [
        sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in (start, start + 16, *range(53, len(sealed)))
    ]
    for bad in (*altered, sealed[:-1], sealed[: start + 20], sealing.MAGIC):
        with pytest.raises(KeyFolderError, match="the passphrase is not the one"):
            sealing.opened(bad, PASSPHRASE)
    with pytest.raises(KeyFolderError, match="the passphrase is not the one"):
        sealing.opened(sealed, PASSPHRASE + b" ")


def test_a_guess_costs_what_it_should(monkeypatch):
    from cryptography.hazmat.primitives.kdf import scrypt

    asked, real = [], scrypt.Scrypt
    monkeypatch.setattr(scrypt, "Scrypt", lambda **cost: (asked.append(cost), real(**cost))[1])
    sealing.sealer(b"a passphrase of this test alone")
    assert 128 * asked[0]["n"] * asked[0]["r"] == 128 << 20  # bytes of memory
    assert asked[0]["length"] == 32


def test_the_whole_protocol_under_a_passphrase(keys, given):
    given(PASSPHRASE)
    pixels = random_picture(SET.architecture, np.random.default_rng(3))
    with Client(keys, WEIGHTS, passphrase_of, SET) as client, Server(keys, WEIGHTS, set_=SET) as server:
        [result] = client.decrypt(server.evaluate(client.encrypt(pixels)))
    assert len(result.logits) == 10 and result.warnings == ()


def test_a_wrong_passphrase(keys, given):
    given(b"wrong")
    with pytest.raises(KeyFolderError, match="the passphrase is not the one") as caught:
        Client(keys, WEIGHTS, passphrase_of, SET).unlock()
    assert caught.value.exit_code == ExitCode.KEYS


def test_encrypting_asks_for_none(keys):
    pixels = random_picture(SET.architecture, np.random.default_rng(3))
    assert Client(keys, WEIGHTS, lambda path: pytest.fail("asked"), SET).encrypt(pixels)


def test_no_file_holds_the_secret_in_the_clear(keys):
    path = keys / CLIENT / SECRET_KEY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = sealing.opened(path.read_bytes(), PASSPHRASE)
    forms = needles(secret, SET.ring_dimension)
    assert len(forms) == SET.multiplicative_depth + 1 + 4
    for file in (*(keys / CLIENT).iterdir(), *(keys / SERVER).iterdir()):
        content = file.read_bytes()
        assert not [form for form, some in forms.items() if some in content], file
    assert all(some in secret for form, some in forms.items() if form.startswith("values"))


def test_it_is_sealed_before_it_is_written(tmp_path, monkeypatch):
    """Not at the end: where making keys is cut short, no key lies in the clear either."""
    seen = []

    def seal(data: bytes) -> bytes:
        seen.extend(path.name for path in tmp_path.rglob("*") if SECRET_KEY in path.name)
        raise RuntimeError("cut short")

    monkeypatch.setattr(keygeneration, "sealer", lambda passphrase: seal)
    with pytest.raises(RuntimeError, match="cut short"):
        parties.generate_keys(SET, tmp_path / "exp6", PASSPHRASE)
    assert seen == []
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(monkeypatch, run, tmp_path, given):
    """Said before any key is made."""
    given(PASSPHRASE)
    monkeypatch.chdir(tmp_path)
    for name in ("cryptography", "cryptography.hazmat.primitives.ciphers.aead"):
        monkeypatch.setitem(sys.modules, name, None)
    outcome = run("generate_keys", "6", "passphrase", "verbose", "-1")
    assert outcome.code == ExitCode.ENVIRONMENT
    assert outcome.err == (
        "lowmem-resnet20: error: a secret key under a passphrase needs the package cryptography, "
        "which is not installed\n"
        "hint: pip install cryptography\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["passphrase"]
