"""The command line against a fake service, with stand-ins for encryption."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest

import fakes
from fakeservice import TOKEN, FakeService
from lowmem_resnet20.files.keystore import write_manifest
from lowmem_resnet20.network.parameters import parameter_set
from lowmem_resnet20.remote import connection, upload
from lowmem_resnet20.remote.address import TOKEN_VARIABLE


@pytest.fixture
def service():
    with FakeService() as service:
        yield service


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A working directory with keys of set 6 that are none, and a token in the environment; what was called."""
    for name in fakes.MODULES:
        monkeypatch.setitem(sys.modules, f"lowmem_resnet20.{name}", None)
        package, _, last = f"lowmem_resnet20.{name}".rpartition(".")
        monkeypatch.setattr(importlib.import_module(package), last, None, raising=False)
    fakes.install()
    weights = importlib.import_module("lowmem_resnet20.network.weights")
    load = weights.load_weights
    monkeypatch.setattr(weights, "load_weights", lambda path: SimpleNamespace(**vars(load(path)), fingerprint="w"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr(connection, "PATIENCE", connection.Patience(20, 0.01, 0.02))
    monkeypatch.setattr(upload, "PIECE_BYTES", 1000)
    folder = tmp_path / "keys" / "exp6" / "server"
    folder.mkdir(parents=True)
    (folder / "public.key").write_bytes(bytes(range(256)) * 9)
    write_manifest(folder, parameter_set(6), "k")
    return fakes.calls
