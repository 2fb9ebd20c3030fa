"""The network by the native evaluator, from the client through the server and back, on the miniature."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import openfhe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rings import primes, root_of_unity

import parties
from lowmem_resnet20.client import Client
from lowmem_resnet20.errors import CiphertextError, EnvironmentFault, ExitCode, KeyFolderError
from lowmem_resnet20.files.envelope import PICTURE, Facts, read_envelope, write_envelope
from lowmem_resnet20.files.keystore import keys_set, open_folder
from lowmem_resnet20.native import engine as engine_module
from lowmem_resnet20.native.keys.keyplan import key_bytes, key_plan, longest
from lowmem_resnet20.native.keys.keys import key_path
from lowmem_resnet20.native.keys.openfhe_files import read_ciphertext
from lowmem_resnet20.native.ring.chain import Chain, read_chain_file
from lowmem_resnet20.network.clear import Clear, ClearEvaluator
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.parameters import PICTURE_LEVELS, ParameterSet
from lowmem_resnet20.network.resnet20 import Network, NoObserver, group_logits, pack_pictures
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.network.weights import save_weights
from lowmem_resnet20.openfhe.ciphertexts import payload_of
from lowmem_resnet20.openfhe.context import read_public_key
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server import process as serverprocess
from lowmem_resnet20.server import server
from lowmem_resnet20.server.request import Evaluation, Job
from miniature import (
    ARCHITECTURE,
    INSECURE_LEAN_SET,
    INSECURE_NATIVE_SET,
    NATIVE_NOISE,
    random_picture,
    random_weights,
)

WEIGHTS = random_weights()
PICTURES = [random_picture(ARCHITECTURE, np.random.default_rng(seed)) for seed in (9, 10)]
FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
EDGE = 600  # bytes at both ends, where the structure is; between them are coefficients
TESTS = Path(__file__).parents[1]

#: The server's process, but for the sets, which are the miniature's here; leaves what it imported and started.
SERVE = """
import json, os, sys
started = []
sys.addaudithook(lambda event, arguments: started.append(event) if event in ("subprocess.Popen", "os.fork") else None)
for name in os.environ.get("BLOCKED", "").split():
    sys.modules[name] = None
if lacking := os.environ.get("LACKING"):
    import llvmlite.binding
    host = llvmlite.binding.get_host_cpu_features() | {lacking: False}
    llvmlite.binding.get_host_cpu_features = lambda: llvmlite.binding.FeatureMap(host)
import miniature
from lowmem_resnet20.server import worker
from lowmem_resnet20.network import parameters
for set_ in (miniature.INSECURE_NATIVE_SET, miniature.INSECURE_LEAN_SET):
    parameters.PARAMETER_SETS[set_.number, set_.engine] = set_
