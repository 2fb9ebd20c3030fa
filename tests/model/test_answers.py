"""What an import is compared with: the source's logits in every form, and labelled pictures; and names of classes."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from test_arrangement import SMALL, Lettered, Net, pictures
from test_trained import trained

from lowmem_resnet20.errors import PictureError, UsageError, WeightsError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, Architecture
from lowmem_resnet20.network.weights import load_weights

GIVEN = ((0.5,), (0.25,))


def logits_of(model, x, given=GIVEN):
    with torch.no_grad():
        return model.double().eval()(torch.from_numpy((x - given[0][0]) / given[1][0])).numpy()


def source(folder, architecture=SMALL, epsilon=1e-5):
    """A state dict, its pictures and its own logits of them."""
    model = trained(architecture)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = epsilon
    torch.save(model.state_dict(), folder / "s.pt")
    x = np.load(pictures(folder, architecture.input_channels))["x"] / 255.0
    return folder / "s.pt", folder / "pictures.npz", logits_of(model, x)


def write(path, form, logits):
    with open(path, "wb") as file:
        if form == "npy":
            np.save(file, logits)
        elif form == "npz":
            np.savez(file, logits=logits, y=np.zeros(3))
        elif form == "npz of one":
            np.savez(file, anything=logits.astype(np.float32))
        elif form == "csv":
            np.savetxt(file, logits, delimiter=",")
        elif form == "csv with names":
            np.savetxt(file, logits, delimiter=";", header=";".join(CIFAR10_CLASSES), comments="")
        else:
            listed = logits.tolist() if form == "json" else {"logits": logits.tolist()}
            file.write(json.dumps(listed).encode())
    return path


@pytest.mark.parametrize("form", ["npy", "npz", "npz of one", "csv", "csv with names", "json", "json object"])
def test_logits_in_every_form(tmp_path, form):
    file, given, logits = source(tmp_path)
    report = import_weights(file, tmp_path / "w", given, *GIVEN, logits=write(tmp_path / "l", form, logits))
    assert report.difference < 1e-5 * np.abs(logits).max() and report.compared and not report.right


@pytest.mark.parametrize(
    "words, hint",
    [
        ({}, ""),
        ({"epsilon": 1e-2}, "they agree with: eps 0.1"),
        ({"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}, "are mean, std and eps the source's"),
    ],
)
def test_an_eps_that_is_not_the_sources_is_found(tmp_path, words, hint):
    file, given, logits = source(tmp_path, epsilon=0.1)
    answers = write(tmp_path / "l", "npy", logits)
    if not hint:
        import_weights(file, tmp_path / "w", given, *GIVEN, epsilon=0.1, logits=answers)
        return
    with pytest.raises(WeightsError, match="a logit of the imported network is off by") as caught:
        import_weights(file, tmp_path / "w", given, **({"mean": (0.5,), "std": (0.25,)} | words), logits=answers)
    assert caught.value.hint.startswith(hint) and not (tmp_path / "w").exists()


def test_a_normalisation_that_is_not_the_sources_is_found(tmp_path):
    model = trained(SMALL)
    torch.save(model.state_dict(), tmp_path / "s.pt")
    given = pictures(tmp_path)
    answers = write(tmp_path / "l", "npy", logits_of(model, np.load(given)["x"] / 255.0, ((0.5,), (0.5,))))
    with pytest.raises(WeightsError) as caught:
        import_weights(tmp_path / "s.pt", tmp_path / "w", given, logits=answers)
    assert caught.value.hint == "they agree with: mean 0.5 std 0.5"


@pytest.mark.parametrize(
    "content, message",
    [
        (lambda x: np.zeros((5, 10)), r"shape \(5, 10\) instead of \(6, 10\): a row for each picture"),
        (lambda x: x[0], r"shape \(10,\) instead of"),
        (lambda x: x * np.nan, "values that are not finite"),
        (lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True), "holds probabilities"),
        (lambda x: x.astype(str), ""),
        (lambda x: np.array([{}], dtype=object), "holds no logits"),
    ],
)
def test_logits_that_are_none(tmp_path, content, message):
    file, given, logits = source(tmp_path)
    np.save(tmp_path / "l.npy", content(logits))
    arguments = file, tmp_path / "w", given, *GIVEN
    if not message:  # numbers as text are numbers
        import_weights(*arguments, logits=tmp_path / "l.npy")
        return
    with pytest.raises(WeightsError, match=message):
        import_weights(*arguments, logits=tmp_path / "l.npy")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"a,b\nc,d\n", b"{}", b"[[[", b"[" * 100000, b"\x93NUMPY", b"PK\x03\x04"]
)
def test_files_that_hold_no_logits(tmp_path, content):
    file, given, _ = source(tmp_path)
    (tmp_path / "l").write_bytes(content)
    with pytest.raises(WeightsError, match=r"holds no logits|holds an array") as caught:
        import_weights(file, tmp_path / "w", given, *GIVEN, logits=tmp_path / "l")
    assert "\n" not in caught.value.message
    with pytest.raises(WeightsError, match="there is no file"):
        import_weights(file, tmp_path / "w", given, *GIVEN, logits=tmp_path / "none")


def test_logits_that_unpack_to_too_much(tmp_path, monkeypatch):
    file, given, _ = source(tmp_path)
    with zipfile.ZipFile(tmp_path / "l", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logits.npy", bytes(1 << 20))
    monkeypatch.setattr("lowmem_resnet20.model.answers._LARGEST_BYTES", 1 << 18)
    with pytest.raises(WeightsError, match="too large for logits"):
        import_weights(file, tmp_path / "w", given, *GIVEN, logits=tmp_path / "l")


# --- labelled pictures --------------------------------------------------------------------------------------


def folders(folder, names, x, labels):
    for i, (picture, label) in enumerate(zip(x, labels, strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / names[label] / f"{i:03}.png")
    return folder


TWO_CLASSES = Architecture(16, (8, 16, 32), 1, 3, 2)


def halves(model, file, head):
    """16 pictures, and their classes by a model of two, which tells half of them to be the one; it is saved."""
    x = (np.random.default_rng(3).integers(0, 2, (16, 3, 2, 2)) * 255).astype(np.uint8).repeat(8, 2).repeat(8, 3)
    logits = logits_of(model, x / 255.0)
    with torch.no_grad():
        getattr(model, head).bias += torch.tensor([0.0, float(np.median(logits[:, 0] - logits[:, 1]))])
    torch.save(model.state_dict(), file)
    labels = logits_of(model, x / 255.0).argmax(1)
    assert labels.sum() == 8
    return x, labels


@pytest.fixture
def two(tmp_path):
    """A folder with a network of two classes, and pictures with their labels."""
    return tmp_path, *halves(trained(TWO_CLASSES), tmp_path / "s.pt", "fc")


def test_labelled_pictures_tell_how_often_it_is_right(two):
    """As it is, and as each set would compute it; of class folders, whose names are the classes', and of an npz."""
    folder, x, labels = two
    wrong = labels.copy()
    wrong[:3] = 1 - wrong[:3]
    photos = folders(folder / "photos", ("cat", "dog"), x, wrong)
    report = import_weights(folder / "s.pt", folder / "w", photos, *GIVEN, side=16)
    weights = load_weights(folder / "w")
    assert weights.classes == ("cat", "dog") and report.classes.endswith("photos, in the order of their names")
    assert report.right["plain"] == (13, 16) and report.compared and not report.rarely_right
    assert set(report.right) == {"plain", "set 5", "set 6", "set 7"}
    assert all(of == 16 and 11 <= right <= 15 for right, of in report.right.values())
    np.savez(folder / "p.npz", x=x, y=1 - labels)
    report = import_weights(folder / "s.pt", folder / "v", folder / "p.npz", *GIVEN)
    assert report.right["plain"] == (0, 16) and report.rarely_right
    assert load_weights(folder / "v").classes == ("0", "1")


