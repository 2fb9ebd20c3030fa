"""Folders of model hubs: names, normalisation and size come from beside the weights, and words go before them."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file
from test_arrangement import SMALL, pictures
from test_trained import trained

from lowmem_resnet20.errors import UsageError, WeightsError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.network.architecture import Architecture
from lowmem_resnet20.network.weights import load_weights

NAMES = [f"sign {i}" for i in range(10)]
CONFIG = {"architectures": ["ResNetForImageClassification"], "id2label": dict(enumerate(NAMES))}
PREPROCESSOR = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.2, 0.3], "size": {"height": 16, "width": 16}}


def hub(folder, config=CONFIG, preprocessor=PREPROCESSOR, weights="model.safetensors"):
    """A folder of those that are given."""
    made = folder / "hub"
    made.mkdir(exist_ok=True)
    for name, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        (made / name).unlink(missing_ok=True)
        if content is not None:
            (made / name).write_text(content if isinstance(content, str) else json.dumps(content))
    state = trained(SMALL).state_dict()
    if weights == "model.safetensors":
        save_file(state, made / weights)
    elif weights:
        torch.save(state, made / weights)
    return made


def imported(folder, *normalisation, **words):
    import_weights(folder, folder / "w", pictures(folder.parent), *normalisation, **words)
    return load_weights(folder / "w")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_transformers(tmp_path, weights):
    found = imported(hub(tmp_path, weights=weights))
    assert (found.classes, found.architecture) == (tuple(NAMES), SMALL)
    assert (found.mean, found.std) == ((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))


def test_timm(tmp_path):
    pretrained = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "input_size": [3, 16, 16]}
    config = {"architecture": "resnet20", "label_names": NAMES, "num_classes": 10, "pretrained_cfg": pretrained}
    found = imported(hub(tmp_path, config, None))
    assert (found.classes, found.architecture.width) == (tuple(NAMES), 16)
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    "change, mean, std",
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"image_mean": 0.5, "image_std": 0.25}, 0.5, 0.25),
        ({"image_mean": [127.5] * 3, "image_std": [51.0] * 3, "do_rescale": False}, 0.5, 0.2),
        ({"image_mean": [1.0] * 3, "image_std": [0.5] * 3, "rescale_factor": 2 / 255}, 0.5, 0.25),
    ],
)
def test_how_pixels_are_normalised(tmp_path, change, mean, std):
    found = imported(hub(tmp_path, preprocessor=PREPROCESSOR | change))
    assert np.allclose(found.mean, mean) and np.allclose(found.std, std)


@pytest.mark.parametrize("size", [32, {"shortest_edge": 32}, {"height": 32, "width": 32}])
def test_the_size_is_the_folders(tmp_path, size):
    folder = hub(tmp_path, preprocessor=PREPROCESSOR | {"size": size})
    import_weights(folder, tmp_path / "w", pictures(tmp_path, side=32))
    assert load_weights(tmp_path / "w").architecture == Architecture(32, (8, 16, 32), 1)


def test_words_go_before_the_folder(tmp_path):
    (tmp_path / "names").write_text("\n".join(f"mine {i}" for i in range(10)))
    found = imported(hub(tmp_path), (0.1,), (0.2,), classes=tmp_path / "names", side=16, name="Mine")
    assert (found.classes[3], found.mean, found.std, found.name) == ("mine 3", (0.1,) * 3, (0.2,) * 3, "Mine")


def test_names_that_are_none_and_a_folder_of_weights_alone(tmp_path):
    made_up = {"id2label": {str(i): f"LABEL_{i}" for i in range(10)}}
    for config in (made_up, {}, None):
        assert imported(hub(tmp_path, config, PREPROCESSOR)).classes[0] == "Airplane"


def test_a_pipe_in_the_place_of_facts(tmp_path):
    folder = hub(tmp_path, None)
    os.mkfifo(folder / "config.json")
    with pytest.raises(WeightsError, match=r"config\.json is not a regular file"):
        imported(folder)


@pytest.mark.parametrize(
    "config, preprocessor, message",
    [
        (CONFIG | {"hidden_act": "gelu"}, PREPROCESSOR, "hidden_act is 'gelu'"),
        ({"id2label": {"0": "a", "1": "b"}}, PREPROCESSOR, "names 2 classes, and .* has 10"),
        ({"id2label": {"0": "a", "2": "b"}}, PREPROCESSOR, "of another kind than hubs have"),
        ({"id2label": {str(i): "a" for i in range(10)}}, PREPROCESSOR, "has the class a twice"),
        ({"id2label": {str(i): "\x1b[1m" + str(i) for i in range(10)}}, PREPROCESSOR, "cannot be a name"),
        ({"id2label": {str(i): [i] for i in range(10)}}, PREPROCESSOR, "cannot be a name"),
        ({"id2label": [1]}, PREPROCESSOR, "of another kind"),
        (CONFIG, {"image_mean": "x", "image_std": "y"}, "of another kind"),
        (CONFIG, {"image_mean": [0.5], "image_std": [0.5], "size": [1]}, "of another kind"),
        (CONFIG, {"image_mean": [0.5], "image_std": [0.5], "rescale_factor": 0}, "of another kind"),
        ("[1]", PREPROCESSOR, "is not a JSON object"),
        ("{", PREPROCESSOR, "is not a JSON object"),
        ("[" * 100000, PREPROCESSOR, "is not a JSON object"),
        ('"' + "x" * (1 << 22) + '"', PREPROCESSOR, "is too large"),
    ],
)
def test_what_does_not_fit(tmp_path, config, preprocessor, message):
    folder = hub(tmp_path, config, preprocessor)
    with pytest.raises(WeightsError, match=message):
        imported(folder)
    assert not (folder / "w").exists()


def test_two_numbers_are_no_normalisation(tmp_path):
    with pytest.raises(UsageError, match="mean is 2 numbers, and the network has 3 colours"):
        imported(hub(tmp_path, preprocessor=PREPROCESSOR | {"image_mean": [0.5, 0.5]}))


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(WeightsError, match=r"has config.json and none of model.safetensors, pytorch_model.bin"):
        imported(hub(tmp_path, weights=""))
