"""What a program uses: ``import lowmem_resnet20``, on the miniature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lowmem_resnet20 as lr
import parties
from lowmem_resnet20.network.forward import forward
from miniature import ARCHITECTURE, INSECURE_NATIVE_SET, INSECURE_SET, random_picture, random_weights

WEIGHTS = random_weights(ARCHITECTURE)
#: Worst difference of a logit from the plain network's, relative to the largest: the sets' own errors.
WORST = {"one": 0.2, "group": 0.2, "openfhe": 0.2}
SETS = {
    "one": INSECURE_NATIVE_SET,
    "group": replace(INSECURE_NATIVE_SET, number=7, pictures=4, most_copies=1),
    "openfhe": INSECURE_SET,
}
PICTURES = [random_picture(ARCHITECTURE, np.random.default_rng(seed)) for seed in range(5)]


@pytest.fixture(scope="module", params=SETS)
def keys(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / request.param
    lr.generate_keys(SETS[request.param], folder, passphrase="open sesame" if request.param == "one" else None)
    return folder


def client_of(keys: Path) -> lr.Client:
    passphrase = "open sesame" if keys.name == "one" else None
    return lr.Client(keys, WEIGHTS, passphrase, SETS[keys.name])


def test_a_picture_from_its_pixels_to_its_class(keys):
    """Several pictures, in groups where the set has them; results in their order, and right."""
    pictures = PICTURES[: 5 if keys.name == "group" else 2]
    with client_of(keys) as client, lr.Server(keys, WEIGHTS, set_=SETS[keys.name]) as server:
        sent = client.encrypt(*pictures)
        assert len(sent) == -(-len(pictures) // SETS[keys.name].pictures)
        answers = server.evaluate(sent)
        results = client.decrypt(answers)
    assert [result.name for result in results] == [f"picture {i + 1}" for i in range(len(pictures))]
    for result, pixels in zip(results, pictures, strict=True):
        plain = forward(WEIGHTS, pixels)["fc"]
        assert np.abs(np.subtract(result.logits, plain)).max() < WORST[keys.name] * WEIGHTS.largest_logit
        assert result.index == int(np.argmax(result.logits)) and result.warnings == ()
