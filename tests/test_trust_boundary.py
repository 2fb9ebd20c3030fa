"""The secret key never reaches the server: shown on its imports and source, on what its process opens, and on its
files."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import lowmem_resnet20
import parties
from imports import loaded_modules, module_names, tree
from lowmem_resnet20.native.kernels.order import ORDER, memory_order
from lowmem_resnet20.native.keys.keys import Order
from lowmem_resnet20.native.ring.chain import read_chain_file
from lowmem_resnet20.native.ring.keynames import CONJUGATION, RELINEARISATION
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.server.request import Evaluation, Job
from miniature import INSECURE_SHORT_NATIVE_SET, INSECURE_SHORT_SET, random_picture, random_weights
from secretnumbers import native_needles, needles
from serving import FakeWorker, serving, upload_folder
from watching import watching

SETS = {set_.engine: set_ for set_ in (INSECURE_SHORT_SET, INSECURE_SHORT_NATIVE_SET)}
PACKAGE = Path(lowmem_resnet20.__file__).parent
ENGINES = {"openfhe": "openfhe.engine", "native": "native.engine"}
#: What only the client's modules do with a secret key stands beside them, where OpenFHE is.
BESIDE_THE_CLIENT = {"openfhe.secret", "openfhe.native_keys"}
#: Modules that a server has no business with.
OF_THE_CLIENT = {
    *BESIDE_THE_CLIENT,
    *("cli.main", "cli.named", "cli.passphrase"),
    *(name for name in module_names() if name.partition(".")[0] == "client"),
}
#: What is a server's: the process, that of a cluster, and the service.
SERVERS = ["server.worker", "cluster.evaluation", "service.command"]
#: What only the client's modules may name: the types that hold a secret key, and what is done with one.
NAMES_OF_THE_CLIENT = {
    "PrivateKey", "KeyPair", "ClientContext", "client_context", "secretKey", "secret_key", "SECRET_KEY",
    "KeyGen", "EvalMultKeyGen", "EvalRotateKeyGen", "EvalBootstrapKeyGen", "Decrypt",
    "DeserializePrivateKey", "DeserializePrivateKeyString",
}  # fmt: skip
#: Names that speak of secrets otherwise: the distribution that OpenFHE draws them from, Python's random numbers.
NO_KEYS = {"SetSecretKeyDist", "SecretKeyDist", "secrets"}


# --- its source -------------------------------------------------------------------------------------------


def test_the_server_imports_neither_client_nor_torch():
    modules = loaded_modules("server.worker")
    assert not modules & {*OF_THE_CLIENT, "model.plain"}
    assert {"network.resnet20", "openfhe.evaluator", "files.keystore"} <= modules  # the walk does see imports
    modules = loaded_modules("cluster.evaluation")
    assert not modules & {*OF_THE_CLIENT, "model.plain"}
    assert {"cluster.keeper", "cluster.worker", "server.worker"} <= modules  # all that a cluster's machines run


def test_the_front_doors_server_imports_no_client():
    """A program that evaluates, and does not name the client, holds nothing of it either."""
    script = "import sys, lowmem_resnet20 as lr; lr.Server, lr.Ciphertext, lr.load_weights; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {f"lowmem_resnet20.{name}" for name in OF_THE_CLIENT}
    assert "lowmem_resnet20.server.server" in loaded


def test_the_service_imports_neither_client_nor_torch_nor_openfhe():
    """It takes ciphertexts from strangers, and reads none."""
    modules = loaded_modules("service.command")
    assert not modules & {*OF_THE_CLIENT, "model.plain", "server.worker", "server.server"}
    assert not {name for name in modules if name.startswith("openfhe")}
    assert {name for name in module_names() if name.startswith("service.")} <= modules
    assert {"files.keystore", "files.envelope", "server.process"} <= modules


def test_the_services_process_loads_neither_openfhe_nor_the_clients_modules():
    script = "import sys, lowmem_resnet20.service.command; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {*(f"lowmem_resnet20.{name}" for name in OF_THE_CLIENT), "openfhe", "numba", "torch"}
    assert {"lowmem_resnet20.service.app", "lowmem_resnet20.files.keystore"} <= loaded


def test_only_the_client_names_the_secret_key_file():
    readers = [p.stem for p in PACKAGE.rglob("*.py") if "DeserializePrivateKey" in p.read_text()]
    assert readers == ["client"]


def names_in(module: str) -> set[str]:
    """Every name that a module's source uses: variables, attributes, parameters and what their annotations say."""
    names: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.arg | ast.keyword):
            names.add(node.arg or "")
        elif isinstance(node, ast.alias):
            names |= {node.name.rpartition(".")[2], node.asname or ""}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_the_server_imports_names_a_secret(server):
    """Neither in a signature nor in a call: there is no type by which a secret key could be handed on."""
    for module in loaded_modules(server):
        names = names_in(module)
        assert not names & NAMES_OF_THE_CLIENT, module
        assert not {name for name in names if "secret" in name.lower()} - NO_KEYS, module