code = worker.main()
with open(os.environ["SEEN"], "w") as file:
    json.dump([sorted(sys.modules), started], file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Kept:
    """Keys in folder/expN, two pictures 0.ct and 1.ct with their ids, and weights."""

    folder: Path
    set: ParameterSet
    ids: list[str]

    @property
    def keys(self) -> Path:
        return self.folder / f"exp{self.set.number}"

    def evaluate(self, *names: str, keys: Path | None = None) -> list[server.Outcome]:
        """Pictures given as INPUT>OUTPUT, in this process."""
        jobs = [Job(*(self.folder / f"{part}.ct" for part in name.split(">"))) for name in names]
        return parties.evaluate(keys or self.keys, self.set, jobs, WEIGHTS, SilentProgress())

    def logits(self, name: str, picture: int) -> np.ndarray:
        return parties.decrypt_logits(self.keys, self.set, self.folder / f"{name}.ct", WEIGHTS, self.ids[picture])

    def clear(self, picture: int) -> np.ndarray:
        """What an evaluation without noise gives."""
        ev, slots = ClearEvaluator(self.set), pack_pictures(ARCHITECTURE, WEIGHTS.normalise(PICTURES[picture])[None])
        network = Network(self.set, scale(WEIGHTS, self.set.refresh), ev, NoObserver())
        return network.run(Clear(slots, PICTURE_LEVELS)).values[: ARCHITECTURE.classes]


def make(folder: Path, set_: ParameterSet) -> Kept:
    parties.generate_keys(set_, folder / f"exp{set_.number}")
    save_weights(folder / "weights", WEIGHTS)
    ids = [
        parties.encrypt_picture(folder / f"exp{set_.number}", set_, pixels, WEIGHTS, folder / f"{i}.ct", "picture")
        for i, pixels in enumerate(PICTURES)
    ]
    return Kept(folder, set_, ids)


@pytest.fixture(scope="module", params=[INSECURE_NATIVE_SET, INSECURE_LEAN_SET], ids=lambda s: s.refresh.transforms)
def kept(request, tmp_path_factory) -> Kept:
    return make(tmp_path_factory.mktemp("engine"), request.param)


@pytest.fixture(scope="module")
def time(tmp_path_factory) -> Kept:
    """Keys of the set of least time."""
    return make(tmp_path_factory.mktemp("time"), INSECURE_NATIVE_SET)


def run_server(kept: Kept, **environment: str) -> tuple[serverprocess.ServerRun, tuple[list[str], list[str]]]:
    """As the command line runs it; returns what it answered, and the modules it had and the processes it started."""
    seen = kept.folder / "seen"
    seen.unlink(missing_ok=True)
    jobs = tuple(Job(kept.folder / f"{i}.ct", kept.folder / f"r{i}.ct") for i in (0, 1))
    request = Evaluation(kept.set.number, kept.keys, jobs, kept.folder / "weights")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"PYTHONPATH": str(TESTS), "SEEN": str(seen)} | environment).items():
            patch.setenv(name, value)
        patch.setattr(serverprocess.child, "command", lambda module: [sys.executable, "-c", SERVE])
        return serverprocess.run_server(request, SilentProgress(), sys.stderr), json.loads(seen.read_text())


# --- the whole protocol -----------------------------------------------------------------------------------


def test_the_whole_protocol(kept):
    """Two pictures, by a server of its own process, which loads no OpenFHE and starts no other."""
    run, (modules, started) = run_server(kept)
    assert [picture.get("error") for picture in run.pictures] == [None, None]
    assert run.peak_bytes > 1 << 26
    assert "lowmem_resnet20.native.engine" in modules and "numba" in modules
    assert not {"openfhe", "lowmem_resnet20.openfhe.library", "lowmem_resnet20.openfhe.engine"} & set(modules)
    assert started == []
    for i in (0, 1):
        found, exact = kept.logits(f"r{i}", i), forward(WEIGHTS, PICTURES[i])["fc"]
        assert np.abs(found - kept.clear(i)).max() < NATIVE_NOISE
        assert np.abs(found - exact).max() < 0.1  # the ReLU is an approximation
    assert np.abs(kept.logits("r0", 0) - kept.logits("r1", 1)).max() > 2 * NATIVE_NOISE
    with pytest.raises(CiphertextError, match="the result of another picture"):
        kept.logits("r0", 1)


def test_a_second_evaluation_in_one_process_gives_the_same_bytes(kept):
    """No ciphertext is random but the picture's, and nothing of the first is left."""
    for name in ("first", "second"):
        [outcome] = kept.evaluate(f"0>{name}")
        assert outcome.error is None and outcome.seconds > 0
    first, second = (read_envelope(kept.folder / f"{name}.ct").payload for name in ("first", "second"))
    assert first == second
    assert np.abs(kept.logits("second", 0) - kept.clear(0)).max() < NATIVE_NOISE


def not_read(path: Path, read):
    """OpenFHE's ``read``, which must not be given the payload of ``path``."""
    sent = read_envelope(path).payload

    def read_ours(data, form):
        assert sent not in data, "OpenFHE must not see what a stranger sent"
        return read(data, form)

    return read_ours


