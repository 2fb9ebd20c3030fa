"""What sets make of pictures, computed in the clear in processes: on the miniature."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lowmem_resnet20.errors import EnvironmentFault, LowmemError, ServerError
from lowmem_resnet20.machine import child
from lowmem_resnet20.model import simulators
from lowmem_resnet20.model.simulation import Score, foresee_all, plain_logits
from lowmem_resnet20.model.simulators import simulate
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.ranges import foresee
from lowmem_resnet20.network.scaling import scale
from lowmem_resnet20.progress.display import SilentProgress
from miniature import (
    ARCHITECTURE,
    INSECURE_FUNCTIONAL_SET,
    INSECURE_NATIVE_SET,
    INSECURE_SET,
    random_picture,
    random_weights,
)
from processes import ends, until

WEIGHTS = random_weights()
#: Of a group of eight half the places stay empty.
GROUP = replace(INSECURE_NATIVE_SET, number=7, pictures=8)
SETS = pytest.mark.parametrize(
    "set_",
    [INSECURE_SET, INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET, GROUP],
    ids=["Chebyshev", "Fourier", "native", "group"],
)
RANDOM = np.random.default_rng(8)
X = np.stack([random_picture(ARCHITECTURE, RANDOM) for _ in range(4)])


def narrowed(factor):
    """As if calibrated on pictures whose values are so many times smaller."""
    return replace(WEIGHTS, bounds={name: bound / np.float32(factor) for name, bound in WEIGHTS.bounds.items()})


def simulated(set_, noise=0.0, weights=WEIGHTS, x=X, processes=2, progress=None):
    return simulate(set_, weights, x, noise, processes, progress or SilentProgress())


@SETS
def test_logits_are_those_of_the_set(set_):
    """By definition, with the set's ReLU; the same again with the same noise however many processes, and others
    without."""
    found = simulated(set_)
    units = scale(WEIGHTS, set_.refresh).units

    def approximated(name, x):
        unit = units[name][:, None, None]
        return set_.refresh.approximated_relu(x / unit) * unit

    expected = np.stack([forward(WEIGHTS, x, approximated)["fc"] for x in X])
    assert np.abs(found - expected).max() < 1e-2 * np.abs(expected).max()
    noisy = [simulated(set_, 1e-4, processes=count) for count in (1, 3)]
    assert (noisy[0] == noisy[1]).all() and 0 < np.abs(noisy[0] - found).max() < 0.1


def test_each_picture_has_noise_of_its_own():
    """The same picture twice, in two groups."""
    first, second = simulated(INSECURE_NATIVE_SET, 1e-3, x=X[[0, 0]])
    assert (first != second).all()


def test_progress_is_shown():
    heard: list[tuple[str, str]] = []

    class Heard(SilentProgress):
        def step(self, stage, name):
            super().step(stage, name)
            heard.append((stage, name))

    simulated(INSECURE_NATIVE_SET, x=X[[0, 1, 2]], progress=Heard())
    assert heard == [("simulation", "picture 2 of 3"), ("simulation", "picture 3 of 3")]


def test_an_error_inside_is_told():
    with pytest.raises(LowmemError, match="unexpected ValueError"):
        simulated(INSECURE_NATIVE_SET, x=X[:, :, :8, :8])


def test_a_process_that_ends_is_told(monkeypatch):
    """And nothing is waited for."""
    monkeypatch.setattr(simulators.child, "command", lambda module: [sys.executable, "-c", "input()"])
    with pytest.raises(ServerError, match="ended before its time"):
        simulated(INSECURE_NATIVE_SET)
    monkeypatch.setattr(simulators.child, "command", lambda module: ["/bin/none"])
    with pytest.raises(EnvironmentFault, match="cannot start a process that simulates"):
        simulated(INSECURE_NATIVE_SET)


def test_it_imports_no_torch_and_runs_nothing_of_the_folder_it_is_started_in(monkeypatch, tmp_path):
    (tmp_path / "pickle.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "pickle.py"))
    assert len(simulated(INSECURE_NATIVE_SET, x=X[:1])) == 1
    command = child.command("model.simulators")
    lists = "import sys; sys.argv[:] = ['']; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [*command[:-1], command[-1].replace("run(", f"exec({lists!r}, {{}}); run(")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch" not in done.stderr.split() and "numba" not in done.stderr.split()


def test_an_overflow_counts_as_wrong():
    """Of a Chebyshev series far out of range come numbers without bound, and of those in the end no numbers: none is
    right."""
    weights, plain = narrowed(3), plain_logits(WEIGHTS, X)
    found = simulated(INSECURE_SET, weights=weights)
    for labels in (plain.argmax(1), np.nan_to_num(found).argmax(1), found.argmax(1)):
        score = Score.of(weights, found, plain, labels)
        assert (score.right, score.refused, score.differing) == (0, 4, [0, 1, 2, 3])
        assert np.isnan([score.worst, score.mean]).all()
        assert all(after is None for _, after in score.changes) and sum(score.changes.values()) == 4


def test_the_score():
    weights, plain = replace(WEIGHTS, largest_logit=4.0), np.zeros((5, 10))
    plain[np.arange(5), np.arange(5)] = 3.0
    logits = plain.copy()
    logits[1, 9] = 3.5  # another class
    logits[2, 2] = 8.1  # the right class, but no logit
    logits[3, 3] = np.nan
    logits[4, 4] = 2.5
    score = Score.of(weights, logits, plain, np.array([0, 1, 2, 3, 5]))
    mean, changes = (0 + 3.5 + 0.5) / 3, {(1, 9): 1, (2, None): 1, (3, None): 1}
    assert score == Score(right=1, refused=2, worst=3.5, mean=mean, differing=[1, 2, 3], changes=changes)
    assert Score.of(weights, logits, plain, None) == replace(score, right=None)


@SETS
def test_pictures_out_of_range_are_those_that_a_client_warns_of(set_):
    weights = narrowed(1.7)
    weights = replace(weights, bounds=weights.bounds | {"conv1": WEIGHTS.bounds["conv1"] * np.float32(0.85)})
    foreseen = [not foresee(weights, set_.refresh, x).in_range for x in X]
    plain, outside = foresee_all(weights, set_, X)
    assert outside.tolist() == foreseen
    assert np.array_equal(plain, plain_logits(weights, X))


@pytest.mark.parametrize("second", [False, True])
def test_a_process_whose_owner_ends_while_it_asks_says_nothing(second, monkeypatch):
    """A pipe may hold any part of what was being said."""
    told = pickle.dumps((INSECURE_NATIVE_SET, random_weights(), 0.0))
    asked, before = (pickle.dumps((0, np.zeros((1, 3, 16, 16)))), told) if second else (told, b"")
    for cut in (0, 1, len(asked) // 2, len(asked) - 1):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(before + asked[:cut])))
        simulators.main()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_an_interrupted_one(tmp_path, number):
    """Its processes end with it, however it ends."""
    np.savez(tmp_path / "p.npz", x=np.zeros((200, 3, 32, 32), np.uint8))
    words = ["simulate", "6", "pictures", str(tmp_path / "p.npz")]
    process = subprocess.Popen([sys.executable, "-m", "lowmem_resnet20", *words], stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: children.read_text().split(), pause=0.05)
    started = [int(pid) for pid in children.read_text().split()]
    os.kill(process.pid, number)
    assert process.wait(300) == (-number if number == signal.SIGKILL else 128 + number)
    assert process.stderr.read() == ""
    for pid in started:
        ends(pid)