def test_nothing_but_the_client_names_a_secret_key():
    """Two modules beside it do: what its types are, and what makes native keys."""
    clients = {name for name in module_names() if name.partition(".")[0] == "client"} | BESIDE_THE_CLIENT
    named = {name for name in module_names() if names_in(name) & NAMES_OF_THE_CLIENT}
    assert named <= clients
    assert NAMES_OF_THE_CLIENT - {"DeserializePrivateKey"} <= set().union(*map(names_in, named))


# --- its process ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SETS)
def folder(request, tmp_path_factory) -> Path:
    """Keys of the miniature in exp6, its weights and an encrypted picture, in a folder with the engine's name."""
    set_ = SETS[request.param]
    folder, weights = tmp_path_factory.mktemp("boundary") / set_.engine, random_weights(set_.architecture)
    folder.mkdir()
    save_weights(folder / "weights", weights)
    parties.generate_keys(set_, folder / "exp6")
    pixels = random_picture(set_.architecture, np.random.default_rng(9))
    parties.encrypt_picture(folder / "exp6", set_, pixels, weights, folder / "p.ct", "p.png")
    return folder


#: Does a party's work, the server's as its process does it, and tells what it opens, imports and passes on.
WATCHED = """
import json, sys, threading
from pathlib import Path

opened, imported, passed, started = set(), set(), set(), []

def audit(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        opened.add(str(arguments[0]))
    elif event == "import":
        imported.add(arguments[0])
    elif event in ("subprocess.Popen", "os.fork"):
        started.append(event)

sys.addaudithook(audit)
party, folder = sys.argv[1], Path(sys.argv[2])
from lowmem_resnet20.network import parameters, weights
import miniature
SETS = {set_.engine: set_ for set_ in (miniature.INSECURE_SHORT_SET, miniature.INSECURE_SHORT_NATIVE_SET)}
SET = SETS[folder.name]

def profile(frame, event, argument):
    if event == "return" and "lowmem_resnet20" in frame.f_code.co_filename:
        values = [*frame.f_locals.values(), argument]
        passed.update({type(value).__name__ for value in values} & {"PrivateKey", "KeyPair"})

if party == "server":
    from lowmem_resnet20.server import worker
    parameters.PARAMETER_SETS[SET.number, SET.engine] = SET
    work = worker.main
else:
    import parties
    known = weights.load_weights(folder / "weights")
    started.clear()  # by what the tests import
    work = lambda: parties.decrypt_logits(folder / "exp6", SET, folder / "r.ct", known)
threading.setprofile(profile)
sys.setprofile(profile)
work()
sys.setprofile(None)
(folder / "seen").write_text(json.dumps([sorted(opened), sorted(imported | set(sys.modules)), sorted(passed), started]))
"""


@dataclass(frozen=True)
class Seen:
    """Of a party's process: what Python opened and imported, the types of secrets that functions held or returned, how
    it started others; and what any code opened in the client's folder."""

    by_python: set[str]
    imported: set[str]
    secrets: set[str]
    started: set[str]
    by_any_code: set[str]


def watch(party: str, folder: Path) -> Seen:
    request = Evaluation(6, folder / "exp6", (Job(folder / "p.ct", folder / "r.ct"),), folder / "weights")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WATCHED, party, str(folder)]
    with watching(folder / "exp6" / "client") as opened:
        done = subprocess.run(
            command, env=environment, input=request.to_json(), capture_output=True, text=True, check=False
        )
        by_any_code = opened.names
    assert done.returncode == 0, done.stderr
    return Seen(*map(set, json.loads((folder / "seen").read_text())), by_any_code)


