"""Metadata of a picture's file, damaged or large, never keeps its pixels from being read."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lowmem_resnet20.errors import PictureError
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.model.picturefile import PNG_MAGIC

PIXELS = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
MANY = 1_100_000


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, damage: int = 0) -> bytes:
    checksum = zlib.crc32(kind + body) ^ damage
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.fixture
def read(tmp_path):
    def read(content: bytes, resize: bool = False) -> np.ndarray:
        (tmp_path / "picture").write_bytes(content)
        return read_picture(tmp_path / "picture", resize=resize)

    return read


PNG_METADATA = {
    "profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(MANY))),
    "profile of an unknown compression": chunk(b"iCCP", b"p\0\7abc"),
    "compressed text": chunk(b"zTXt", b"k\0\0" + zlib.compress(b"t" * MANY)),
    "text": chunk(b"tEXt", b"k\0" + b"t" * MANY) * 70,
    "international text": chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"t" * MANY)),
    "text of a wrong checksum": chunk(b"tEXt", b"k\0t", damage=1),
    "exif": chunk(b"eXIf", b"nonsense"),
    "exif cut short": chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01"),
    "exif of a wrong checksum": chunk(b"eXIf", b"II*\0", damage=1),
    "empty exif": chunk(b"eXIf", b""),
    "gamma": chunk(b"gAMA", b""),
    "resolution": chunk(b"pHYs", b"\0"),
    "chromaticities": chunk(b"cHRM", b"\0"),
    "rendering intent": chunk(b"sRGB", b""),
    "animation": chunk(b"acTL", b"\0"),
    "frame": chunk(b"fcTL", b""),
}


def test_the_orientation_in_xmp_does_not_count(read):
    """That in EXIF does, whatever the version of Pillow makes of XMP."""
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='3'/>"
    jpeg = encoded("JPEG", quality=95)
    assert np.array_equal(read(jpeg[:2] + segment(0xE1, xmp) + jpeg[2:]), read(jpeg))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = encoded("JPEG", quality=95, exif=exif)
    assert np.array_equal(read(turned[:2] + segment(0xE1, xmp) + turned[2:]), read(jpeg)[:, ::-1, ::-1])


@pytest.mark.parametrize("name", PNG_METADATA)
@pytest.mark.parametrize("after_pixels", [False, True])
@pytest.mark.parametrize("resize", [False, True])
def test_png(read, name, after_pixels, resize):
    png = encoded("PNG")
    place = -12 if after_pixels else 33  # before IEND, after IHDR
    content = png[:place] + PNG_METADATA[name] + png[place:]
    assert np.array_equal(read(content, resize), PIXELS.transpose(2, 0, 1) / 255)


JPEG_METADATA = {
    "profile": segment(0xE2, b"ICC_PROFILE\0"),
    "preview": segment(0xE2, b"MPF\0II*\0\x08\0\0\0"),
    "photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "exif": segment(0xE1, b"Exif\0\0nonsense"),
    "exif cut short": segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"),
    "comment": segment(0xFE, bytes(65_000)) * 20,
    "fill bytes": b"\xff\xff\xff" + segment(0xFE, b"c"),
}


@pytest.mark.parametrize("name", JPEG_METADATA)
@pytest.mark.parametrize("resize", [False, True])
def test_jpeg(read, name, resize):
    jpeg = encoded("JPEG", quality=95)
    assert np.array_equal(read(jpeg[:2] + JPEG_METADATA[name] + jpeg[2:], resize), read(jpeg))


def test_of_an_animation_the_still_picture_is_read(read):
    others = [Image.new("RGB", (32, 32), (i, 0, 0)) for i in range(3)]
    assert np.array_equal(read(encoded("PNG", save_all=True, append_images=others)), PIXELS.transpose(2, 0, 1) / 255)


def test_of_several_pictures_in_a_jpeg_the_first_is_read(read):
    several = encoded("MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])
    assert np.array_equal(read(several), read(encoded("JPEG")))


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
def test_forms_of_jpeg(read, options):
    assert np.array_equal(read(encoded("JPEG", **options)), read(encoded("JPEG")))


def test_an_interlaced_png(read):
    """Adam7, written here for Pillow does not write it: its seven passes are pictures of every so many pixels."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, down, across in passes for row in PIXELS[y::down, x::across])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 1))
    content = PNG_MAGIC + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(read(content), PIXELS.transpose(2, 0, 1) / 255)


def test_a_png_that_lacks_its_last_byte_has_all_its_pixels(read):
    content = encoded("PNG")
    assert np.array_equal(read(content[:-1]), read(content))


def test_a_jpeg_that_lacks_its_last_byte_may_lack_pixels(read):
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(encoded("JPEG")[:-1])


def test_metadata_longer_than_the_file_leaves_no_pixels(read):
    png = encoded("PNG")
    with pytest.raises(PictureError, match="damaged or cut short"):
        read(png[:33] + struct.pack(">I", 2**31) + b"tEXt" + png[33:])
