"""The picture reader takes what the network takes and refuses all else in one line."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lowmem_resnet20.errors import PictureError
from lowmem_resnet20.model.picture import find_picture, pictures_in, read_picture
from lowmem_resnet20.model.picturefile import PNG_MAGIC


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes, depth: int = 8, colour_type: int = 2, more: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return PNG_MAGIC + header + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


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


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_refused(picture, kind):
    path = picture(Image.fromarray(PIXELS), kind)
    for resize in (False, True):
        assert "not a JPEG or PNG" in refused(path, resize=resize).message


def test_text_is_refused(picture):
    assert "not a JPEG or PNG" in refused(picture(b"hello")).message


def sixteen_bits(colour_type: int, channels: int) -> bytes:
    row = b"\0" + bytes(range(2 * channels)) * 32
    return png(32, 32, row * 32, depth=16, colour_type=colour_type)


@pytest.mark.parametrize(
    "content, kind, message",
    [
        (Image.fromarray(PIXELS).convert("CMYK"), "JPEG", "is CMYK, not RGB"),
        (Image.new("RGBA", (32, 32), (9, 8, 7, 254)), "PNG", "has transparent pixels"),
        (Image.new("LA", (32, 32), (9, 0)), "PNG", "has transparent pixels"),
        (sixteen_bits(0, 1), "PNG", "has 16 bits a colour, not 8"),
        (sixteen_bits(2, 3), "PNG", "has 16 bits a colour, not 8"),
        (sixteen_bits(4, 2), "PNG", "has 16 bits a colour, not 8"),
        (sixteen_bits(6, 4), "PNG", "has 16 bits a colour, not 8"),
    ],
    ids=["cmyk", "rgba", "la", "grey16", "rgb16", "la16", "rgba16"],
)
def test_what_rgb_cannot_hold_needs_resize(picture, content, kind, message):
    path = picture(content, kind)
    error = refused(path)
    assert error.message.endswith(message)
    assert "resize" in error.hint
    assert read_picture(path, resize=True).shape == (3, 32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
@pytest.mark.parametrize("resize", [False, True])
def test_what_rgb_holds_exactly_is_taken_as_it_is(picture, mode, resize):
    image = Image.fromarray(PIXELS).convert(mode)
    exact = np.asarray(image.convert("RGB")).transpose(2, 0, 1) / 255
    assert np.array_equal(read_picture(picture(image), resize=resize), exact)


def test_one_colour_is_taken_of_grey_pictures_and_of_others_with_resize(picture):
    exact = np.asarray(Image.fromarray(PIXELS).convert("L")) / 255
    assert np.array_equal(read_picture(picture(Image.fromarray(PIXELS).convert("L")), colours=1), exact[None])
    coloured = picture(Image.fromarray(PIXELS))
    assert np.array_equal(read_picture(coloured, resize=True, colours=1), exact[None])
    with pytest.raises(PictureError, match="has colours, and this network takes grey pictures") as caught:
        read_picture(coloured, colours=1)
    assert "resize" in caught.value.hint


def test_a_grey_jpeg_is_taken_as_it_is(picture):
    image = Image.new("L", (32, 32), 77)
    assert np.allclose(read_picture(picture(image, "JPEG")), 77 / 255)


@pytest.mark.parametrize("mode, key", [("RGB", (1, 2, 3)), ("L", 1), ("P", 1), ("1", 0)])
def test_a_transparent_colour_needs_resize_where_it_is_used(picture, mode, key):
    """Read without its transparency, the picture would have a colour that nobody sees."""
    used, unused = Image.new(mode, (32, 32), key), Image.new(mode, (32, 32), 255 if mode == "1" else 0)
    if mode == "P":
        used.putpalette(bytes(range(60)))
        unused.putpalette(bytes(range(60)))
    path = picture(used, transparency=key)
    assert "transparent" in refused(path).message
    assert (read_picture(path, resize=True) == 1).all()
    path = picture(unused, transparency=key)
    assert np.array_equal(read_picture(path), np.asarray(unused.convert("RGB")).transpose(2, 0, 1) / 255)


def test_a_transparent_grey_of_16_bits_is_white(picture):
    data = (b"\0" + b"\1\2" * 32) * 32
    content = png(32, 32, data, depth=16, colour_type=0, more=chunk(b"tRNS", b"\1\2"))
    assert (read_picture(picture(content), resize=True) == 1).all()


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


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_exif_says(picture, orientation, resize):
    """Every viewer shows it so; and the square's turns are exact."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture(Image.fromarray(PIXELS), exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(read_picture(path, resize=resize), turned.transpose(2, 0, 1) / 255)