def test_the_servers_process_meets_no_secret(folder):
    """It opens nothing under client/, not in OpenFHE's own code either; the same look at the client sees all it
    does."""
    client_folder = str(folder / "exp6" / "client")
    seen = watch("server", folder)
    assert (folder / "r.ct").stat().st_size > 100_000
    assert str(folder / "exp6" / "server" / "manifest.json") in seen.by_python
    assert not [path for path in seen.by_python if path.startswith(client_folder) or "secret.key" in path]
    assert not seen.imported & {f"lowmem_resnet20.{name}" for name in OF_THE_CLIENT}
    assert {"lowmem_resnet20.server.server", f"lowmem_resnet20.{ENGINES[folder.name]}"} <= seen.imported
    assert ("openfhe" in seen.imported, seen.started) == (folder.name == "openfhe", set())
    assert (seen.secrets, seen.by_any_code) == (set(), set())
    seen = watch("client", folder)
    assert str(folder / "exp6" / "client" / "manifest.json") in seen.by_python
    assert "lowmem_resnet20.client.client" in seen.imported
    assert "PrivateKey" in seen.secrets
    assert seen.started == set()  # results are decrypted in this process, however many
    assert "secret.key" in seen.by_any_code


# --- its files --------------------------------------------------------------------------------------------


def forms_found(folder: Path, forms: dict[str, bytes], names: str = "*") -> dict[str, str]:
    """By form of the secret's numbers, the file of the folder that holds some."""
    contents = {path.name: path.read_bytes() for path in folder.glob(names) if path.is_file()}
    return {form: name for form, some in forms.items() for name, content in contents.items() if some in content}


def would_be_found(forms: dict[str, bytes], folder: Path) -> bool:
    """Whether each is seen, wherever it lies."""
    for some in forms.values():
        (folder / "a.key").write_bytes(bytes(13) + some + bytes(10))
        if "a.key" not in forms_found(folder, forms).values():
            return False
    return True


def test_no_file_of_the_server_holds_the_secrets_numbers(folder, tmp_path):
    set_, secret_key = SETS[folder.name], (folder / "exp6" / "client" / "secret.key").read_bytes()
    forms = needles(secret_key, set_.ring_dimension)
    assert forms_found(folder / "exp6" / "server", forms) == {}
    assert len(forms) == set_.multiplicative_depth + 1 + 4
    assert would_be_found(forms, tmp_path)
    shutil.copy(folder / "exp6" / "client" / "secret.key", tmp_path / "a.key")
    assert len(forms_found(tmp_path, forms)) == set_.multiplicative_depth + 1


@pytest.mark.parametrize("folder", ["native"], indirect=True)
def test_no_file_of_a_services_store_holds_the_secrets_numbers(folder, tmp_path):
    """And whoever offers it the client's folder is refused before a byte of a key is sent."""
    forms = needles((folder / "exp6" / "client" / "secret.key").read_bytes(), SETS["native"].ring_dimension)
    FakeWorker.reset()
    with serving(tmp_path / "store") as served:
        offered = (folder / "exp6" / "client" / "manifest.json").read_bytes()
        answer = served.client.put(f"/v1/keys/{hashlib.sha256(offered).hexdigest()}", content=offered)
        assert answer.status_code == 422 and "secret.key" in answer.text
        name = upload_folder(served.client, folder / "exp6" / "server")
        job = served.post(name, (folder / "p.ct").read_bytes())
        assert served.wait(job["job"])["state"] == "done"
    folders = {path.parent for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert {"store", "server", job["job"]} <= {found.name for found in folders}
    assert [forms_found(found, forms) for found in folders] == [{}] * len(folders)
    assert would_be_found(forms, tmp_path)


@pytest.mark.parametrize("folder", ["native"], indirect=True)
def test_no_native_key_holds_the_secrets_numbers_in_its_own_order(folder, tmp_path):
    """In the order that the kernels choose, and modulo the special primes too."""
    server, n = folder / "exp6" / "server", SETS["native"].ring_dimension
    secret_key = (folder / "exp6" / "client" / "secret.key").read_bytes()
    chain, order = read_chain_file(server / "chain.json"), Order(ORDER, memory_order(n))
    names = {path.stem for path in server.glob("*.key")} - {"public"}
    assert {RELINEARISATION, CONJUGATION} < names and len(names) > 20
    forms = native_needles(secret_key, n, order.sources, chain.p)
    assert len(forms) == len(chain.q) + len(chain.p)
    assert forms_found(server, forms, "*.key") == {}
    assert would_be_found(forms, tmp_path)
