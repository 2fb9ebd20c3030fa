"""Client to server to client on a small ring: the same code as at full size, bootstrapping included."""

import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import parties
from lowmem_resnet20.client.client import Client
from lowmem_resnet20.client.encryptions import read_entries
from lowmem_resnet20.errors import CiphertextError, EnvironmentFault, KeyFolderError, PlanError, WeightsError
from lowmem_resnet20.files.envelope import CHECKPOINT, LOGITS, PICTURE, Facts, read_envelope, write_envelope
from lowmem_resnet20.files.keystore import check_coverage, open_folder
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.resnet20 import Network, NoObserver, computation, pack_pictures
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.openfhe import engine as openfhe_engine
from lowmem_resnet20.openfhe.ciphertexts import payload_of
from lowmem_resnet20.openfhe.context import clear_rotation_keys, new_context, read_public_key, set_up_bootstrapping
from lowmem_resnet20.openfhe.evaluator import OpenfheEvaluator
from lowmem_resnet20.openfhe.library import openfhe_errors
from lowmem_resnet20.openfhe.secret import bootstrapping_rotations
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server import server
from lowmem_resnet20.server.request import Job
from miniature import (
    ARCHITECTURE,
    INSECURE_FUNCTIONAL_SET,
    INSECURE_SET,
    random_picture,
    random_weights,
)

WEIGHTS = random_weights(ARCHITECTURE)
PIXELS = random_picture(ARCHITECTURE, np.random.default_rng(9))


def evaluate(keys, picture, folder, set_=INSECURE_SET, weights=WEIGHTS, progress=None, resume=False, checkpoints=None):
    """The server on one picture; its result is folder/r.ct."""
    job = Job(picture, folder / "r.ct", checkpoints)
    [outcome] = parties.evaluate(keys, set_, [job], weights, progress or SilentProgress(), resume=resume)
    if outcome.error:
        raise outcome.error


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "exp1"
    parties.generate_keys(INSECURE_SET, folder)
    return folder


@pytest.fixture(scope="module")
def picture(keys) -> Path:
    path = keys.parent / "picture.ct"
    parties.encrypt_picture(keys, INSECURE_SET, PIXELS, WEIGHTS, path, "picture")
    return path


@pytest.fixture(scope="module")
def result(keys, picture) -> Path:
    """The server in a process of its own, with no client folder in sight, leaving checkpoints."""
    alone = keys.parent / "server machine"
    shutil.copytree(keys / "server", alone / "exp1" / "server")
    shutil.copy(picture, alone)
    script = """
import sys
from pathlib import Path
from miniature import INSECURE_SET, random_weights
from lowmem_resnet20.server.server import Server
from lowmem_resnet20.server.request import Job
folder = Path(sys.argv[1])
job = Job(folder / "picture.ct", folder / "result.ct", folder / "checkpoints")
with Server(folder / "exp1", random_weights(), set_=INSECURE_SET) as server:
    [outcome] = server.evaluate_files([job])
assert outcome.error is None
assert not any(name.startswith("lowmem_resnet20.client") for name in sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(alone)], check=True, env=environment, timeout=300)
    return alone / "result.ct"


def identity(picture: Path) -> str:
    """The id of an encrypted picture."""
    return read_envelope(picture).facts.picture


def test_a_result_names_the_picture_it_answers(keys, picture, result):
    assert read_envelope(result).facts.picture == identity(picture)
    parties.decrypt_logits(keys, INSECURE_SET, result, WEIGHTS, identity(picture))
    with pytest.raises(CiphertextError, match="result of another picture"):
        parties.decrypt_logits(keys, INSECURE_SET, result, WEIGHTS, "another")
    [entry] = read_entries(keys / "client").values()
    assert (entry.id, entry.name) == (identity(picture), "picture")
    assert (keys / "client" / "pictures.jsonl").stat().st_mode & 0o777 == 0o600


def test_other_weights_are_refused_on_either_side(keys, picture, result, tmp_path):
    """Also where only the normalisation differs, which the server does not compute with."""
    for other in (random_weights(seed=1), replace(WEIGHTS, mean=(0.1, 0.2, 0.3))):
        with pytest.raises(CiphertextError, match="of other weights"):
            evaluate(keys, picture, tmp_path, weights=other)
        with pytest.raises(CiphertextError, match="of other weights"):
            parties.decrypt_logits(keys, INSECURE_SET, result, other)


def test_what_other_code_computed_is_refused(keys, picture, result, tmp_path, monkeypatch):
    """Another margin of the refresh, which is no part of the set's fingerprint."""
    monkeypatch.setattr(type(INSECURE_SET.refresh), "margin", 1.5)
    with pytest.raises(CiphertextError, match="computes otherwise"):
        evaluate(keys, picture, tmp_path)
    with pytest.raises(CiphertextError, match="computes otherwise"):
        parties.decrypt_logits(keys, INSECURE_SET, result, WEIGHTS)


