"""What a program uses: ``import lowmem_resnet20``, on the miniature."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lowmem_resnet20 as lr
from documented import documented
from lowmem_resnet20.errors import CiphertextError, KeyFolderError, PictureError, WeightsError
from lowmem_resnet20.native.kernels.threads import available_processors
from lowmem_resnet20.network import parameters
from lowmem_resnet20.network import weights as weights_module
from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.weights import save_weights
from miniature import ARCHITECTURE, INSECURE_NATIVE_SET, INSECURE_SET, random_picture, random_weights
from processes import until

WEIGHTS = random_weights(ARCHITECTURE)
PASSPHRASE = "open sesame"
#: The most that a logit differs from the plain network's: the ReLU's approximation.
WORST = 0.3
SETS = {
    "one": INSECURE_NATIVE_SET,
    "group": replace(INSECURE_NATIVE_SET, number=7, pictures=4, most_copies=1),
    "openfhe": INSECURE_SET,
}
PICTURES = [random_picture(ARCHITECTURE, np.random.default_rng(seed)) for seed in range(5)]
#: By name of its set, so many of them are encrypted.
COUNTS = {"one": 2, "group": 5, "openfhe": 1}
#: For pictures of 32 x 32, as :func:`read_picture` gives them: a ring twice as large.
WIDE_SET = replace(
    INSECURE_NATIVE_SET, architecture=Architecture(width=32, channels=(4, 8), blocks_per_stage=1), log2_ring=13
)


@dataclass(frozen=True)
class Kept:
    """Keys in ``folder`` of one of SETS, a client of theirs, and PICTURES encrypted."""

    name: str
    folder: Path
    client: lr.Client
    sent: list[lr.Ciphertext]

    def server(self, **words) -> lr.Server:
        return lr.Server(self.folder, WEIGHTS, set_=SETS[self.name], **words)


def keep(name: str, folder: Path) -> Kept:
    passphrase = PASSPHRASE if name == "one" else None
    lr.generate_keys(SETS[name], folder / "exp", passphrase=passphrase)
    client = lr.Client(folder / "exp", WEIGHTS, passphrase, SETS[name])
    return Kept(name, folder / "exp", client, client.encrypt(*PICTURES[: COUNTS[name]]))


@pytest.fixture(scope="module", params=SETS)
def kept(request, tmp_path_factory) -> Iterator[Kept]:
    kept = keep(request.param, tmp_path_factory.mktemp(request.param))
    with kept.client:
        yield kept


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Iterator[Kept]:
    kept = keep("one", tmp_path_factory.mktemp("alone"))
    with kept.client:
        yield kept


def is_right(result: lr.Result, pixels: np.ndarray) -> bool:
    plain = forward(WEIGHTS, pixels)["fc"]
    return bool(np.abs(np.subtract(result.logits, plain)).max() < WORST)


# --- as it is documented ----------------------------------------------------------------------------------


def test_the_documented_lines(tmp_path, monkeypatch, capsys, inputs):
    """Word for word, with sets and weights of the miniature in the place of the program's own."""
    weights = random_weights(WIDE_SET.architecture)
    bounds = {name: 1.5 * bound for name, bound in weights.bounds.items()}  # a photograph is unlike random pixels
    weights = replace(weights, bounds=bounds)
    save_weights(tmp_path / "weights", weights)
    monkeypatch.setattr(weights_module, "default_weights_path", lambda: tmp_path / "weights")
    monkeypatch.setitem(parameters.PARAMETER_SETS, (6, "native"), WIDE_SET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inputs").symlink_to(inputs)
    code = documented()
    assert len([line for line in code.splitlines() if line]) == 7 and "RemoteServer" in code
    names: dict = {}
    exec(code, names)  # noqa: S102 - our own docstring
    result, plain = names["result"], forward(weights, lr.read_picture("inputs/vale.jpg"))["fc"]
    assert np.abs(np.subtract(result.logits, plain)).max() < WORST
    assert result.warnings == () and result.name == "picture 1"
    assert capsys.readouterr().out == f"{result.label} {result.logits} ()\n"


def test_importing_it_imports_nothing_else():
    """Nor does asking what there is; each name is there, and loads no more than it needs."""
    script = (
        "import sys; before = set(sys.modules); import lowmem_resnet20 as lr; dir(lr); "
        "print(*sorted(set(sys.modules) - before)); lr.Ciphertext; "
        "print('numba' in sys.modules, 'openfhe' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["lowmem_resnet20", "False False"]
    assert set(lr._PLACES) <= set(dir(lr))
    for name in lr._PLACES:
        assert getattr(lr, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'load_keys'"):
        lr.load_keys  # noqa: B018


# --- pictures ---------------------------------------------------------------------------------------------


def test_a_picture_from_its_pixels_to_its_class(kept):
    """Several pictures, in groups where the set has them; results in their order, and right."""
    pictures = PICTURES[: COUNTS[kept.name]]
    assert len(kept.sent) == -(-len(pictures) // SETS[kept.name].pictures)
    with kept.server() as server:
        answers = server.evaluate(kept.sent)
    results = kept.client.decrypt(answers)
    assert [result.name for result in results] == [f"picture {i + 1}" for i in range(len(pictures))]
    for result, pixels in zip(results, pictures, strict=True):
        assert is_right(result, pixels)
        assert result.index == int(np.argmax(result.logits)) and result.warnings == ()


def test_names_are_repeated_and_stay_with_the_client(one, tmp_path):
    """A picture from a file, under a name of its own; another client of the same keys knows it, too, by its list."""
    pixels = (np.random.default_rng(3).uniform(0, 255, (16, 16, 3))).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "dog.png")
    read = lr.read_picture(tmp_path / "dog.png", 16)
    [sent] = one.client.encrypt(read, names=["my dog"])
    assert b"my dog" not in sent
    with one.server() as server:
        [answer] = server.evaluate(sent)
    [result] = lr.Client(one.folder, WEIGHTS, PASSPHRASE, SETS["one"]).decrypt(answer)
    assert result.name == "my dog" and is_right(result, read)


def test_a_ciphertext_is_bytes_that_are_saved_and_loaded(one, tmp_path):
    [sent, _] = one.sent
    assert isinstance(sent, bytes) and len(sent) > 100_000
    sent.save(tmp_path / "p.ct")
    assert (tmp_path / "p.ct").read_bytes() == sent
    loaded = lr.Ciphertext.load(str(tmp_path / "p.ct"))
    assert loaded == sent and loaded.path == tmp_path / "p.ct"
    assert lr.Ciphertext(bytes(sent)).opened().facts == sent.opened().facts
    with one.server() as server:
        [answer] = server.evaluate(lr.Ciphertext(bytes(loaded)))
    answer.save(tmp_path / "r.ct")
    [result] = one.client.decrypt(lr.Ciphertext.load(tmp_path / "r.ct"))
    assert is_right(result, PICTURES[0])


def test_checkpoints_of_several_pictures(one, tmp_path):
    """Each in a folder of its own, and each of its own picture."""
    with one.server() as server:
        results = one.client.decrypt(server.evaluate(one.sent, checkpoints=tmp_path / "c"))
        server.evaluate(one.sent[0], checkpoints=tmp_path / "alone")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["1", "2"]
    assert (tmp_path / "alone" / "conv1.ct").exists()
    for number, result in enumerate(results):
        folder = tmp_path / "c" / f"{number + 1}"
        layers = lr.inspect_checkpoints(one.client, folder, PICTURES[number], result.picture)
        assert [layer.name for layer in layers][::3] == list(ARCHITECTURE.relu_channels())
        assert all(layer.bits > 4 for layer in layers)
        with pytest.raises(CiphertextError, match="another picture or layer"):
            lr.inspect_checkpoints(one.client, folder, PICTURES[number], results[1 - number].picture)


def test_progress_is_called_with_stage_and_name(one):
    heard: list[tuple[str, str]] = []
    with one.server(progress=lambda stage, name: heard.append((stage, name))) as server:
        before = list(heard)
        server.evaluate(one.sent[0])
    assert ("keys", "checking") in before
    steps = heard[len(before) :]
    assert steps[0][0] == "keys" and ("layer1", "layer1.0.conv1 refresh") in steps
    assert steps[-1] == ("head", "pool and fc") and len(set(steps)) == len(steps)


def test_a_picture_out_of_range_comes_with_a_warning(one):
    """Which is returned, and printed nowhere."""
    small = replace(WEIGHTS, bounds={name: bound * 0.3 for name, bound in WEIGHTS.bounds.items()})
    with lr.Client(one.folder, small, PASSPHRASE, SETS["one"]) as client:
        sent = client.encrypt(PICTURES[0])
        with lr.Server(one.folder, small, set_=SETS["one"]) as server:
            [result] = client.decrypt(server.evaluate(sent))
    assert result.warnings and "the result may be wrong" in str(result.warnings[0]) and result.warnings[0].hint


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((16, 16, 3)), "has shape (16, 16, 3) instead of (3, 16, 16)"),
        (np.zeros((1, 3, 16, 16)), "has shape (1, 3, 16, 16)"),
        (np.zeros((3, 16, 16), np.uint8), "are uint8, not floating"),
        (np.full((3, 16, 16), 255.0), "not from 0 to 1"),
        (np.full((3, 16, 16), np.nan), "not from 0 to 1"),
        ([[0.0]], "is a list"),
    ],
)
def test_what_is_no_picture_is_refused(one, pixels, message):
    """With its number, before any is encrypted."""
    known = one.client.encryptions()
    with pytest.raises(PictureError) as caught:
        one.client.encrypt(PICTURES[0], pixels)
    assert "picture 2" in caught.value.message and message in caught.value.message
    assert one.client.encryptions() == known


