"""scripts/train.py on a handful of pictures: resuming changes nothing, and its parts do what they say."""

import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniature import random_picture, random_weights

torch = pytest.importorskip("torch")

from lowmem_resnet20.errors import PictureError
from lowmem_resnet20.model.importing import import_weights
from lowmem_resnet20.model.plain import PlainNetwork
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES, RESNET20, Architecture
from lowmem_resnet20.network.weights import load_weights

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import train
import trainingset


def pictures(count=48, seed=0):
    """Pictures whose class is their brightness: two classes, easily learnt."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = random.integers(0, 100, (count, 3, 32, 32)) + 150 * labels[:, None, None, None]
    return torch.from_numpy(x.astype(np.uint8)), torch.from_numpy(labels)


def as_training_set(data):
    """All exact."""
    return trainingset.TrainingSet(data[0], data[0], data[1], torch.arange(len(data[1])))


def arguments(tmp_path, epochs, **more):
    args = train.arguments(["--data", str(tmp_path), "--batch", "16", "--held-out", "0", "--rate", "0.05"])
    args.epochs, args.folder, args.device = epochs, tmp_path / more.pop("run", "run"), "cpu"
    for name, value in more.items():
        setattr(args, name, value)
    return args


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    data = pictures()
    whole = train.train(arguments(tmp_path, 3, run="whole"), as_training_set(data))

    class Interrupted(Exception):
        pass

    steps, epochs = train.Run.step, []

    def step(self, x, y):
        epochs.append(self.epoch)
        if self.epoch == 1 and epochs.count(1) == 1:
            raise Interrupted
        return steps(self, x, y)

    monkeypatch.setattr(train.Run, "step", step)
    with pytest.raises(Interrupted):
        train.train(arguments(tmp_path, 3), as_training_set(data))
    epochs_before = len(epochs)
    resumed = train.train(arguments(tmp_path, 3), as_training_set(data))
    assert resumed.epoch == 3 and set(epochs[epochs_before:]) == {1, 2}  # the first was not trained again
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name]), name


def test_it_learns(tmp_path):
    data = pictures(96)
    run = train.train(arguments(tmp_path, 6, averaging=0.5, cutout=0), as_training_set(data))
    assert train.accuracy(run.averaged_model(), trainingset.normalise(data[0]), data[1]) > 0.9
    train.export(run, tmp_path / "w", as_training_set(data), count=32)
    weights = load_weights(tmp_path / "w")
    assert set(weights.bounds) == set(RESNET20.relu_channels())
    logits = np.abs(PlainNetwork(weights).logits(data[0].numpy() / 255)).max()
    assert 0.5 * logits < weights.largest_logit <= logits * 1.001
    found = PlainNetwork(weights).logits(data[0].numpy() / 255).argmax(1)
    assert (found == data[1].numpy()).mean() > 0.9


def test_calibration_sees_the_whole_set(tmp_path):
    """A file may be sorted by class: a few dark pictures first, then bright ones, which alone reach the bounds."""
    x, labels = pictures(96)
    order = torch.argsort(labels, stable=True)
    data = x[order], labels[order]
    run = train.train(arguments(tmp_path, 1, cutout=0), as_training_set(data))
    train.export(run, tmp_path / "w", as_training_set(data), count=24)
    weights = load_weights(tmp_path / "w")
    bright = np.abs(PlainNetwork(weights).layers(data[0][-24:].numpy() / 255)["conv1"]).max()
    assert weights.bounds["conv1"].max() > 0.9 * bright


def test_unit_bounds_change_no_logit():
    weights = random_weights(seed=2)
    scaled = train.unit_bounds(weights)
    x = random_picture(weights.architecture, np.random.default_rng(0))
    assert np.abs(PlainNetwork(scaled).logits(x) - PlainNetwork(weights).logits(x)).max() < 1e-4
    assert scaled.largest_logit == weights.largest_logit
    values = PlainNetwork(scaled).layers(x)
    for name, bound in scaled.bounds.items():
        assert bound.max() <= 1 and (np.abs(values[name]).max((1, 2)) <= bound * 1.001).all()
    assert max(bound.max() for bound in scaled.bounds.values()) == 1


def test_jpeg_pictures_and_their_exact_copies_are_matched(tmp_path):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    exact = [np.asarray(Image.fromarray(c).resize((32, 32), Image.BILINEAR)) for c in coarse]
    files = []
    for picture in exact:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=75)
        files.append(buffer.getvalue())
    labels = np.arange(30) % 3
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "train_jpeg.npz", bytes=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, y=labels)
    chosen = random.permutation(30)[:9]
    np.savez(tmp_path / "train_exact.npz", x=np.stack(exact)[chosen].transpose(0, 3, 1, 2), y=labels[chosen])
    jpeg, some = (
        trainingset.read_labelled(tmp_path / "train_jpeg.npz"),
        trainingset.read_labelled(tmp_path / "train_exact.npz"),
    )
    assert (trainingset.match(some, jpeg).numpy() == chosen).all()
    pictures = trainingset.training_set(tmp_path, restore=False)
    assert (pictures.exact.numpy() == chosen).all()
    assert torch.equal(pictures.clean[chosen], some[0]) and not torch.equal(pictures.clean, pictures.jpeg)


def test_how_pictures_are_shown():
    """Exact pictures as they are, JPEG ones with the detail that an exact one lost to JPEG."""
    random = torch.Generator().manual_seed(3)
    jpeg = torch.randint(50, 200, (40, 3, 32, 32), generator=random, dtype=torch.uint8)
    clean = jpeg.clone()
    clean[:4] += 7
    pictures = trainingset.TrainingSet(clean, jpeg, torch.zeros(40), torch.arange(4))
    everything = torch.arange(40)
    assert torch.equal(pictures.shown(everything, 1.0, 0.5, random), jpeg)
    assert torch.equal(pictures.shown(everything, 0.0, 0.0, random), clean)
    detailed = pictures.shown(everything, 0.0, 1.0, random)
    assert torch.equal(detailed, jpeg + 7)


def test_a_wider_network_teaches(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "FOLDER", tmp_path)
    data = as_training_set(pictures(32))
    train.train(arguments(tmp_path, 1, run="teacher", wide=2, cutout=0), data)
    taught = train.train(arguments(tmp_path, 2, run="taught", teacher="teacher", distil=1.0, cutout=0), data)
    x = data.clean[:4].float().contiguous(memory_format=torch.channels_last) / 255
    assert taught.model.fc.in_features == 64 and taught.teacher.fc.in_features == 128
    answers = taught.teacher(x).detach()
    same, other = (float(taught._distance_from_teacher(x, logits)) for logits in (answers, 5 - 3 * answers))
    assert same < 1e-2 < other


def test_augmentation_moves_flips_and_erases():
    x = torch.arange(32 * 32, dtype=torch.float32).view(1, 1, 32, 32).expand(64, 3, 32, 32) / 4.1
    generator = torch.Generator().manual_seed(0)
    y = trainingset.augment(x.byte(), generator, cutout=8)
    assert y.shape == x.shape
    assert len({float(v) for v in y[:, 0, 16, 16]}) > 20  # different crops
    erased = (y == 0).all(1).flatten(1).sum(1)
    assert erased.min() >= 16 and erased.max() <= 64 + 32
    plain = trainingset.augment(x.byte(), torch.Generator().manual_seed(0), cutout=0)
    kept = y != 0
    assert torch.equal(y[kept], plain[kept])
    rightwards = plain[:, 0, 16, 17] > plain[:, 0, 16, 15]  # as in the pictures; flipped, it is the other way
    assert 16 < rightwards.sum() < 48


def test_tail_penalty_counts_what_lies_beyond():
    penalty = train.TailPenalty(deviations=4.0)
    x = torch.ones(1, 1, 10, 10)
    assert torch.equal(penalty("a", x), x) and float(penalty.total) == 0
    x[0, 0, 0, 0] = 100.0
    penalty("b", x)
    assert float(penalty.total) > 0.3


def test_restoration_helps():
    """Pictures darkened by 20 are brightened again."""
    x, _ = pictures(200, seed=1)
    smooth = torch.nn.functional.avg_pool2d(x.float(), 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    exact, dark = smooth.clamp(20, 255).byte(), (smooth.clamp(20, 255) - 20).byte()
    model = trainingset.train_restorer(exact, dark, epochs=4)
    error = (trainingset.restored(model, dark).float() - exact.float()).abs().mean()
    assert error < 10


def test_a_run_starts_from_another(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "FOLDER", tmp_path)
    data = as_training_set(pictures())
    first = train.train(arguments(tmp_path, 1, run="first"), data)
    second = train.Run(arguments(tmp_path, 1, run="second", start="first", seed=7), data, steps_an_epoch=3)
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, first.average[name]), name
        assert torch.equal(value, second.average[name]), name


def test_an_approximated_relu_is_the_sets_series_with_the_exact_gradient():
    weights = random_weights(RESNET20)
    approximated, exact = train.approximations(weights, [6])
    assert exact is train.relu
    set_ = train.parameter_set(6)
    reach = set_.refresh.reach
    unit = reach * train.scale(weights, set_.refresh).units["conv1"]
    x = torch.linspace(-1, 1, 64).repeat(1, len(unit), 1, 1).mul(torch.from_numpy(unit).float()[:, None, None])
    x.requires_grad_()
    found = approximated("conv1", x)
    found.sum().backward()
    assert torch.equal(x.grad, (x > 0).float())
    expected = set_.refresh.approximated_relu(np.linspace(-reach, reach, 64)) / reach
    assert np.abs(found.detach().numpy() / unit[:, None, None] - expected).max() < 1e-4
    assert np.abs(expected - np.maximum(np.linspace(-1, 1, 64), 0)).max() > 1e-3


def test_training_with_approximated_relus(tmp_path):
    data = as_training_set(pictures())
    run = train.train(arguments(tmp_path, 1, approximate=[1, 6], cutout=0), data)
    assert [type(a).__name__ for a in run.activations] == ["ApproximatedReLU", "ApproximatedReLU", "function"]


def test_a_soup_is_the_mean_of_runs_with_statistics_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "FOLDER", tmp_path)
    data = as_training_set(pictures())
    first = train.train(arguments(tmp_path, 1, run="first"), data)
    second = train.train(arguments(tmp_path, 1, run="second", start="first", seed=7), data)
    mixed = train.soup(arguments(tmp_path, 1, soup=["first", "second"]), data)
    weights = "layer1.0.conv1.weight"
    assert torch.allclose(mixed[weights], (first.average[weights] + second.average[weights]) / 2)
    again = train.soup(arguments(tmp_path, 1, soup=["first", "second"]), data)
    for name, value in mixed.items():
        assert torch.equal(value, again[name]), name
    means = [state["bn1.running_mean"] for state in (mixed, first.average, second.average)]
    assert not torch.equal(means[0], (means[1] + means[2]) / 2)


# --- pictures and networks of one's own -------------------------------------------------------------------

NAMES = ("dark", "light", "twilight")


def save_folders(folder, count=20, side=16):
    """Grey pictures whose class is their brightness, in folders named by it."""
    random = np.random.default_rng(0)
    for number in range(count * len(NAMES)):
        label = number % len(NAMES)
        path = folder / NAMES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((random.integers(0, 60, (side, side)) + 90 * label).astype(np.uint8)).save(path)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """``trained("--data", "DIR")``: the script, with few epochs of a small network, in an empty working directory."""
    monkeypatch.setattr(train, "FOLDER", tmp_path / "training")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        small = ("--classes", "auto", "--depth", "8", "--channels", "8/16/32", "--device", "cpu", "--epochs", "4")
        monkeypatch.setattr(sys, "argv", ["train.py", *small, *map(str, words)])
        train.main()

    return run


def test_class_folders_of_ones_own(trained, tmp_path, capsys):
    """From folders to a weight file, and to a state dict that is imported to the same; then on test pictures."""
    save_folders(tmp_path / "p")
    words = ("--data", "p", "--colours", 1, "--side", 16, "--run", "mine")
    trained(*words, "--export", "w.safetensors", "--state", "s.th")
    weights = load_weights("w.safetensors")
    shape = Architecture(width=16, channels=(8, 16, 32), blocks_per_stage=1, input_channels=1, classes=3)
    assert (weights.architecture, weights.classes, weights.name) == (shape, NAMES, "mine")
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "p").rglob("*.png"))]) / 255
    assert (weights.mean, weights.std) == ((round(pixels.mean(), 4),), (round(pixels.std(), 4),))
    assert weights.epsilon == 1e-5
    told = capsys.readouterr().err.splitlines()[-1]
    words_to_import = f"import_weights s.th OUT pictures p mean {weights.mean[0]} std {weights.std[0]}"
    assert told == f"written: s.th; to import it: {words_to_import}"
    import_weights(tmp_path / "s.th", tmp_path / "i", tmp_path / "p", weights.mean, weights.std, side=16)
    imported = load_weights(tmp_path / "i")
    x = pixels[:5, None]
    logits = PlainNetwork(weights).logits(x)
    assert np.abs(PlainNetwork(imported).logits(x) - logits).max() < 1e-3
    trained("--data", "p", "--evaluate", "w.safetensors")
    assert " of 60 right, " in capsys.readouterr().out
    (tmp_path / "p" / "dark" / "0.png").unlink()  # so the mean is another
    with pytest.raises(SystemExit, match="give this run a name"):
        trained(*words, "--export", "w.safetensors")


def test_an_npz_file_has_numbers_for_classes(trained, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", x=x, y=np.arange(40) % 4)
    trained("--data", "p.npz", "--epochs", 1, "--export", "w")
    assert load_weights("w").classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(("name", "classes"), [("cifar-10-batches-py", 10), ("cifar-100-python", 100)])
def test_what_torchvision_has(trained, tmp_path, monkeypatch, name, classes):
    """Of a set that was published; its files are checked before they are read, so these few pictures pass for it."""
    datasets = pytest.importorskip("torchvision").datasets
    kind = getattr(datasets, trainingset.TORCHVISION[name])
    folder, random = tmp_path / "data" / name, np.random.default_rng(0)
    folder.mkdir(parents=True)
    for file, _ in (*kind.train_list, *kind.test_list):
        labels = np.arange(classes).tolist()
        batch = {"data": random.integers(0, 256, (classes, 3072), dtype=np.uint8)}
        batch |= {"labels": labels} if classes == 10 else {"fine_labels": labels}
        (folder / file).write_bytes(pickle.dumps(batch))
    names = [f"kind {i}" for i in range(classes)]
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: names}))
    with pytest.raises(SystemExit, match="is not as it was published"):
        trained("--data", "data")
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *_: True)
    trained("--data", "data", "--epochs", 1, "--export", "w")
    assert load_weights("w").classes == tuple(names) and load_weights("w").architecture.classes == classes
    [(shown, (x, y))] = trainingset.test_pictures(folder, load_weights("w").architecture, names)
    assert shown == name and x.shape == (classes, 3, 32, 32) and y.tolist() == list(range(classes))
    for words, message in ((("--colours", 1), "of 3 colours in"), (("--side", 16), "32x32 pictures")):
        with pytest.raises(SystemExit, match=message):
            trained("--data", folder, *words)
    (tmp_path / "data" / next(other for other in trainingset.TORCHVISION if other != name)).mkdir()
    with pytest.raises(SystemExit, match="holds CIFAR-10 and CIFAR-100"):
        trained("--data", "data")


def test_what_cannot_be_trained_is_refused_in_a_line(trained, tmp_path):
    save_folders(tmp_path / "p", 2)
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 32, 32), np.uint8))
    save_folders(tmp_path / "one" / "only", 1)
    save_folders(tmp_path / "q", 2)
    (tmp_path / "q" / " dark").mkdir()
    for words, message in (
        (("--data", "none"), "there are no class folders in none"),
        (("--data", "empty"), "there are no class folders in empty"),
        (("--data", "p/dark/0.png"), "p/dark/0.png is no npz file with labels y"),
        (("--data", "x.npz"), "x.npz is no npz file with labels y"),
        (("--data", "one"), "2 to 128 classes apart, not 1"),
        (("--data", "q"), "' dark' cannot be a name"),
        (("--data", "p", "--side", 24), "powers of two"),
        (("--data", "p", "--side", 128, "--export", "w"), "131,?072 slots"),
        (("--data", "p", "--now"), "name a file with --export"),
    ):
        with pytest.raises(SystemExit, match=message):
            trained(*words)
    assert not (tmp_path / "training").exists()


def test_pictures_of_other_classes_than_cifars_need_auto(tmp_path):
    save_folders(tmp_path / "p", 2)
    with pytest.raises(PictureError, match="dark is named by no class of the network"):
        trainingset.training_set(tmp_path / "p", False)
    (tmp_path / "q" / "ship").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "q" / "ship" / "a.png")
    found = trainingset.training_set(tmp_path / "q", False)
    assert found.classes == CIFAR10_CLASSES and found.labels.tolist() == [8]


def test_a_run_of_another_shape_is_no_start_and_no_teacher(trained, tmp_path):
    for name, colours in (("grey", 1), ("colour", 3)):
        save_folders(tmp_path / name)
        trained("--data", name, "--colours", colours, "--side", 16, "--epochs", 1, "--run", name)
    words = ("--data", "colour", "--side", 16, "--epochs", 1, "--run", "new")
    for more in (("--start", "grey"), ("--teacher", "grey"), ("--start", "colour", "--depth", 14)):
        with pytest.raises(SystemExit, match=f"run {more[1]} is of a ResNet-8"):
            trained(*words, *more)
    trained(*words, "--teacher", "colour", "--depth", 14)


def test_what_is_chosen_by_the_number_of_pictures():
    for count, expected in (
        (50_000, (1000, 256, 0.4)),
        (1497, (149, 67, 0.4 * 67 / 256)),
        (60, (6, 16, 0.025)),
        (10, (1, 9, 0.4 * 9 / 256)),
    ):
        args = train.arguments(["--data", "x"])
        train.fit(args, count)
        assert (args.held_out, args.batch, args.rate) == expected
    args = train.arguments(["--data", "x", "--held-out", "7", "--batch", "3", "--rate", "1"])
    train.fit(args, 50_000)
    assert (args.held_out, args.batch, args.rate) == (7, 3, 1)


def test_signs_are_not_mirrored(tmp_path):
    assert train.arguments(["--data", "x"]).flip and not train.arguments(["--data", "x", "--classes", "auto"]).flip
    assert train.arguments(["--data", "x", "--classes", "auto", "--flip"]).flip
    x = torch.arange(32.0).expand(64, 1, 32, 32).mul(8).byte()
    plain = trainingset.augment(x, torch.Generator().manual_seed(0), 0, False, (0.5,), (0.25,))
    assert (plain[:, 0, 16, 17] > plain[:, 0, 16, 15]).all()