def test_logits(keys, result):
    logits = parties.decrypt_logits(keys, INSECURE_SET, result, WEIGHTS)
    slots = Clear(pack_pictures(ARCHITECTURE, WEIGHTS.normalise(PIXELS)[None]), 1)
    clear = Network(INSECURE_SET, scale(WEIGHTS, INSECURE_SET.refresh), ClearEvaluator(INSECURE_SET), NoObserver()).run(
        slots
    )
    assert logits.shape == (10,)
    assert np.abs(logits - clear.values[:10]).max() < 1e-3  # encryption noise alone
    assert np.abs(logits - forward(WEIGHTS, PIXELS)["fc"]).max() < 0.1  # and the ReLU's approximation


def test_numbers_beyond_any_logit_are_refused(keys, result, tmp_path):
    """From twice the largest calibrated logit on, as when a value left the range of a Chebyshev series."""
    sent = read_envelope(result)
    logits = parties.decrypt_logits(keys, INSECURE_SET, result, WEIGHTS)

    def decrypted(part):
        """With weights whose largest calibrated logit is that part of the result's."""
        weights = replace(WEIGHTS, largest_logit=part * float(np.abs(logits).max()))
        facts = Facts.of(Client(keys, weights, set_=INSECURE_SET).belonging, LOGITS, sent.facts.picture)
        write_envelope(tmp_path / "r.ct", sent.payload, facts)
        return parties.decrypt_logits(keys, INSECURE_SET, tmp_path / "r.ct", weights)

    assert np.abs(decrypted(0.505) - logits).max() < 1e-3  # each decryption adds a little noise
    with pytest.raises(CiphertextError, match="no logits of this network"):
        decrypted(0.495)


def test_checkpoints(keys, picture, result):
    checkpoints = result.parent / "checkpoints"
    shuffled = replace(WEIGHTS, bounds=dict(reversed(WEIGHTS.bounds.items())))  # as a file may have them
    precision = parties.inspect_checkpoints(keys, INSECURE_SET, checkpoints, shuffled, PIXELS, identity(picture))
    relus = list(ARCHITECTURE.relu_channels())
    assert [p.name for p in precision] == [n for r in relus for n in (r, f"{r}.refresh", f"{r}.relu")]
    assert all(p.bits > 12 and p.deviation < 1e-4 for p in precision if p.bootstrap)
    assert all(p.bits > 4 and p.rms <= p.worst for p in precision if not p.bootstrap)
    assert precision[0].bits > 25  # conv1 has met no refresh yet


def test_a_functional_refresh_on_shared_copies(tmp_path):
    """Set 6's way, client to server to client, and what its checkpoints show."""
    set_ = INSECURE_FUNCTIONAL_SET
    parties.generate_keys(set_, tmp_path / "exp6")
    parties.encrypt_picture(tmp_path / "exp6", set_, PIXELS, WEIGHTS, tmp_path / "p.ct", "picture")
    evaluate(tmp_path / "exp6", tmp_path / "p.ct", tmp_path, set_, checkpoints=tmp_path / "c")
    logits = parties.decrypt_logits(tmp_path / "exp6", set_, tmp_path / "r.ct", WEIGHTS)
    slots = Clear(pack_pictures(ARCHITECTURE, WEIGHTS.normalise(PIXELS)[None]), 1)
    clear = Network(set_, scale(WEIGHTS, set_.refresh), ClearEvaluator(set_), NoObserver()).run(slots)
    assert np.abs(logits - clear.values[:10]).max() < 1e-2  # encryption noise alone
    assert np.abs(logits - forward(WEIGHTS, PIXELS)["fc"]).max() < 0.3  # and the ReLU's approximation
    precision = parties.inspect_checkpoints(
        tmp_path / "exp6", set_, tmp_path / "c", WEIGHTS, PIXELS, identity(tmp_path / "p.ct")
    )
    assert all(p.bits > 8 and p.deviation < 5e-4 for p in precision if p.bootstrap)
    assert all(p.bits > 4 for p in precision)