def test_errors_are_exceptions_with_a_hint(one, tmp_path):
    with pytest.raises(lr.LowmemError) as caught:
        lr.Client(tmp_path / "none", WEIGHTS, set_=SETS["one"])
    assert isinstance(caught.value, KeyFolderError) and "no key folder" in caught.value.message and caught.value.hint
    with pytest.raises(KeyFolderError, match="exists"):
        lr.generate_keys(SETS["one"], one.folder)
    with pytest.raises(KeyFolderError, match="empty passphrase"):
        lr.generate_keys(SETS["one"], tmp_path / "new", passphrase="")
    assert not (tmp_path / "new").exists()
    with pytest.raises(WeightsError):
        lr.Server(one.folder, random_weights(WIDE_SET.architecture), set_=SETS["one"])
    [sent, _] = one.sent
    with one.server() as server:
        for wrong, message in (
            (sent[:-1], "the ciphertext is truncated or altered"),
            (b"", "is not a ciphertext of this program"),
        ):
            with pytest.raises(CiphertextError, match=message):
                server.evaluate(lr.Ciphertext(wrong))
    with pytest.raises(CiphertextError, match="an encrypted picture, not encrypted logits"):
        one.client.decrypt(sent)


@pytest.mark.parametrize("passphrase", [None, "another"])
def test_a_passphrase_is_needed_for_results_alone(one, passphrase):
    client = lr.Client(one.folder, WEIGHTS, passphrase, SETS["one"])
    [sent] = client.encrypt(PICTURES[0])
    with one.server() as server:
        answers = server.evaluate(sent)
    with pytest.raises(KeyFolderError, match="passphrase"):
        client.decrypt(answers)
    assert is_right(one.client.decrypt(answers)[0], PICTURES[0])


# --- what is held -----------------------------------------------------------------------------------------


def mapped(folder: Path) -> list[str]:
    """The files of a folder that this process has mapped or open."""
    maps = [line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line]
    held = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if os.path.lexists(path)]
    return [path for path in maps + held if path.startswith(str(folder))]


def native_threads() -> int:
    return sum(thread.name.startswith("native") for thread in threading.enumerate())


def test_closing_a_server_gives_its_keys_and_threads_back(one):
    """Without waiting for whoever still holds the closed server."""
    before = native_threads()
    server = one.server()
    server.evaluate(one.sent[0])
    assert native_threads() == before + available_processors() - 1
    assert any("rotation-" in path for path in mapped(one.folder))
    server.close()
    until(lambda: native_threads() == before)
    assert mapped(one.folder) == []
    server.close()
    with pytest.raises(ValueError, match="closed"):
        server.evaluate(one.sent[0])


def test_closing_a_client_forgets_the_secret_key(one):
    client = lr.Client(one.folder, WEIGHTS, PASSPHRASE, SETS["one"])
    client.unlock()
    assert "_secret_key" in vars(client)
    client.close()
    assert "_secret_key" not in vars(client) and "context" not in vars(client)
    assert client.encrypt(PICTURES[0])
