"""Pictures with their classes: class folders, npz files, pictures alone; and nothing left out in silence."""

from __future__ import annotations

import io
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from lowmem_resnet20.errors import EnvironmentFault, PictureError
from lowmem_resnet20.model.description import side_of
from lowmem_resnet20.model.labelled import Pictures, picture_files, read_pictures
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, RESNET20, Architecture

GREY = Architecture(width=16, channels=(4, 8, 16), blocks_per_stage=1, input_channels=1, classes=3)
RANDOM = np.random.default_rng(1)


def save(path, size=(32, 32)):
    """A picture of random colours in a file, with the folders it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, "PNG")
    return path


def test_class_folders(tmp_path):
    """By the network's index, in any case of letters; a class may have none."""
    files = [save(tmp_path / name) for name in ("SHIP/b.png", "cat/a.jpg", "cat/c.JPEG")]
    found = read_pictures(tmp_path, RESNET20, CIFAR10_CLASSES)
    assert found.y.tolist() == [8, 3, 3]
    assert found.names == tuple(map(str, files)) and found.classes == ("SHIP", "cat")
    assert found.pixels.dtype == np.uint8
    assert (found.x == np.stack([read_picture(file) for file in files])).all()
    assert picture_files(tmp_path) == files and picture_files(files[0]) == files[:1]


def test_classes_are_those_of_the_folders_where_none_are_given(tmp_path):
    for name in ("zebra", "cat", "10", "9"):
        save(tmp_path / name / "a.png")
    found = read_pictures(tmp_path, RESNET20)
    assert found.classes == ("10", "9", "cat", "zebra") and found.y.tolist() == [0, 1, 2, 3]


def test_pictures_are_scaled_to_what_the_network_takes(tmp_path):
    file = save(tmp_path / "a" / "large.png", (300, 200))
    found = read_pictures(tmp_path, GREY)
    assert (found.x[0] == read_picture(file, 16, resize=True, colours=1)).all() and found.x.shape == (1, 1, 16, 16)


def test_names_that_differ_in_case_alone_are_classes_of_their_own(tmp_path):
    for name in ("Cat", "cat"):
        save(tmp_path / name / "a.png")
    assert read_pictures(tmp_path, RESNET20, ("cat", "Cat")).y.tolist() == [1, 0]
    with pytest.raises(PictureError, match="CAT is named by no class"):
        save(tmp_path / "CAT" / "a.png")
        read_pictures(tmp_path, RESNET20, ("cat", "Cat"))


def test_accents_are_the_same_however_they_are_kept(tmp_path):
    save(tmp_path / unicodedata.normalize("NFD", "Café") / "a.png")
    assert read_pictures(tmp_path, RESNET20, ("Bar", "café")).y.tolist() == [1]
    assert read_pictures(tmp_path, RESNET20).classes == (unicodedata.normalize("NFC", "Café"),)


# --- nothing is left out ----------------------------------------------------------------------------------


def test_a_folder_of_no_class_is_refused(tmp_path):
    save(tmp_path / "cat" / "a.png")
    save(tmp_path / "stop" / "a.png")
    with pytest.raises(PictureError, match="stop is named by no class of the network") as caught:
        read_pictures(tmp_path, RESNET20, CIFAR10_CLASSES)
    assert caught.value.hint.startswith("its classes are Airplane, Automobile, ")
    with pytest.raises(PictureError) as caught:
        read_pictures(tmp_path, RESNET20, [f"class {n}" for n in range(100)])
    assert caught.value.hint.endswith("class 11, ..")


def test_pictures_beside_class_folders_are_refused(tmp_path):
    save(tmp_path / "cat" / "a.png")
    save(tmp_path / "lost.png")
    with pytest.raises(PictureError, match=r"lost.png is in none of the class folders"):
        read_pictures(tmp_path, RESNET20, CIFAR10_CLASSES)


def test_folders_in_class_folders_are_refused(tmp_path):
    save(tmp_path / "cat" / "old" / "a.png")
    save(tmp_path / "cat" / "b.png")
    with pytest.raises(PictureError, match="old is a folder in a class folder"):
        read_pictures(tmp_path, RESNET20, CIFAR10_CLASSES)