def test_a_checkpoint_under_another_name_or_of_another_picture_is_refused(keys, picture, result, tmp_path):
    shutil.copytree(result.parent / "checkpoints", tmp_path / "c")
    shutil.copy(tmp_path / "c" / "conv1.relu.ct", tmp_path / "c" / "conv1.ct")
    with pytest.raises(CiphertextError, match="another picture or layer"):
        parties.inspect_checkpoints(keys, INSECURE_SET, tmp_path / "c", WEIGHTS, PIXELS, identity(picture))
    with pytest.raises(CiphertextError, match="another picture or layer"):
        parties.inspect_checkpoints(keys, INSECURE_SET, result.parent / "checkpoints", WEIGHTS, PIXELS, "another")


@pytest.fixture(scope="module")
def twice(keys, picture) -> tuple[list[bytes], Counter]:
    """Both results of two evaluations in one process, and how often each file of rotation keys was read for them."""
    read, load, results = Counter(), openfhe_engine.load_rotation_keys, []

    def counted(path, context):
        read[path.name] += 1
        load(path, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openfhe_engine, "load_rotation_keys", counted)
        for _run in range(2):
            evaluate(keys, picture, keys.parent)
            results.append((keys.parent / "r.ct").read_bytes())
    return results, read


def test_a_second_evaluation_in_one_process(keys, twice):
    """Keys are process-wide in OpenFHE; an evaluation must leave none behind that get in the next one's way.  What it
    computes is exact, so the results are the same to the last bit."""
    results, _ = twice
    assert results[0] == results[1]
    logits = parties.decrypt_logits(keys, INSECURE_SET, keys.parent / "r.ct", WEIGHTS)
    assert np.abs(logits - forward(WEIGHTS, PIXELS)["fc"]).max() < 0.3


def test_keys_of_every_stage_are_read_once_and_others_by_stage(keys, twice):
    """By each of two evaluations."""
    _, read = twice
    stages = open_folder(keys / "server", INSECURE_SET).stages.values()
    users = Counter(name for names in stages for name in names)
    assert read == {name: 2 if count == len(stages) else 2 * count for name, count in users.items()}
    assert {1, 3} <= set(users.values())


@pytest.mark.parametrize("set_", [INSECURE_SET, INSECURE_FUNCTIONAL_SET], ids=["bootstrapping", "functional"])
def test_bootstrapping_rotations_are_those_openfhe_makes_keys_for(set_):
    """Asked on a short modulus, OpenFHE names the same rotations as on the set's own."""
    context = new_context(set_)
    secret = context.KeyGen().secretKey
    index = {pow(5, step, 2 * set_.ring_dimension): step for step in range(set_.full_slots)}
    for stage, steps in bootstrapping_rotations(set_).items():
        clear_rotation_keys()
        context.ClearBootstrapPrecom()
        set_up_bootstrapping(context, set_, set_.stage_slots(stage), precompute=True)
        context.EvalBootstrapKeyGen(secret, set_.stage_slots(stage))
        made = context.GetExistingEvalAutomorphismKeyIndices(secret.GetKeyTag())
        assert {index[i] for i in made if i in index} == steps
    clear_rotation_keys()


# --- the boundary -----------------------------------------------------------------------------------------