def test_a_photograph_is_turned_about_its_centre(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is on the right
    wide = Image.new("RGB", (96, 32), (0, 0, 255))
    wide.paste(Image.fromarray(PIXELS), (32, 0))
    pixels = read_picture(picture(wide, exif=exif), resize=True)
    assert np.array_equal(pixels, np.rot90(PIXELS, -1).transpose(2, 0, 1) / 255)


def test_resize_shows_transparency_as_white(picture):
    assert np.allclose(read_picture(picture(Image.new("RGBA", (40, 40), (0, 0, 0, 0))), resize=True), 1)


def test_resize_scales_16_bits(picture):
    values = np.full((32, 32), 0x80FF, np.uint16)
    assert np.allclose(read_picture(picture(Image.fromarray(values)), resize=True), 0x80 / 255)


def test_bombs_are_refused_undecoded(picture):
    for size in ((60_000, 60_000), (12_000, 12_000), (2**31 - 1, 2**31 - 1)):
        path = picture(png(*size, b""))
        assert "not 32x32" in refused(path).message
        assert "too many pixels" in refused(path, resize=True).message


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG, saying that it is of another size."""
    start = next(i for i in range(len(jpeg)) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC2))
    return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]


def test_a_jpeg_bomb_is_refused_undecoded(picture):
    jpeg = encoded(Image.fromarray(PIXELS), "JPEG")
    assert "more than 268 million" in refused(picture(with_size(jpeg, 20_000, 20_000)), resize=True).message
    progressive = encoded(Image.fromarray(PIXELS), "JPEG", progressive=True)
    path = picture(with_size(progressive, 16_000, 12_500))
    assert "more than 134 million" in refused(path, resize=True).message


MEASURE = """
import sys
from lowmem_resnet20.machine.memory import peak_resident_bytes
from lowmem_resnet20.model.picture import read_picture
before = peak_resident_bytes()
pixels = read_picture(sys.argv[1], resize=True)
print((peak_resident_bytes() - before) / 1e6, pixels.min(), pixels.max())
"""


def test_a_photograph_of_108_megapixels_takes_little_memory(picture):
    path = picture(Image.new("L", (12_000, 9_000), 51), "JPEG")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    megabytes, least, most = map(float, done.stdout.split())
    assert megabytes < 60  # decoded whole it would take 103
    assert least == most == 0.2


def test_no_pixels_at_all(picture):
    refused(picture(png(0, 0, b"")), resize=True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_truncation_is_refused(picture, kind):
    content = encoded(Image.fromarray(PIXELS), kind)
    # A PNG that lacks only its closing chunk still has all its pixels, and is accepted.
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
    monkeypatch.chdir(tmp_path)
    assert find_picture(Path("inputs/luis.png")).samefile(inputs / "luis.png")
    assert find_picture(Path("inputs/absent.png")) == Path("inputs/absent.png")
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "luis.png").touch()
    assert find_picture(Path("inputs/luis.png")) == Path("inputs/luis.png")


def test_hidden_files_of_a_folder_are_no_pictures(tmp_path):
    for name in ("b.JPG", "a.png", "._a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert pictures_in(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "._a.png").touch()
    with pytest.raises(PictureError, match="has no picture in it"):
        pictures_in(tmp_path / "only")
    hidden = tmp_path / ".hidden.png"
    assert pictures_in(hidden) == [hidden]  # named itself


@pytest.mark.parametrize("forbidden", ["iterdir", "stat", "read_bytes"])
def test_a_path_without_permission_is_an_error_of_its_own(tmp_path, monkeypatch, forbidden):
    """Of a folder when it is opened, of what lies in it when it is read: never another kind of exception."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(f"pathlib.Path.{forbidden}", refuse)
    with pytest.raises(PictureError, match=r"cannot read .*: Permission denied"):
        for found in pictures_in(path if forbidden == "stat" else tmp_path):
            read_picture(find_picture(found))
