"""Views of a ciphertext: whole numbers of it, which look like noise and do not repeat the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lowmem_resnet20.page.drawing import NOISE_WIDTH, place_of_numbers, png_of_numbers, png_of_pixels


def payload(bits: int, header: int) -> bytes:
    """As of two polynomials of random numbers, each after a header that is no whole number long."""
    random = np.random.default_rng(bits)
    parts = [random.integers(0, 1 << bits, 4096, np.uint64).tobytes() for _ in range(6)]
    return b"".join(random.bytes(header) + part for part in parts)


@pytest.mark.parametrize("bits", [36, 44, 48, 52])
@pytest.mark.parametrize("header", [3, 24, 61])
def test_a_number_is_found_at_its_beginning(bits, header):
    data = payload(bits, header)
    place = place_of_numbers(data)
    numbers = np.frombuffer(data, np.uint64, NOISE_WIDTH**2, place)
    assert numbers.max() < 1 << bits and numbers.max() > 1 << (bits - 2)


@pytest.mark.parametrize("data", [b"x", bytes(100_000), np.random.default_rng(0).bytes(100_000)])
def test_where_there_are_none_some_bytes_are_shown(data):
    assert place_of_numbers(data) == 0
    image = Image.open(io.BytesIO(png_of_numbers(data, 0)))
    assert image.size == (NOISE_WIDTH, NOISE_WIDTH)


def test_the_view_is_noise_in_all_three_colours():
    data = payload(36, 24)
    shown = np.asarray(Image.open(io.BytesIO(png_of_numbers(data, place_of_numbers(data)))))
    assert shown.shape == (NOISE_WIDTH, NOISE_WIDTH, 3)
    for colour in range(3):
        assert abs(shown[..., colour].mean() - 127.5) < 10 and len(np.unique(shown[..., colour])) > 200


def test_pixels_are_shown_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32)) / 255
    shown = np.asarray(Image.open(io.BytesIO(png_of_pixels(pixels))))
    assert np.array_equal(shown.transpose(2, 0, 1) / 255, pixels)