def test_permissions(keys):
    assert (keys / "client").stat().st_mode & 0o777 == 0o700
    assert (keys / "client" / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_secret_key_that_others_can_read_is_refused(keys, result, tmp_path):
    shutil.copytree(keys / "client", tmp_path / "client")
    (tmp_path / "client" / "secret.key").chmod(0o644)
    with pytest.raises(KeyFolderError, match="can be read by others"):
        parties.decrypt_logits(tmp_path, INSECURE_SET, result, WEIGHTS)


# --- refusals ---------------------------------------------------------------------------------------------


def test_keys_are_never_overwritten(keys):
    before = {p: p.stat().st_mtime_ns for p in keys.rglob("*")}
    with pytest.raises(KeyFolderError, match="exists"):
        parties.generate_keys(INSECURE_SET, keys)
    assert {p: p.stat().st_mtime_ns for p in keys.rglob("*")} == before


def test_an_interrupted_key_generation_leaves_nothing(tmp_path):
    class Interrupt(SilentProgress):
        def step(self, stage, name):
            if name == "manifests":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parties.generate_keys(INSECURE_SET, tmp_path / "exp1", progress=Interrupt())
    assert list(tmp_path.iterdir()) == []
    clear_rotation_keys()


def test_ciphertexts_of_other_keys_are_refused(keys, picture, tmp_path):
    parties.generate_keys(INSECURE_SET, tmp_path / "exp1")
    with pytest.raises(CiphertextError, match="other keys"):
        evaluate(tmp_path / "exp1", picture, tmp_path)


def test_logits_are_not_a_picture(keys, picture, result, tmp_path):
    with pytest.raises(CiphertextError, match="encrypted logits, not an encrypted picture"):
        evaluate(keys, result, tmp_path)
    with pytest.raises(CiphertextError, match="an encrypted picture, not encrypted logits"):
        parties.decrypt_logits(keys, INSECURE_SET, picture, WEIGHTS)


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "foreign", "missing"])
def test_damaged_ciphertexts(keys, picture, tmp_path, damage):
    data = bytearray(picture.read_bytes())
    path = tmp_path / "p.ct"
    if damage == "altered":
        data[-1000] ^= 1
    content = {"truncated": data[:-10], "altered": data, "empty": b"", "foreign": b"\x89PNG" + data}.get(damage)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CiphertextError):
        evaluate(keys, path, tmp_path)


def test_a_ciphertext_on_too_few_primes_is_refused(keys, picture, tmp_path):
    client = Client(keys, WEIGHTS, set_=INSECURE_SET)
    low = client.context.Compress(parties.read_ciphertext(keys, INSECURE_SET, picture, PICTURE, WEIGHTS), 2)
    write_envelope(tmp_path / "low.ct", payload_of(low), Facts.of(client.belonging, PICTURE))
    with pytest.raises(CiphertextError, match="level to compute on"):
        evaluate(keys, tmp_path / "low.ct", tmp_path)


def test_weights_of_another_network_are_refused(keys, picture, tmp_path):
    other = random_weights(replace(ARCHITECTURE, blocks_per_stage=2))
    with pytest.raises(WeightsError, match="another network"):
        evaluate(keys, picture, tmp_path, weights=other)


def test_want_of_memory_is_told(monkeypatch):
    monkeypatch.setattr(server, "available_bytes", lambda: 4 << 30)
    server.check_memory(replace(INSECURE_SET, server_bytes=4 << 30))
    hungry = replace(INSECURE_SET, server_bytes=5 << 30)
    assert computation(hungry) == computation(INSECURE_SET)
    with pytest.raises(EnvironmentFault, match=r"takes 5.00 GiB of memory, and 4.00 GiB are free"):
        server.check_memory(hungry)


def test_a_missing_rotation_is_found_before_openfhe_would_end_the_process(keys):
    manifest = open_folder(keys / "server", INSECURE_SET)
    check_coverage(keys / "server", manifest, INSECURE_SET)
    rotations = {name: [s for s in steps if s != 16] for name, steps in manifest.rotations.items()}
    with pytest.raises(KeyFolderError, match="lacks keys that this network needs: rotations by 16 in stage 1"):
        check_coverage(keys / "server", replace(manifest, rotations=rotations), INSECURE_SET)