def test_a_class_folder_without_a_picture_is_refused(tmp_path):
    save(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(PictureError, match="dog has no picture in it"):
        read_pictures(tmp_path, RESNET20, CIFAR10_CLASSES)


def test_hidden_folders_and_files_are_no_part_of_it(tmp_path):
    for name in (".thumbnails/x.png", "cat/.thumbnails/x.png", "cat/._a.png", "cat/a.png", "._b.png"):
        save(tmp_path / name)
    (tmp_path / "about.txt").write_text("cats")
    assert read_pictures(tmp_path, RESNET20, CIFAR10_CLASSES).names == (str(tmp_path / "cat" / "a.png"),)


def test_a_damaged_picture_is_named(tmp_path):
    save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"cat/b.png is not a JPEG or PNG"):
        read_pictures(tmp_path, RESNET20)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    save(tmp_path / "cat" / "a.png")

    def refused(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        read_pictures(tmp_path, RESNET20)


# --- pictures without a class -----------------------------------------------------------------------------


def test_pictures_without_a_class(tmp_path):
    files = [save(tmp_path / name) for name in ("a.png", "b.png")]
    for path, names in ((tmp_path, files), (files[1], files[1:])):
        found = read_pictures(path, RESNET20, CIFAR10_CLASSES)
        assert found.y is None and found.classes == () and found.names == tuple(map(str, names))
    with pytest.raises(PictureError, match="there are no pictures"):
        read_pictures(tmp_path / "none", RESNET20)


# --- npz --------------------------------------------------------------------------------------------------


def test_an_npz_file(tmp_path):
    x = RANDOM.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=[0, 9, 3])
    found = read_pictures(tmp_path / "a.npz", RESNET20)
    assert (found.pixels == x).all() and found.y.tolist() == [0, 9, 3] and found.names[2] == "a.npz[2]"
    np.savez(tmp_path / "a.npz", x=x)
    assert read_pictures(tmp_path / "a.npz", RESNET20).y is None
    np.savez(tmp_path / "grey.npz", x=x[:, 0, :16, :16], y=[0, 1, 2])
    assert read_pictures(tmp_path / "grey.npz", GREY).pixels.shape == (3, 1, 16, 16)


def test_an_npz_file_of_jpeg(tmp_path):
    files = []
    for _ in range(2):
        buffer = io.BytesIO()
        Image.fromarray(RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "a.npz", bytes=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, y=[1, 2])
    found = read_pictures(tmp_path / "a.npz", RESNET20)
    (tmp_path / "b.jpg").write_bytes(files[1])
    assert (found.x[1] == read_picture(tmp_path / "b.jpg")).all() and found.y.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 3, 16, 16), np.uint8)}, r"x is uint8 \(2, 3, 16, 16\) instead of uint8 \(n, 3, 32, 32\)"),
        ({"x": np.zeros((2, 3, 32, 32))}, "x is float64"),
        ({"x": np.zeros((0, 3, 32, 32), np.uint8)}, "instead of"),
        ({"x": np.zeros((2, 3, 32, 32), np.uint8), "y": [0, 10]}, "y is not a class of the 10"),
        ({"x": np.zeros((2, 3, 32, 32), np.uint8), "y": [0, -1]}, "y is not a class"),
        ({"x": np.zeros((2, 3, 32, 32), np.uint8), "y": [0]}, "y is not a class"),
        ({"x": np.zeros((2, 3, 32, 32), np.uint8), "y": ["cat", "dog"]}, "holds no pictures"),
        ({"z": [0]}, "holds no pictures"),
        ({"x": np.array([{}])}, "holds no pictures"),
    ],
)
def test_an_npz_file_that_does_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(PictureError, match=message):
        read_pictures(tmp_path / "a.npz", RESNET20, CIFAR10_CLASSES)


def test_an_npz_file_that_unpacks_to_too_much_is_refused_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((99, 3, 32, 32), np.uint8))
    monkeypatch.setattr("lowmem_resnet20.model.labelled.LARGEST_BYTES", 1 << 18)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("nothing may be unpacked"))
    with pytest.raises(PictureError, match="unpacks to more than"):
        read_pictures(tmp_path / "a.npz", RESNET20)


@pytest.mark.parametrize(
    ("form", "size", "message"),
    [("GIF", (32, 32), r"a.npz\[0\] is not a JPEG or PNG"), ("JPEG", (64, 32), r"a.npz\[0\] is 64x32 pixels")],
)
def test_pictures_in_an_npz_file_are_what_pictures_may_be(tmp_path, form, size, message):
    """Pillow reads formats by programs that happen to be there, and pictures of any size."""
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, form)
    content = np.frombuffer(buffer.getvalue(), np.uint8)
    np.savez(tmp_path / "a.npz", bytes=content, offsets=[0, len(content)], y=[1])
    with pytest.raises(PictureError, match=message):
        read_pictures(tmp_path / "a.npz", RESNET20)


def test_a_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", b"not an array")
    with pytest.raises(PictureError, match="x is"):
        read_pictures(tmp_path / "a.npz", RESNET20)


def test_the_side_of_damaged_pictures_is_left_to_their_reader(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=RANDOM.integers(0, 256, (3, 3, 16, 16), dtype=np.uint8))
    assert side_of(tmp_path / "a.npz") == 16
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:60] + b"\xff" * 60 + content[120:])
    assert side_of(tmp_path / "a.npz") == 32
    with pytest.raises(PictureError, match="holds no pictures"):
        read_pictures(tmp_path / "a.npz", RESNET20)
    header = b"\x93NUMPY\x01\x00" + (2000).to_bytes(2, "little") + b"(" * 2000
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("x.npy", header)
    assert side_of(tmp_path / "b.npz") == 32


# --- some of them -----------------------------------------------------------------------------------------


def test_some_are_spread_evenly():
    found = Pictures(np.arange(10, dtype=np.uint8)[:, None, None, None], np.arange(10), tuple("abcdefghij"))
    some = found.some(4)
    assert some.pixels.ravel().tolist() == some.y.tolist() == [0, 2, 5, 7] and some.names == ("a", "c", "f", "h")
    assert found.some(20).names == found.names
    assert Pictures(found.pixels, None, found.names).some(2).y is None
