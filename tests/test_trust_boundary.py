"""The secret key never reaches the server: shown on its imports and on its source."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import lowmem_resnet20
from imports import imported_modules, tree
from lowmem_resnet20 import server

PACKAGE = Path(lowmem_resnet20.__file__).parent


def test_the_server_imports_neither_client_nor_torch():
    modules = imported_modules("server")
    assert not modules & {"client", "inspection", "cli", "model.plain"}
    assert {"network.resnet20", "fhe.openfhe_evaluator", "fhe.keystore"} <= modules  # the walk does see imports


def test_only_the_client_names_the_secret_key_file():
    readers = [p.stem for p in PACKAGE.rglob("*.py") if "DeserializePrivateKey" in p.read_text()]
    assert readers == ["client"]


def test_nothing_the_server_imports_decrypts():
    for name in imported_modules("server"):
        calls = {n.attr for n in ast.walk(tree(name)) if isinstance(n, ast.Attribute)}
        assert not calls & {"Decrypt", "DeserializePrivateKey", "DeserializePrivateKeyString"}, name


def test_no_signature_of_the_server_takes_a_secret():
    for name, function in inspect.getmembers(server, inspect.isfunction):
        if function.__module__ == server.__name__:
            assert not any("secret" in parameter for parameter in inspect.signature(function).parameters), name


def test_a_server_process_has_not_loaded_the_client():
    program = "import sys, lowmem_resnet20.server; print('lowmem_resnet20.client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