def test_precision_by_layer(kept, tmp_path):
    """Every layer's checkpoint; the noise of a refresh, in the unit of what is encrypted."""
    job = Job(kept.folder / "0.ct", tmp_path / "r.ct", tmp_path / "checkpoints")
    [outcome] = parties.evaluate(kept.keys, kept.set, [job], WEIGHTS, SilentProgress())
    assert outcome.error is None
    layers = parties.inspect_checkpoints(kept.keys, kept.set, job.checkpoints, WEIGHTS, PICTURES[0], kept.ids[0])
    relus = list(ARCHITECTURE.relu_channels())
    assert [layer.name for layer in layers] == [name + part for name in relus for part in ("", ".refresh", ".relu")]
    for layer in layers:
        if layer.bootstrap:
            assert layer.deviation < 1e-3 and layer.bits > 5, layer  # by its design the worst slot has 5.4
    assert max(layer.worst / max(layer.largest, -layer.least) for layer in layers) < 0.1
    path = max(job.checkpoints.iterdir())
    write_envelope(path, b"\xff" * 4000, read_envelope(path).facts)
    with pytest.MonkeyPatch.context() as patch:  # a server may have sent it
        for name in ("DeserializeCiphertext", "DeserializeCiphertextString"):
            patch.setattr(openfhe, name, not_read(path, getattr(openfhe, name)))
        with pytest.raises(CiphertextError, match=f"{path.name} holds no ciphertext of these parameters"):
            parties.inspect_checkpoints(kept.keys, kept.set, job.checkpoints, WEIGHTS, PICTURES[0], kept.ids[0])


# --- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed", [{"blocks_per_stage": 2}, {"classes": 100, "input_channels": 1}], ids=["deeper", "100 classes, grey"]
)
def test_one_folder_serves_another_network_that_needs_the_same_keys(time, tmp_path, changed):
    """Also of more classes than a channel of the last stage has slots; ciphertexts belong to their own."""
    set_ = replace(time.set, architecture=replace(ARCHITECTURE, **changed))
    weights, job = random_weights(set_.architecture), Job(tmp_path / "picture.ct", tmp_path / "result.ct")
    pixels = PICTURES[0][: set_.architecture.input_channels]
    identity = parties.encrypt_picture(time.keys, set_, pixels, weights, job.ciphertext, "picture")
    [outcome] = parties.evaluate(time.keys, set_, [job], weights, SilentProgress())
    assert outcome.error is None
    found = parties.decrypt_logits(time.keys, set_, job.output, weights, identity)
    network = Network(set_, scale(weights, set_.refresh), ClearEvaluator(set_), NoObserver())
    slots = Clear(pack_pictures(set_.architecture, weights.normalise(pixels)[None]), PICTURE_LEVELS)
    [exact] = group_logits(set_, network.run(slots).values)
    assert exact.shape == (set_.architecture.classes,)
    assert np.abs(found - exact).max() < NATIVE_NOISE
    [outcome] = parties.evaluate(time.keys, time.set, [job], WEIGHTS, SilentProgress())
    assert outcome.error is not None and "is of other weights" in outcome.error.message


def refused(kept: Kept, folder: Path, monkeypatch) -> str:
    """The one line that a key folder is refused with, before anything is compiled or computed."""
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "make_ready", lambda _: pytest.fail("it must be refused before"))
        patch.setattr(server, "read_envelope", lambda _: pytest.fail("it must be refused before"))
        with pytest.raises(KeyFolderError) as caught:
            kept.evaluate("0>refused", keys=folder)
    assert "\n" not in caught.value.message and caught.value.exit_code == ExitCode.KEYS
    assert not (kept.folder / "refused.ct").exists() and not (kept.folder / "refused.ct.unfinished").exists()
    return caught.value.message


def copied(kept: Kept, folder: Path) -> Path:
    """A copy of the server's key folder, the files the same until one is written anew."""
    (folder / "server").mkdir(parents=True)
    for path in (kept.keys / "server").iterdir():
        os.link(path, folder / "server" / path.name)
    return folder


