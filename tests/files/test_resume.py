"""An evaluation that dies goes on at the last complete part of the network, with the same result, and no other run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import parties
from lowmem_resnet20.errors import CiphertextError
from lowmem_resnet20.files.envelope import read_envelope, write_envelope
from lowmem_resnet20.files.resume import Unfinished
from lowmem_resnet20.network.resnet20 import plan
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server.request import Job
from miniature import INSECURE_SHORT_NATIVE_SET, INSECURE_SHORT_SET, random_picture, random_weights
from processes import WITHOUT_TORCH

SETS = {set_.engine: set_ for set_ in (INSECURE_SHORT_SET, INSECURE_SHORT_NATIVE_SET)}
ARCHITECTURE = INSECURE_SHORT_SET.architecture
WEIGHTS = random_weights(ARCHITECTURE)
PICTURES = [random_picture(ARCHITECTURE, np.random.default_rng(seed)) for seed in (9, 10)]
#: For what files alone decide: it is the same with either engine, and the native one is the faster.
of_either_engine = pytest.mark.parametrize("folder", [INSECURE_SHORT_NATIVE_SET.engine], indirect=True, scope="module")
PARTS = ["conv1", "layer1.0", "layer2.0.downsample", "layer2.0"]
#: Where a run goes on is the plan's; an engine reads what it wrote, most of it where a shortcut waits beside a branch.
KILLED = [("native", part) for part in PARTS] + [("openfhe", "layer2.0.downsample")]

SERVER = """
import os, signal, sys
from pathlib import Path
from miniature import random_weights
from test_resume import ARCHITECTURE, SETS
import parties
from lowmem_resnet20.server.request import Job
from lowmem_resnet20.files.resume import Unfinished

folder, point, word = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
save = Unfinished.save

def save_and_die(self, part, state):
    if part == point and word == "during":
        import lowmem_resnet20.files.resume as resume
        resume.atomic_write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # ciphertexts written, manifest not
    save(self, part, state)
    if part == point:
        os.kill(os.getpid(), signal.SIGKILL)

Unfinished.save = save_and_die
job = Job(folder / "0.ct", folder / "r.ct")
parties.evaluate(folder / "exp6", SETS[folder.name], [job], random_weights(ARCHITECTURE))
"""


def make_folder(engine: str, tmp_path_factory) -> Path:
    """Keys and two encrypted pictures, 0.ct and 1.ct, in a folder with the engine's name."""
    folder = tmp_path_factory.mktemp("resume") / engine
    folder.mkdir()
    set_ = SETS[engine]
    parties.generate_keys(set_, folder / "exp6")
    for i, pixels in enumerate(PICTURES):
        parties.encrypt_picture(folder / "exp6", set_, pixels, WEIGHTS, folder / f"{i}.ct", "picture")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {engine: make_folder(engine, tmp_path_factory) for engine in SETS}


@pytest.fixture(scope="module", params=SETS)
def folder(request, folders) -> Path:
    return folders[request.param]