def test_class_folders_and_names_must_fit(two):
    folder, x, labels = two
    photos = folders(folder / "photos", ("cat", "stop"), x, labels)
    (folder / "names").write_text("Stop\nCat\n", encoding="utf-8-sig")
    report = import_weights(folder / "s.pt", folder / "w", photos, *GIVEN, side=16, classes=folder / "names")
    assert load_weights(folder / "w").classes == ("Stop", "Cat") and report.right["plain"] == (0, 16)
    (folder / "names").write_text("dog\ncat\n")
    with pytest.raises(PictureError, match="stop is named by no class of the network"):
        import_weights(folder / "s.pt", folder / "v", photos, *GIVEN, side=16, classes=folder / "names")
    (photos / "third").mkdir()
    with pytest.raises(PictureError, match="third has no picture in it"):
        import_weights(folder / "s.pt", folder / "v", photos, *GIVEN, side=16)
    Image.fromarray(x[0].transpose(1, 2, 0)).save(photos / "third" / "a.png")
    with pytest.raises(WeightsError, match="has 3 folders of classes, and the network has 2"):
        import_weights(folder / "s.pt", folder / "v", photos, *GIVEN, side=16)
    Image.fromarray(x[0].transpose(1, 2, 0)).save(photos / "b.png")
    with pytest.raises(PictureError, match=r"b\.png is in none of the class folders"):
        import_weights(folder / "s.pt", folder / "v", photos, *GIVEN, side=16)
    assert not (folder / "v").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a\n", "has 1 lines"),
        (b"", "has 0 lines"),
        (b"a\na\n", "has the class a twice"),
        (b"a\nb\nc\n", "names 3 classes, and .* has 2"),
        (b"a\n\xff\n", "is not text in UTF-8"),
        (b"a\n" + b"b" * 65, "cannot be a name"),
        (b"a\n\x1b[31mb\n", "cannot be a name"),
        (b"a\n\nb", "cannot be a name|has 3 lines"),
        (b"\n".join(str(i).encode() for i in range(200)), "has 200 lines"),
        (b"a\n" * 40000, "too large for names"),
    ],
)
def test_names_that_are_none(two, content, message):
    folder, x, _ = two
    (folder / "names").write_bytes(content)
    np.savez(folder / "p.npz", x=x)
    with pytest.raises(WeightsError, match=message):
        import_weights(folder / "s.pt", folder / "w", folder / "p.npz", *GIVEN, classes=folder / "names")
    assert not (folder / "w").exists()


