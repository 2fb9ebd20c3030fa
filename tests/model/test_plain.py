"""The plain network: by PyTorch and by numpy, and the commands that need it, where there is no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openpage
import pytest
from safetensors.numpy import save

from lowmem_resnet20.errors import ExitCode
from lowmem_resnet20.model import plain
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.architecture import RESNET20
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.weights import default_weights_path, load_weights
from miniature import ARCHITECTURE, random_picture, random_weights
from processes import WITHOUT_TORCH

#: The command line, as it is and with the miniature under the numbers 6 and 7.
PROGRAM = "from lowmem_resnet20.cli.main import main; sys.exit(main())"
WITH_THE_MINIATURE = f"""
from functools import partial
import openpage
from lowmem_resnet20.model import picture
picture.read_picture = partial(picture.read_picture, width=openpage.WIDTH)
{openpage.PROGRAM}"""


def without_pytorch(program: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Where it cannot be imported."""
    command = [sys.executable, "-c", WITHOUT_TORCH + program, *words]
    return subprocess.run(command, cwd=folder, env=openpage.environment(), capture_output=True, text=True, check=False)


@pytest.mark.skipif(plain.torch is None, reason="needs PyTorch")
def test_pytorch_and_numpy_agree_on_the_programs_weights(inputs):
    """Every value on the way, of one picture and of several."""
    network = plain.PlainNetwork(load_weights(default_weights_path()))
    assert network.library == f"PyTorch {plain.torch.__version__}"
    pixels = np.stack([read_picture(inputs / name) for name in ("vale.jpg", "luis.png")])
    for given in (pixels, pixels[0]):
        found, expected = network.layers(given), forward(network.weights, given)
        assert list(found) == list(expected)
        assert max(np.abs(found[name] - values).max() for name, values in expected.items()) < 1e-4
    assert (network.logits(pixels) == network.layers(pixels)["fc"]).all()


@pytest.mark.skipif(plain.torch is None, reason="needs PyTorch")
def test_pytorch_computes_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(plain, "convolve", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plain.PlainNetwork(random_weights()).logits(random_picture(ARCHITECTURE, np.random.default_rng(0)))


def test_what_is_left_of_pytorch_is_none():
    """Such as the empty folder of one that was removed."""
    left = 'import sys; sys.modules["torch"] = type(sys)("torch"); from lowmem_resnet20.model.plain import PlainNetwork'
    done = subprocess.run(
        [sys.executable, "-c", f"{left}; print(PlainNetwork.library)"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"numpy {np.__version__}\n", "")


def test_load_keys_compares_by_numpy_where_there_is_no_pytorch(tmp_path):
    """Both ``plain`` and the precision by layer."""
    openpage.make_keys(tmp_path, openpage.SETS[6])
    picture = openpage.png_of(random_picture(openpage.ARCHITECTURE, np.random.default_rng(0)))
    (tmp_path / "p.png").write_bytes(picture)
    words = ["load_keys", "6", "keys", ".", "weights", "./weights", "input", "p.png", "plain"]
    done = without_pytorch(WITH_THE_MINIATURE, tmp_path, *words, "verbose", "2")
    assert done.returncode == ExitCode.OK, done.stderr
    assert f"\nplain by      numpy {np.__version__}\n" in done.stdout
    assert f"\ncompared with the plain network by numpy {np.__version__}\n" in done.stderr
    done = without_pytorch(WITH_THE_MINIATURE, tmp_path, *words, "json", "verbose", "-1")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    compared = json.loads(done.stdout)["plain"]
    expected = forward(openpage.WEIGHTS, read_picture(tmp_path / "p.png", openpage.WIDTH))["fc"]
    assert compared["by"] == f"numpy {np.__version__}" and np.abs(compared["logits"] - expected).max() < 1e-9


def test_without_pytorch_folded_weights_are_imported_and_checkpoints_refused(tmp_path, inputs):
    parameters = random_weights(RESNET20).parameters
    np.savez(tmp_path / "folded.npz", **parameters)
    (tmp_path / "state").write_bytes(save(parameters))
    rest = ["pictures", str(inputs)]
    done = without_pytorch(PROGRAM, tmp_path, "import_weights", "folded.npz", "w", *rest)
    assert done.returncode == ExitCode.OK, done.stderr
    assert (load_weights(tmp_path / "w").parameters["conv1.weight"] == parameters["conv1.weight"]).all()
    done = without_pytorch(PROGRAM, tmp_path, "import_weights", "state", "w2", *rest)
    assert (done.returncode, done.stdout) == (ExitCode.ENVIRONMENT, "")
    assert done.stderr == (
        "lowmem-resnet20: error: this needs the package torch, which is not installed\n"
        "hint: pip install 'lowmem-resnet20[torch]'\n"
    )
    assert not (tmp_path / "w2").exists()


def test_bounds_are_the_largest_inputs_of_each_relu_and_the_largest_logit_is_theirs():
    random = np.random.default_rng(1)
    batches = [np.stack([random_picture(ARCHITECTURE, random) for _ in range(2)]) for _ in range(2)]
    weights = random_weights()
    calibrated, found = plain.calibrate(weights, batches)
    bounds = calibrated.bounds
    logits = [forward(weights, picture)["fc"] for batch in batches for picture in batch]
    assert calibrated.largest_logit == pytest.approx(np.abs(logits).max())
    assert np.abs(found - logits).max() < 1e-9
    for name in ARCHITECTURE.relu_channels():
        largest = np.max([np.abs(forward(weights, p)[name]).max((1, 2)) for b in batches for p in b], axis=0)
        assert np.abs(bounds[name] - largest).max() < 1e-5 * largest.max()