class Steps(SilentProgress):
    """Keeps what was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []
        self.expected: list[tuple[str, str]] = []

    def step(self, stage: str, name: str) -> None:
        self.seen.append((stage, name))

    def expect(self, steps) -> None:
        self.expected = [(step.stage, step.name) for step in steps]


def evaluate(folder: Path, names: list[str], *, resume: bool = False, weights=WEIGHTS) -> tuple[list, Steps]:
    """Outcomes for pictures given as INPUT>OUTPUT, and what was shown."""
    jobs = [Job(*(folder / f"{part}.ct" for part in name.split(">"))) for name in names]
    steps = Steps()
    return parties.evaluate(folder / "exp6", SETS[folder.name], jobs, weights, steps, resume=resume), steps


def result(folder: Path, name: str) -> bytes:
    """Its numbers: an evaluation is exact, so of one ciphertext they are the same to the last bit."""
    return read_envelope(folder / f"{name}.ct").payload


def logits(folder: Path, name: str) -> np.ndarray:
    return parties.decrypt_logits(folder / "exp6", SETS[folder.name], folder / f"{name}.ct", WEIGHTS)


@pytest.fixture(scope="module")
def expected(folder) -> list[bytes]:
    """The results of both pictures, evaluated together."""
    outcomes, steps = evaluate(folder, ["0>e0", "1>e1"])
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert all(outcome.seconds > 0 for outcome in outcomes)
    assert steps.seen[2:] == steps.expected  # after "checking" and "encrypted pictures"
    loads = [name for _, name in steps.seen if name.startswith("rotation keys")]
    assert len(loads) == 2  # once a stage, for both
    return [result(folder, "e0"), result(folder, "e1")]


def test_pictures_evaluated_together_keep_apart(folder, expected):
    outcomes, _ = evaluate(folder, ["1>alone"])
    assert outcomes[0].error is None
    assert result(folder, "alone") == expected[1]
    assert np.abs(logits(folder, "e0") - logits(folder, "e1")).max() > 1e-2
    assert not list(folder.glob("*.unfinished"))


def killed(folder: Path, part: str, word: str = "after") -> None:
    """Evaluate 0.ct to r.ct in a process that kills itself after (during) keeping ``part``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + SERVER, str(folder), part, word], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (folder / "r.ct.unfinished").is_dir() and not (folder / "r.ct").exists()


@pytest.mark.parametrize(("folder", "part"), KILLED, indirect=["folder"], scope="module")
def test_a_killed_evaluation_goes_on(folder, expected, part):
    killed(folder, part)
    outcomes, steps = evaluate(folder, ["0>r"], resume=True)
    assert outcomes[0].error is None
    assert steps.seen[2:] == steps.expected
    planned = plan(SETS[folder.name]).steps
    after = list(planned)[list(planned).index(part) + 1 :]
    assert [step for step in steps.seen[2:] if step[0] != "keys"] == [step for name in after for step in planned[name]]
    assert result(folder, "r") == expected[0]
    assert not (folder / "r.ct.unfinished").exists()
    (folder / "r.ct").unlink()


@of_either_engine
def test_killed_while_keeping_a_part(folder, expected):
    """The ciphertexts of layer1.0 are there, but the manifest still names conv1."""
    killed(folder, "layer1.0", "during")
    manifest = json.loads((folder / "r.ct.unfinished" / "manifest.json").read_text())
    assert manifest["part"] == "conv1"
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert outcomes[0].error is None
    assert result(folder, "r") == expected[0]
    (folder / "r.ct").unlink()


@of_either_engine
def test_what_another_run_left_is_refused(folder):
    killed(folder, "conv1")
    outcomes, _ = evaluate(folder, ["1>r"], resume=True)
    assert isinstance(outcomes[0].error, CiphertextError) and "its picture" in outcomes[0].error.message
    outcomes, _ = evaluate(folder, ["0>r"], resume=True, weights=random_weights(ARCHITECTURE, seed=1))
    assert "of other weights" in outcomes[0].error.message
    manifest = folder / "r.ct.unfinished" / "manifest.json"
    fields = json.loads(manifest.read_text())
    for change in (
        {"part": "layer9"},
        {"files": {"../0.ct": "0"}},
        {"files": {}},
        {"files": []},
        {"files": {"conv1-0.ct": "0" * 64}},
        {"format": 1},
        {"picture": 3},
    ):
        manifest.write_text(json.dumps(fields | change))
        outcomes, _ = evaluate(folder, ["0>r"], resume=True)
        assert isinstance(outcomes[0].error, CiphertextError), change
    for text in ("", "[]", "{", '"x"', "[" * 100_000, "null"):
        manifest.write_text(text)
        outcomes, _ = evaluate(folder, ["0>r"], resume=True)
        assert isinstance(outcomes[0].error, CiphertextError), text[:10]
    assert not (folder / "r.ct").exists()
    outcomes, _ = evaluate(folder, ["0>r"])  # without resume it starts afresh
    assert outcomes[0].error is None
    (folder / "r.ct").unlink()