def test_guesses_are_taken_by_labels_only_if_they_are_mostly_right(tmp_path):
    torch.manual_seed(0)
    x, labels = halves(Net(TWO_CLASSES, Lettered, bias=True, norm=False), tmp_path / "s.pt", "head")
    np.savez(tmp_path / "p.npz", x=x, y=1 - labels)
    with pytest.raises(WeightsError, match="comes first, and 0 of 16 pictures are right"):
        import_weights(tmp_path / "s.pt", tmp_path / "w", tmp_path / "p.npz", *GIVEN)
    assert not (tmp_path / "w").exists()
    np.savez(tmp_path / "p.npz", x=x, y=labels)
    assert import_weights(tmp_path / "s.pt", tmp_path / "w", tmp_path / "p.npz", *GIVEN).right["plain"] == (16, 16)


def test_one_colour_needs_its_normalisation(tmp_path):
    architecture = Architecture(16, (8, 16, 32), 1, 1, 2)
    file, given, _ = source(tmp_path, architecture)
    with pytest.raises(UsageError, match="mean and std of a network of one colour are not known"):
        import_weights(file, tmp_path / "w", given)
    with pytest.raises(UsageError, match=r"mean is 3 numbers, and the network has 1 colour$"):
        import_weights(file, tmp_path / "w", given, (0.5,) * 3, (0.5,))
    assert import_weights(file, tmp_path / "w", given, (0.5,), (0.5,)).normalisation == "words"
    assert import_weights(file, tmp_path / "w", given, (0.5,), (0.5,)).compared is False