def replace_file(folder: Path, name: str, data: bytes | None) -> None:
    """Put other bytes into a key folder, or take a file out, and make the manifest fit."""
    path, manifest = folder / "server" / name, folder / "server" / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["files"].pop(name)
    path.unlink()
    if data is not None:
        path.write_bytes(data)
        fields["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.unlink()
    manifest.write_text(json.dumps(fields))


def key_names(kept: Kept) -> list[str]:
    return sorted(path.name for path in (kept.keys / "server").glob("*.key") if path.name != "public.key")


def test_files_have_the_sizes_that_are_planned_and_no_other_is_there(kept):
    planned = longest(key_plan(kept.set))
    assert key_names(kept) == sorted(key_path(kept.keys / "server", name).name for name in planned)
    for name, towers in planned.items():
        assert key_path(kept.keys / "server", name).stat().st_size == key_bytes(kept.set, towers), name


def test_a_key_that_is_missing_or_damaged_is_refused(kept, tmp_path, monkeypatch):
    """By the manifest, whichever key it is."""
    for i, name in enumerate((key_names(kept)[0], key_names(kept)[-1], "chain.json")):
        folder = copied(kept, tmp_path / str(i))
        path = folder / "server" / name
        data = path.read_bytes()
        for damage, message in (
            (None, "is missing"),
            (data[:-1], f"has {len(data) - 1} bytes instead of {len(data)}"),
            (data[:-1] + bytes([data[-1] ^ 1]), "has been altered"),
        ):
            path.unlink(missing_ok=True)
            if damage is not None:
                path.write_bytes(damage)
            assert refused(kept, folder, monkeypatch) == f"{path} {message}"


def test_a_key_with_a_digest_that_fits_is_refused_by_what_it_is(kept, tmp_path, monkeypatch):
    """Left out of the folder and its manifest, cut short, another's, cut to fewer towers than it is used at."""
    first, second, *_ = (name for name in key_names(kept) if name.startswith("rotation-"))
    one, other = ((kept.keys / "server" / name).read_bytes() for name in (first, second))
    for i, (data, message) in enumerate((
        (None, f"its manifest does not name {first}"),
        (one[:-4096], "bytes"),
        (one[:4096], "bytes"),
        (one[:100], "is not a native key"),
        (bytes(len(one)), "is not a native key"),
        (other, "does not hold the rotation-"),
        (one.replace(b'"towers": ', b'"towers": 1', 1), "key of this folder"),
    )):  # fmt: skip
        folder = copied(kept, tmp_path / str(i))
        replace_file(folder, first, data)
        assert message in refused(kept, folder, monkeypatch), i


def test_a_file_that_the_manifest_does_not_name_is_not_read(kept, tmp_path, monkeypatch):
    """It is there, but nobody vouches for it."""
    for name in ("chain.json", key_names(kept)[0]):
        folder = copied(kept, tmp_path / name)
        data = (folder / "server" / name).read_bytes()
        replace_file(folder, name, None)
        (folder / "server" / name).write_bytes(data)
        assert f"its manifest does not name {name}" in refused(kept, folder, monkeypatch)


def test_keys_of_another_chain_are_refused(time, tmp_path, monkeypatch):
    """With digests that fit: a chain with other primes, other roots, fewer towers, or such as nothing computes with."""
    fields = json.loads((time.keys / "server" / "chain.json").read_text())
    q, p, n = fields["q"], fields["p"], fields["dimension"]
    small = primes(33, n, 1)[0]
    changes = {
        "swapped": {"q": [q[0], q[2], q[1], *q[3:]]},
        "root": {"q": [[q[0][0], q[0][0] - q[0][1]], *q[1:]]},
        "no root": {"q": [[q[0][0], 3], *q[1:]]},
        "shorter": {"q": q[:-1]},
        "no special": {"p": []},
        "small special": {"p": [[small, root_of_unity(small, n)], *p[1:]]},
        "digits": {"digits": fields["digits"] + 1},
        "ring": {"dimension": fields["dimension"] // 2},
        "type": {"dimension": str(fields["dimension"])},
        "format": {"format": 0},
    }
    for name, change in changes.items():
        folder = copied(time, tmp_path / name)
        replace_file(folder, "chain.json", json.dumps(fields | change).encode())
        message = refused(time, folder, monkeypatch)
        assert "chain.json" in message or "does not hold the" in message, name


def test_a_chain_whose_moduli_share_a_factor_is_refused(time, tmp_path):
    """With keys that name its digest, an evaluation would find out in the middle that an inverse is missing.  The last
    is twice a prime: it shares a factor with the ring's dimension."""
    path = tmp_path / "chain.json"
    fields = json.loads((time.keys / "server" / "chain.json").read_text())
    q, p = fields["q"], fields["p"]
    path.write_text(json.dumps(fields))
    assert read_chain_file(path) == read_chain_file(time.keys / "server" / "chain.json")
    prime, root = q[0]
    even = [2 * prime, root if root % 2 else root + prime]
    assert pow(even[1], fields["dimension"], even[0]) == even[0] - 1
    for change in (
        {"p": [p[0], q[0], *p[2:]]},
        {"p": [p[0], p[0], *p[2:]]},
        {"q": [q[1], q[1], *q[2:]]},
        {"p": [even, *p[1:]]},
    ):
        path.write_text(json.dumps(fields | change))
        with pytest.raises(KeyFolderError, match="does not describe a chain of primes"):
            read_chain_file(path)


NUMBERS = st.integers(-2, 1 << 64) | st.sampled_from([0, 1, 2, 3, 1 << 28, (1 << 30) - 1, 1 << 30, 4096, 8192])


@settings(FUZZ, max_examples=40)
@given(st.sampled_from(["q", "p"]), st.integers(0, 40), st.integers(0, 1), NUMBERS)
def test_fuzz_chain(time, tmp_path_factory, which, index, part, number):
    """Any other number in it is a refusal, and nothing worse."""
    folder = copied(time, tmp_path_factory.mktemp("chain"))
    fields = json.loads((folder / "server" / "chain.json").read_text())
    pair = fields[which][index % len(fields[which])]
    changed, pair[part] = pair[part] != number, number
    replace_file(folder, "chain.json", json.dumps(fields).encode())
    with pytest.MonkeyPatch.context() as patch:
        assert not changed or refused(time, folder, patch)


def test_a_manifest_of_an_unknown_engine_is_refused(kept, tmp_path):
    folder = copied(kept, tmp_path / "other")
    manifest = folder / "server" / "manifest.json"
    text = manifest.read_text().replace('"engine": "native"', '"engine": "abacus"')
    manifest.unlink()
    manifest.write_text(text)
    with pytest.raises(KeyFolderError, match="names the engine 'abacus', which set"):
        keys_set(folder / "server", kept.set.number)
    with pytest.raises(KeyFolderError, match="holds keys for the engine abacus, not native"):
        open_folder(folder / "server", kept.set)


# --- ciphertexts of strangers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(time):
    """The engine on the keys of least time, and the picture's payload."""
    manifest = open_folder(time.keys / "server", time.set)
    opened = server.open_engine(time.keys / "server", time.set, manifest, SilentProgress())
    yield opened, read_envelope(time.folder / "0.ct").payload
    opened.close()


CHANGES = st.lists(st.tuples(st.integers(-EDGE, EDGE - 1), st.integers(0, 255)), min_size=1, max_size=6)


def error_or_ciphertext(opened, payload: bytes) -> None:
    """Refused in a line, or a ciphertext whose residues can be computed with.  No process is started."""
    engine = opened[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("no child may be started"))
        try:
            x = engine.read(payload, Path("p.ct"))
        except CiphertextError as error:
            assert error.message.startswith("p.ct holds no ciphertext") and "\n" not in error.message
        else:
            moduli = np.array(engine.arithmetic.moduli[: x.towers])[:, None]
            assert x.residues.shape == (2, x.towers, engine.set.ring_dimension)
            assert (x.residues >= 0).all() and (x.residues < moduli).all()


@FUZZ
@given(CHANGES)
def test_fuzz_altered_payload(opened, changes):
    payload = bytearray(opened[1])
    for position, value in changes:
        payload[position] = value
    error_or_ciphertext(opened, bytes(payload))


@FUZZ
@given(st.integers(0, 5000) | st.integers(0, 200_000), st.binary(max_size=40))
def test_fuzz_cut_payload(opened, length, tail):
    error_or_ciphertext(opened, opened[1][:length] + tail)


@FUZZ
@given(st.binary(max_size=2000), st.sampled_from([0, 4, 60, 300]))
def test_fuzz_any_payload(opened, payload, kept_bytes):
    error_or_ciphertext(opened, opened[1][:kept_bytes] + payload)


def test_ciphertexts_that_are_no_picture_are_refused(time, tmp_path):
    """Of these keys and with facts that fit, but of another scale, level or number of slots."""
    client = Client(time.keys, WEIGHTS, set_=time.set)
    public_key = read_public_key(time.keys / "client" / "public.key")
    slots = pack_pictures(ARCHITECTURE, WEIGHTS.normalise(PICTURES[0])[None])
    level = time.set.multiplicative_depth - time.set.reserve_levels - PICTURE_LEVELS

    def sealed(values: np.ndarray, *, degree: int = 1, at: int = level) -> bytes:
        plaintext = client.context.MakeCKKSPackedPlaintext(values, degree, at, None, len(values))
        return payload_of(client.context.Encrypt(public_key, plaintext))

    whole = sealed(slots)
    wrong = {
        "scale": sealed(slots, degree=2),
        "level": sealed(slots, at=level + PICTURE_LEVELS),
        "lowest level": sealed(slots, at=time.set.multiplicative_depth),
        "slots": sealed(np.tile(slots, 2)),
        "fewer slots": sealed(slots[: len(slots) // 2]),
        "two": whole + whole,
        "nothing": b"",
    }
    facts = Facts.of(client.belonging, PICTURE)
    for name, payload in {**wrong, "right": whole}.items():
        write_envelope(time.folder / "forged.ct", payload, facts)
        [outcome] = time.evaluate("forged>none")
        if name == "right":
            assert outcome.error is None
        else:
            assert isinstance(outcome.error, CiphertextError) and "\n" not in outcome.error.message, name
            assert not (time.folder / "none.ct").exists(), name


def test_a_stranger_does_not_spoil_the_results_of_others(time):
    """A picture whose file begins otherwise, as far as anything is accepted, beside an honest one of the same keys: the
    honest one's result is what it is alone.  Settings of the context that nothing here reads are at its end."""
    envelope = read_envelope(time.folder / "1.ct")
    chain = read_chain_file(time.keys / "server" / "chain.json")
    beginning = read_ciphertext(envelope.payload, chain).form.beginning
    forged = bytearray(envelope.payload)
    forged[_accepted(forged, chain, len(beginning))] ^= 1
    facts = Facts(**asdict(envelope.facts) | {"picture": ""})
    write_envelope(time.folder / "forged.ct", bytes(forged), facts)
    [alone] = time.evaluate("0>alone")
    for names in (["0>r0", "forged>r1"], ["forged>r1", "0>r0"]):
        outcomes = time.evaluate(*names)
        assert [outcome.error for outcome in outcomes] == [None, None] and alone.error is None
        assert read_envelope(time.folder / "r0.ct").payload == read_envelope(time.folder / "alone.ct").payload
        assert read_envelope(time.folder / "r1.ct").payload.startswith(bytes(forged[: len(beginning)]))


def _accepted(payload: bytearray, chain: Chain, end: int) -> int:
    """The first byte of the beginning with which another is accepted too."""
    for at in range(end):
        changed = bytearray(payload)
        changed[at] ^= 1
        with suppress(CiphertextError):
            read_ciphertext(changed, chain)
            return at
    raise AssertionError("every byte is checked")


# --- machines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"BLOCKED": "numba llvmlite"}, "the native evaluator cannot be loaded: "),
        ({"BLOCKED": "llvmlite.binding"}, "the native evaluator cannot be loaded: "),
    ],
)
def test_a_machine_that_cannot(time, capfd, environment, message):
    """One line, what to do, and the exit code for what a machine lacks."""
    with pytest.raises(EnvironmentFault) as caught:
        run_server(time, **environment)
    assert caught.value.message.startswith(message) and capfd.readouterr().err == ""
    assert caught.value.hint == "use keys for OpenFHE's evaluator: lowmem-resnet20 generate_keys N engine openfhe"


def test_what_the_user_asks_for_in_vain_is_told(time, capfd):
    """And variables of numba's are heeded by none: they ask for an evaluation in the interpreter."""
    ignored = {"NUMBA_DISABLE_JIT": "1", "NUMBA_NUM_THREADS": "0", "NUMBA_CPU_NAME": "generic"}
    run, _ = run_server(time, LOWMEM_RESNET20_THREADS="many", **ignored)
    assert [picture.get("error") for picture in run.pictures] == [None, None]
    told = "LOWMEM_RESNET20_THREADS of the environment is no number of threads, and not heeded: 'many'"
    assert capfd.readouterr().err == f"lowmem-resnet20: warning: {told}\n"


def test_the_client_needs_no_numba():
    """So that where numba cannot be loaded the keys of the other engine can be made, and all that the client does."""
    program = "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None; "
    program += "import lowmem_resnet20.client.client, lowmem_resnet20.client.precision, lowmem_resnet20.server.server"
    subprocess.run([sys.executable, "-c", program], check=True)