@of_either_engine
def test_a_state_of_other_code_is_refused(folder, monkeypatch):
    """Sets and keys are the same, but the evaluation computes something else."""
    killed(folder, "conv1")
    monkeypatch.setattr(type(SETS[folder.name].refresh), "margin", 1.5)
    parties.encrypt_picture(folder / "exp6", SETS[folder.name], PICTURES[0], WEIGHTS, folder / "new.ct", "0")
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert "computes otherwise" in outcomes[0].error.message
    outcomes, _ = evaluate(folder, ["new>r"], resume=True)
    assert "left by another run" in outcomes[0].error.message
    shutil.rmtree(folder / "r.ct.unfinished")


@of_either_engine
def test_a_state_of_the_other_engine_is_refused(folder, folders):
    """Also where all that it belongs to has been made to fit, but for what is computed."""
    [other] = (path for path in folders.values() if path != folder)
    killed(other, "conv1")
    shutil.copytree(other / "r.ct.unfinished", folder / "r.ct.unfinished")
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert "left by another run" in outcomes[0].error.message
    manifest = folder / "r.ct.unfinished" / "manifest.json"
    facts, picture = read_envelope(folder / "0.ct").facts, read_envelope(folder / "0.ct").facts.picture
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"keys": facts.keys, "picture": picture}))
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert "left by another run: its computation differs" in outcomes[0].error.message
    assert not (folder / "r.ct").exists()
    for path in (folder, other):
        shutil.rmtree(path / "r.ct.unfinished")


@of_either_engine
def test_a_state_swapped_for_another_of_the_same_run_is_refused(folder):
    """The manifest holds each ciphertext's digest, not only its name."""
    killed(folder, "conv1")
    shutil.copytree(folder / "r.ct.unfinished", folder / "kept")
    killed(folder, "conv1")
    shutil.copy(folder / "kept" / "conv1-0.ct", folder / "r.ct.unfinished")
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert outcomes[0].error is None  # an evaluation is deterministic: the same state
    (folder / "r.ct").unlink()
    killed(folder, "conv1")
    parties.encrypt_picture(folder / "exp6", SETS[folder.name], PICTURES[1], WEIGHTS, folder / "other.ct", "1")
    state = folder / "r.ct.unfinished" / "conv1-0.ct"
    facts = read_envelope(state).facts
    write_envelope(state, read_envelope(folder / "other.ct").payload, facts)
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert "another ciphertext than was left there" in outcomes[0].error.message
    shutil.rmtree(folder / "kept")
    shutil.rmtree(folder / "r.ct.unfinished")


@of_either_engine
def test_a_fresh_start_clears_what_was_left(folder, expected):
    killed(folder, "layer1.0")
    (folder / "r.ct.unfinished" / "stray.ct").write_bytes(b"")
    seen = []

    class Watching(Steps):
        def step(self, stage: str, name: str) -> None:
            super().step(stage, name)
            seen.extend(path.name for path in (folder / "r.ct.unfinished").glob("stray*") if stage != "keys")

    job = Job(folder / "0.ct", folder / "r.ct")
    parties.evaluate(folder / "exp6", SETS[folder.name], [job], WEIGHTS, Watching())
    assert not seen and not (folder / "r.ct.unfinished").exists()
    (folder / "r.ct").unlink()


@of_either_engine
def test_two_runs_to_one_output_are_kept_apart(folder):
    other = Unfinished(folder / "r.ct", read_envelope(folder / "0.ct").facts, "other")
    other.begin(resume=False)
    outcomes, _ = evaluate(folder, ["0>r", "1>r"])
    assert all("another evaluation is writing" in outcome.error.message for outcome in outcomes)
    assert outcomes[0].error.exit_code == 7 and (folder / "r.ct.unfinished").is_dir()
    other.end()
    assert not (folder / "r.ct.unfinished").exists()
    outcomes, _ = evaluate(folder, ["0>r", "1>r"])
    assert outcomes[0].error is None and "another evaluation" in outcomes[1].error.message
    (folder / "r.ct").unlink()


