"""The picture reader takes what the network takes and refuses all else in one line."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lowmem_resnet20.errors import PictureError
from lowmem_resnet20.model.picture import find_picture, read_picture

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def picture(tmp_path):
    """Saves bytes or an image under a name that says nothing of its format."""

    def save(content, kind="PNG", **options):
        path = tmp_path / "picture"
        path.write_bytes(content if isinstance(content, bytes) else encoded(content, kind, **options))
        return path

    return save


def refused(path, **options) -> PictureError:
    with pytest.raises(PictureError) as caught:
        read_picture(path, **options)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value


def test_png_pixels_are_exact(picture):
    pixels = read_picture(picture(Image.fromarray(PIXELS)))
    assert pixels.dtype == np.float64
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, PIXELS.transpose(2, 0, 1) / 255)


def test_jpeg_is_read_by_content(picture):
    smooth = np.full((32, 32, 3), (10, 100, 200), np.uint8)
    pixels = read_picture(picture(Image.fromarray(smooth), "JPEG", quality=95))
    assert pixels.shape == (3, 32, 32)
    assert np.abs(pixels - smooth.transpose(2, 0, 1) / 255).max() < 0.02


def test_the_example_pictures(inputs):
    paths = [p for p in inputs.iterdir() if p.suffix != ".md"]
    assert {"vale.jpg", "luis.png"} <= {p.name for p in paths}
    for path in paths:
        pixels = read_picture(path)
        assert pixels.shape == (3, 32, 32)
        assert 0 <= pixels.min() < pixels.max() <= 1


def test_another_width(picture):
    path = picture(Image.fromarray(PIXELS[:16, :16]))
    assert read_picture(path, width=16).shape == (3, 16, 16)
    assert "not 32x32" in refused(path).message


def test_not_a_readable_file(tmp_path, monkeypatch):
    assert "there is no picture" in refused(tmp_path / "absent.png").message
    assert "is a folder" in refused(tmp_path).message
    (tmp_path / "empty.png").touch()
    assert "is empty" in refused(tmp_path / "empty.png").message
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refused(tmp_path / "pipe.png").message
    monkeypatch.setattr("lowmem_resnet20.model.picture.MAX_FILE_BYTES", 3)
    (tmp_path / "large.png").write_bytes(b"12345")
    assert "larger than" in refused(tmp_path / "large.png").message


def test_no_permission(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    assert refused(path).message.endswith("Permission denied")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_refused(picture, kind):
    path = picture(Image.fromarray(PIXELS), kind)
    for resize in (False, True):
        assert "not a JPEG or PNG" in refused(path, resize=resize).message


def test_text_is_refused(picture):
    assert "not a JPEG or PNG" in refused(picture(b"hello")).message


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16", "CMYK"])
def test_other_modes_need_resize(picture, mode):
    grey = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64)
    image = grey if mode == "I;16" else Image.fromarray(PIXELS).convert(mode)
    path = picture(image, "JPEG" if mode == "CMYK" else "PNG")
    error = refused(path)
    assert "not RGB" in error.message
    assert "resize" in error.hint
    assert read_picture(path, resize=True).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(31, 32), (32, 33), (1, 1), (640, 480)])
def test_other_sizes_need_resize(picture, size):
    path = picture(Image.new("RGB", size, (255, 0, 0)))
    error = refused(path)
    assert f"is {size[0]}x{size[1]} pixels" in error.message
    assert "resize" in error.hint
    pixels = read_picture(path, resize=True)
    assert np.allclose(pixels[0], 1)
    assert np.allclose(pixels[1:], 0)


def test_a_strip_can_be_resized(picture):
    assert read_picture(picture(Image.new("RGB", (1, 20000))), resize=True).shape == (3, 32, 32)


def test_resize_keeps_the_middle(picture):
    wide = Image.new("RGB", (96, 32), (0, 0, 255))
    wide.paste(Image.fromarray(PIXELS), (32, 0))
    assert np.allclose(read_picture(picture(wide), resize=True), PIXELS.transpose(2, 0, 1) / 255)


def test_resize_turns_as_exif_says(picture):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = Image.fromarray(PIXELS)
    pixels = read_picture(picture(image, exif=exif), resize=True)
    assert np.allclose(pixels, PIXELS[::-1, ::-1].transpose(2, 0, 1) / 255)


def test_resize_shows_transparency_as_white(picture):
    assert np.allclose(read_picture(picture(Image.new("RGBA", (40, 40), (0, 0, 0, 0))), resize=True), 1)


def test_resize_scales_16_bits(picture):
    values = np.full((32, 32), 0x80FF, np.uint16)
    assert np.allclose(read_picture(picture(Image.fromarray(values)), resize=True), 0x80 / 255)


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_bombs_are_refused_undecoded(picture):
    for size in ((60_000, 60_000), (12_000, 8_000), (2**31 - 1, 2**31 - 1)):
        path = picture(png(*size, b""))
        assert "too many pixels" in refused(path).message
        assert "too many pixels" in refused(path, resize=True).message


def test_no_pixels_at_all(picture):
    refused(picture(png(0, 0, b"")), resize=True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_truncation_is_refused(picture, kind):
    content = encoded(Image.fromarray(PIXELS), kind)
    # A picture that lacks only its closing marks still has all its pixels, and is accepted.
    for length in [*range(0, len(content) - 40, 37), len(content) - 40]:
        refused(picture(content[:length]))


BASES = [
    encoded(Image.fromarray(PIXELS)),
    encoded(Image.fromarray(PIXELS), "JPEG"),
    encoded(Image.fromarray(PIXELS).convert("P")),
    encoded(Image.fromarray(PIXELS), "JPEG", progressive=True),
]


def survives(path, content: bytes, resize: bool) -> None:
    path.write_bytes(content)
    try:
        pixels = read_picture(path, resize=resize)
    except PictureError as error:
        assert "\n" not in error.message
    else:
        assert pixels.shape == (3, 32, 32)
        assert pixels.min() >= 0
        assert pixels.max() <= 1


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@FUZZ
@given(
    content=st.binary(max_size=400), magic=st.sampled_from([b"", *(base[:24] for base in BASES)]), resize=st.booleans()
)
def test_fuzz_any_bytes(tmp_path, content, magic, resize):
    survives(tmp_path / "fuzz", magic + content, resize)


@FUZZ
@given(
    base=st.sampled_from(BASES),
    changes=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=8),
    resize=st.booleans(),
)
def test_fuzz_changed_pictures(tmp_path, base, changes, resize):
    content = bytearray(base)
    for place, value in changes:
        content[place % len(content)] = value
    survives(tmp_path / "fuzz", bytes(content), resize)


def test_own_pictures_are_found_from_anywhere(tmp_path, monkeypatch, inputs):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    assert find_picture(Path("inputs/luis.png")).samefile(inputs / "luis.png")
    assert find_picture(Path("inputs/absent.png")) == Path("inputs/absent.png")
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "luis.png").touch()
    assert find_picture(Path("inputs/luis.png")) == Path("inputs/luis.png")