def test_levels_are_checked_before_openfhe_is_called():
    context = new_context(INSECURE_SET)
    ev = OpenfheEvaluator(INSECURE_SET, context, lambda stage: None)
    public = context.KeyGen().publicKey
    level = INSECURE_SET.multiplicative_depth - 1
    low = context.Encrypt(public, context.MakeCKKSPackedPlaintext(np.ones(256), 1, level, None, 256))
    assert ev.levels(low) == 0
    with pytest.raises(PlanError, match="no level"):
        ev.products([low], lambda i: np.ones(256))
    with pytest.raises(PlanError, match="levels"):
        ev.chebyshev(low, (0.0, 1.0))
    with pytest.raises(PlanError, match="lowered"):
        ev.lower(low, 1)


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), RecursionError("too deep"), NotImplementedError(), MemoryError()]
)
def test_a_fault_of_this_machine_is_not_the_ciphertexts(keys, picture, tmp_path, monkeypatch, error):
    """They have the types of OpenFHE's exceptions, and are no reason to refuse a picture."""

    def fails(*_):
        raise error

    monkeypatch.setattr(OpenfheEvaluator, "rotate", fails)
    with pytest.raises(type(error)) as raised:
        evaluate(keys, picture, tmp_path)
    assert raised.value is error


def test_what_openfhe_refuses_to_compute_is_the_ciphertexts_fault(keys, picture, tmp_path, monkeypatch):
    other = new_context(INSECURE_FUNCTIONAL_SET)
    plaintext = other.MakeCKKSPackedPlaintext(np.ones(256), 1, 0, None, 256)
    foreign = other.Encrypt(other.KeyGen().publicKey, plaintext)
    rotate = OpenfheEvaluator.rotate

    def rotates_and_adds(evaluator, x, steps):
        return [evaluator.add(y, foreign) for y in rotate(evaluator, x, steps)]

    monkeypatch.setattr(OpenfheEvaluator, "rotate", rotates_and_adds)
    with pytest.raises(CiphertextError, match=rf"{picture} cannot be evaluated: .*\(\): "):
        evaluate(keys, picture, tmp_path)


@pytest.mark.parametrize("error", [RecursionError("too deep"), NotImplementedError()])
def test_pythons_own_errors_are_not_openfhes(error):
    with pytest.raises(type(error)), openfhe_errors(CiphertextError):
        raise error
    with pytest.raises(CiphertextError, match="two lines"), openfhe_errors(CiphertextError):
        raise RuntimeError("two\nlines")


def test_a_key_that_the_system_does_not_open_is_not_damaged(keys):
    """Of any failure to open a file OpenFHE says that it cannot be read."""
    path = keys / "server" / "public.key"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # from here on none is free once the limit is this
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(EnvironmentFault, match=r"cannot read .*public\.key: Too many open files"):
            read_public_key(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_checkpoint_is_named_in_errors(tmp_path, keys, picture):
    ours, sent = Client(keys, WEIGHTS, set_=INSECURE_SET).belonging, read_envelope(picture)
    write_envelope(tmp_path / "c.ct", sent.payload, Facts.of(ours, CHECKPOINT, layer="conv1"))
    with pytest.raises(CiphertextError, match="a checkpoint, not encrypted logits"):
        parties.decrypt_logits(keys, INSECURE_SET, tmp_path / "c.ct", WEIGHTS)


def test_noise_that_openfhe_refuses_to_decode_is_told_in_our_words(keys, tmp_path):
    """So end values far out of range of a Chebyshev series; here, what another key's ciphertext decrypts to."""
    client = Client(keys, WEIGHTS, set_=INSECURE_SET)
    context = client.context
    plaintext = context.MakeCKKSPackedPlaintext(np.ones(256), 1, 0, None, 256)
    ciphertext = context.Compress(context.Encrypt(context.KeyGen().publicKey, plaintext), 2)
    write_envelope(tmp_path / "r.ct", payload_of(ciphertext), Facts.of(client.belonging, LOGITS))
    with pytest.raises(CiphertextError, match=r"r.ct does not decrypt: .* approximation error is too high") as caught:
        client.decrypt_slots(read_envelope(tmp_path / "r.ct"))
    assert "ckkspacked" not in caught.value.message and "left its range" in caught.value.hint