@of_either_engine
def test_a_finished_picture_is_not_computed_again(folder, expected):
    evaluate(folder, ["0>r"])
    before = (folder / "r.ct").stat().st_mtime_ns
    outcomes, steps = evaluate(folder, ["0>r"], resume=True)
    assert outcomes[0].error is None and steps.expected == []
    assert (folder / "r.ct").stat().st_mtime_ns == before
    outcomes, steps = evaluate(folder, ["1>r"], resume=True)  # but another picture's result is no result of this one
    assert outcomes[0].error is None and steps.expected
    assert result(folder, "r") == expected[1]
    (folder / "r.ct").unlink()


@of_either_engine
def test_nothing_left_is_nothing_to_resume(folder, expected):
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert outcomes[0].error is None
    assert result(folder, "r") == expected[0]
    (folder / "r.ct").unlink()


@of_either_engine
def test_a_bad_picture_does_not_stop_the_others(folder, expected):
    (folder / "bad.ct").write_bytes((folder / "0.ct").read_bytes()[:-1])
    outcomes, steps = evaluate(folder, ["bad>r", "1>good"])
    assert isinstance(outcomes[0].error, CiphertextError) and outcomes[1].error is None
    assert not any(stage.startswith("1/2") for stage, _ in steps.expected)
    assert result(folder, "good") == expected[1]


@of_either_engine
def test_an_output_that_cannot_be_written_does_not_stop_the_others(folder, expected):
    outcomes, _ = evaluate(folder, ["0>absent/r", "1>good"])
    assert outcomes[0].error.exit_code == 7 and outcomes[1].error is None
    assert result(folder, "good") == expected[1]


@of_either_engine
def test_a_folder_that_no_evaluation_left_is_not_touched(folder, expected):
    """It has the name by chance, and would be emptied and removed; with resume or without.  The others go on."""
    own = folder / "r.ct.unfinished"
    own.mkdir()
    (own / "thesis.txt").write_text("mine")
    (own / "deeper").mkdir()
    for resume in (False, True):
        outcomes, _ = evaluate(folder, ["0>r", "1>good"], resume=resume)
        assert "which no evaluation has left there" in outcomes[0].error.message and outcomes[0].error.exit_code == 7
        assert outcomes[1].error is None
        assert (own / "thesis.txt").read_text() == "mine" and (own / "deeper").is_dir()
    shutil.rmtree(own)


@of_either_engine
def test_a_link_in_the_folders_place_is_not_followed(folder, expected, tmp_path):
    """Whoever may write beside the output would have the files of another folder removed."""
    (tmp_path / "keep.ct").write_bytes(b"another's")
    (folder / "r.ct.unfinished").symlink_to(tmp_path)
    for resume in (False, True):
        outcomes, _ = evaluate(folder, ["0>r"], resume=resume)
        assert "r.ct.unfinished" in outcomes[0].error.message and outcomes[0].error.exit_code == 7
        assert [path.name for path in tmp_path.iterdir()] == ["keep.ct"]
    (folder / "r.ct.unfinished").unlink()


@of_either_engine
def test_a_manifest_whose_files_are_no_names_with_digests(folder, expected):
    killed(folder, "conv1")
    path = folder / "r.ct.unfinished" / "manifest.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"files": list(fields["files"])}))
    outcomes, _ = evaluate(folder, ["0>r"], resume=True)
    assert isinstance(outcomes[0].error, CiphertextError)
    assert "was not left by this program's evaluation" in outcomes[0].error.message
    shutil.rmtree(folder / "r.ct.unfinished")
