"""scripts/measure.py on the miniature: the figures of a row, which rows are measured, and what it waits for."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import parties
from lowmem_resnet20.cli.output import Classification
from lowmem_resnet20.cli.words import parse
from lowmem_resnet20.client import client
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.forward import forward
from lowmem_resnet20.network.parameters import PARAMETER_SETS
from lowmem_resnet20.progress.display import SilentProgress
from lowmem_resnet20.server.request import Job
from miniature import ARCHITECTURE, INSECURE_FUNCTIONAL_SET, INSECURE_NATIVE_SET, random_picture, random_weights

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import measure
import measurements
import quiet
from origin import Origin

WEIGHTS = random_weights()
SETS = {
    (6, "openfhe"): INSECURE_FUNCTIONAL_SET,
    (6, "native"): INSECURE_NATIVE_SET,
    (7, "native"): replace(INSECURE_NATIVE_SET, number=7, pictures=2),
}
HERE = Origin("code", "weights", "a processor", "versions")
MADE_UP = {"others": 0.01, "commit": "c0ffee", "changed": False, "time": "2026-11-25 18:30"}


class MiniatureBench(measure.Bench):
    """The commands with the miniature in this process, but for what each run of a server took: 1, 2, 3 ... seconds."""

    def compile_kernels(self):
        return 9.0 if self.row.engine == "native" else None

    def command(self, word, *words):
        number, engine = self.row.number, self.row.engine
        request = parse([word, str(number), *map(str, words), "keys", str(self.folder), "json", "verbose", "-1"])
        return getattr(self, request.command)(request, SETS[number, engine], self.folder / f"exp{number}")

    def generate_keys(self, request, set_, folder):
        assert request.engine == set_.engine
        parties.generate_keys(set_, folder)
        return [{"keys": str(folder), "seconds": 3.0, "peak_bytes": 1 << 30}]

    def encrypt(self, request, set_, folder):
        named = [client.Named(read_picture(path, ARCHITECTURE.width), str(path)) for path in request.inputs]
        self.identities = parties.encrypt_group(folder, set_, named, WEIGHTS, request.output / "1.ct")
        self.evaluations = 0
        return []

    def evaluate(self, request, set_, folder):
        [path] = request.ciphertexts
        if not self.evaluations:  # the others would give the same
            [outcome] = parties.evaluate(folder, set_, [Job(path, request.output)], WEIGHTS, SilentProgress())
            assert outcome.error is None
        self.evaluations += 1
        seconds = self.evaluations * (100.0 if set_.pictures > 1 else 1.0)
        return [{"ciphertext": str(path), "seconds": seconds, "peak_bytes": self.evaluations << 20}]

    def decrypt(self, request, set_, folder):
        assert request.plain
        group = (
            client.Client(folder, WEIGHTS, set_=set_).encryptions()[self.identities[0]]
            and self.identities[0].partition(".")[0]
        )
        found = parties.decrypt_group(folder, set_, request.ciphertexts[0], WEIGHTS, group)
        answers = []
        for path, logits in zip(request.inputs, found, strict=True):
            result = Classification.of(logits, WEIGHTS.classes)
            plain = Classification.of(forward(WEIGHTS, read_picture(path, ARCHITECTURE.width))["fc"], WEIGHTS.classes)
            answers.append(result.as_json() | {"plain": plain.as_json()})
            answers[-1]["plain"]["worst_difference"] = result.worst_difference(plain)
        return answers


@pytest.fixture
def miniature(monkeypatch, tmp_path) -> Path:
    """The script on the miniature, with a file of measurements and a text of its own."""
    (tmp_path / "inputs").mkdir()
    for seed, name in enumerate(measure.PICTURES[:2]):
        pixels = random_picture(ARCHITECTURE, np.random.default_rng(seed))
        picture = Image.fromarray((pixels * 255).round().astype(np.uint8).transpose(1, 2, 0))
        picture.save(tmp_path / "inputs" / name, format="PNG")
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    monkeypatch.setattr(measure, "Bench", MiniatureBench)
    monkeypatch.setattr(measure, "parameter_set", lambda *key: SETS[key])
    monkeypatch.setattr(measurements, "FILE", tmp_path / "measurements.json")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    monkeypatch.setattr(Origin, "here", lambda parts: HERE)
    monkeypatch.setattr(quiet, "others", dict)
    tables = "".join(f"<!-- measured: {name} -->\n<!-- /measured -->\n" for name in ("sets", "sets in short"))
    (tmp_path / "README.md").write_text(f"before\n{tables}after\n")
    return tmp_path


@pytest.mark.parametrize("number, engine", SETS)
def test_a_row_is_measured(miniature, number, engine):
    """Every figure, and what of it three runs, or of a long one one, change; the group's errors are all its
    pictures'."""
    row, folder = measure.Row("row", number, engine, 1, 1), miniature / "bench"
    folder.mkdir()
    figures = measure.measure(row, folder, None)
    pictures = 2 if number == 7 else 1
    assert (figures["set"], figures["engine"], figures["pictures"]) == (number, engine, pictures)
    assert figures["compiling"] == (9.0 if engine == "native" else None)
    kept = sum(path.stat().st_size for path in (folder / f"exp{number}" / "server").iterdir())
    assert figures["keys"] == {"seconds": 3.0, "peak_bytes": 1 << 30, "server_bytes": kept}
    assert figures["runs"] == ([100.0, 200.0, 300.0] if number == 7 else [1.0, 2.0, 3.0])
    assert figures["peak_bytes"] == 3 << 20
    assert figures["upload_bytes"] == (folder / "pictures" / "1.ct").stat().st_size > 1000
    assert figures["download_bytes"] == (folder / "result.ct").stat().st_size > 1000
    assert figures["as_plain"] == pictures and 0 < figures["worst_difference"] < 0.1
    assert 0 <= figures["others"] <= 1 and figures["commit"]


def test_a_long_evaluation_is_done_once():
    assert measure.runs_for(121) == 1 and measure.runs_for(119) == 3


def test_every_set_has_a_row():
    """With each engine; and whatever is named runs on keys of that engine."""
    assert {(row.number, row.engine) for row in measure.ROWS.values() if not row.settings} == set(PARAMETER_SETS)
    assert all(row.name == name for name, row in measure.ROWS.items())


def figures_of(row, *_):
    row_figures = {"set": row.number, "engine": row.engine, "compiled_for": row.compiled_for, "compiling": 9.0}
    row_figures |= {"keys": {"seconds": 8.0, "peak_bytes": 1 << 30, "server_bytes": 2 << 30}, "pictures": 1}
    row_figures |= {"runs": [40.0, 80.0, 60.0], "peak_bytes": 3 << 30, "upload_bytes": 5_200_000}
    return row_figures | {"download_bytes": 2_100_000, "worst_difference": 0.0994, "as_plain": 1} | MADE_UP


def test_rows_are_added_measured_anew_and_taken_up_again(miniature, monkeypatch, capsys):
    measured = []

    def note(row, folder, runs):
        assert folder.stat().st_mode & 0o777 == 0o700 and not list(folder.iterdir())
        (folder / "key").touch()
        if row.name == stop_at:
            raise KeyboardInterrupt
        measured.append(row.name)
        return figures_of(row)

    monkeypatch.setattr(measure, "measure", note)
    work, stop_at = ["--work", str(miniature)], ""

    def run(*words):
        measured.clear()
        measure.main([*words, *work])
        assert not (miniature / "lowmem-resnet20-measured").exists()
        return list(measured), set(measurements.read()["sets"])

    assert run("--only", "1", "6-avx2") == (["6-avx2", "1"], {"1", "6-avx2"})
    assert run("--only", "5") == (["5"], {"1", "5", "6-avx2"})
    assert run("--only", "1", "5", "6", "--resume") == (["6"], {"1", "5", "6", "6-avx2"})
    lines = (miniature / "README.md").read_text().splitlines()
    cells = "8.0 s | 1.00 GiB | 2.00 GiB | 9.0 s | 1 min 0 s | 3 | 3.00 GiB | 5.2 MB | 2.1 MB | 0.099 | 1 of 1 | 1.0%"
    assert f"| 6 | native, AVX2 only | {cells} |" in lines
    short = [line.split(" | ")[:2] for line in lines[lines.index("<!-- measured: sets in short -->") :]]
    assert [cells for cells in short if len(cells) > 1][2:] == [
        ["| 1", "OpenFHE"],
        ["| 5", "native"],
        ["| 6", "native"],
    ]
    stop_at = "4"
    (miniature / "lowmem-resnet20-measured").mkdir()
    (miniature / "lowmem-resnet20-measured" / "of one that was killed").touch()
    with pytest.raises(KeyboardInterrupt):
        run("--all")
    before = set(measurements.read()["sets"])
    assert before == set(measured) and "4" not in before and "6-avx2" in before
    stop_at = ""
    again, rows = run("--all", "--resume")
    assert set(again) == set(measure.ROWS) - before and rows == set(measure.ROWS)
    capsys.readouterr()
    measure.main(["--all", "--resume", *work])
    assert capsys.readouterr().err == "every row is there\n"


def test_rows_of_other_code_stay_until_they_are_measured(miniature, monkeypatch):
    monkeypatch.setattr(measure, "measure", figures_of)
    measure.main(["--only", "1", "5", "--work", str(miniature)])
    monkeypatch.setattr(Origin, "here", lambda parts: replace(HERE, code="other"))
    measure.main(["--only", "5", "6", "--resume", "--work", str(miniature)])
    origins = {name: row["origin"]["code"] for name, row in measurements.read()["sets"].items()}
    assert origins == {"1": HERE.code, "5": "other", "6": "other"}


def test_a_busy_machine_is_refused(miniature, monkeypatch, capsys):
    """With what it does; unless told otherwise, and then a row that was disturbed is warned of."""
    monkeypatch.setattr(quiet, "others", lambda: {"tar (process 7)": 0.93})
    monkeypatch.setattr(measure, "PATIENCE", 0)
    monkeypatch.setattr(measure, "measure", lambda *given: figures_of(*given) | {"others": 0.3})
    with pytest.raises(SystemExit) as ended:
        measure.main(["--only", "5", "--work", str(miniature)])
    assert "error: the machine does something else: tar (process 7) 93% of a core\nhint: " in ended.value.code
    assert not measurements.FILE.exists()
    measure.main(["--only", "5", "--work", str(miniature), "--anyway"])
    assert "warning: other processes took 30% of the processors" in capsys.readouterr().err
    assert measurements.read()["sets"]["5"]["others"] == 0.3


def test_a_disk_too_small_is_refused(miniature, monkeypatch):
    monkeypatch.setattr(measure, "measure", figures_of)
    monkeypatch.setattr(measure.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 9 << 30}))
    measure.main(["--only", "7-openfhe", "--work", str(miniature)])
    with pytest.raises(SystemExit, match=r"has 9.00 GiB, and the rows need 12 GiB\nhint: "):
        measure.main(["--all", "--work", str(miniature)])


def test_the_command_line_is_run_and_read(monkeypatch, tmp_path):
    """With the row's keys and settings, and without those of whoever measures."""
    stub = tmp_path / "python"
    stub.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/words; env >{tmp_path}/env\n'
        "echo '{\"a\": 1}'; echo '{\"b\": 2}'; exit $4\n"
    )
    stub.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(stub))
    for name in measure.SETTINGS:
        monkeypatch.setenv(name, "1")
    row = measure.Row("r", 0, "native", 1, 1, settings={"LOWMEM_RESNET20_VECTORS": "avx2"})
    assert measure.Bench(row, tmp_path).command("decrypt", tmp_path) == [{"a": 1}, {"b": 2}]
    assert (
        tmp_path / "words"
    ).read_text() == f"-m lowmem_resnet20 decrypt 0 {tmp_path} keys {tmp_path} json verbose -1\n"
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert {name: found[name] for name in measure.SETTINGS if name in found} == {"LOWMEM_RESNET20_VECTORS": "avx2"}
    assert found["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    with pytest.raises(subprocess.CalledProcessError):
        measure.Bench(replace(row, number=6), tmp_path).command("evaluate")


# --- whether the machine is quiet --------------------------------------------------------------------------


def test_a_busy_process_is_seen():
    """Which one, and what it takes of all processors; not this process itself, nor children that have ended."""
    program = "import time\nwhile True: pass"
    own = quiet.Watch()
    deadline = time.process_time() + 0.3
    while time.process_time() < deadline:
        pass
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        try:
            for _ in range(60):  # it may not have started yet, or other tests run beside
                found = quiet.others(0.5)
                if names := [name for name in found if name.endswith(f"(process {child.pid})")]:
                    break
        finally:
            child.kill()
    [name] = names
    assert name.startswith("python") and found[name] > quiet.BUSY
    assert 0 <= own.share() <= 1


def made_up_proc(folder: Path, busy: int, steal: int, spent: int) -> None:
    (folder / "12").mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text(f"cpu  {busy} 0 0 999 5 0 0 {steal} 0 0\ncpu0 1 2\nintr 1\n")
    (folder / "12" / "stat").write_text(f"12 (a (b) c) S {' '.join(['0'] * 10)} {spent} 0 0\n")


def test_what_cannot_be_seen_is_counted(monkeypatch, tmp_path):
    """Time of processes elsewhere, and what the host takes; a process that takes little is none."""
    monkeypatch.setattr(quiet, "PROC", tmp_path)
    ticks = quiet._TICKS

    def run(busy, steal, spent):
        made_up_proc(tmp_path, 0, 0, 0)
        monkeypatch.setattr(quiet.time, "sleep", lambda seconds: made_up_proc(tmp_path, busy, steal, spent))
        return quiet.others(10.0)

    assert run(int(0.3 * ticks), 0, int(0.3 * ticks)) == {}
    assert run(int(3 * ticks), 0, int(3 * ticks)) == {"a (b) c (process 12)": pytest.approx(0.3)}
    assert run(int(1 * ticks), int(1 * ticks), 0) == {"all together": pytest.approx(0.2)}


def test_others_share_is_what_is_not_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(quiet, "PROC", tmp_path)
    monkeypatch.setattr(quiet, "available_processors", lambda: 2)
    clock, own = iter((0.0, 10.0)), iter((1.0, 6.0))
    monkeypatch.setattr(quiet.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(quiet, "_own_seconds", lambda: next(own))
    made_up_proc(tmp_path, 0, 0, 0)
    watch = quiet.Watch()
    made_up_proc(tmp_path, 6 * quiet._TICKS, quiet._TICKS, 0)
    assert watch.share() == pytest.approx((7 - 5) / 20)


def test_waiting_ends_when_it_is_quiet(monkeypatch):
    looks = iter(({"a": 1.0}, {"a": 1.0}, {}))
    monkeypatch.setattr(quiet, "others", lambda: next(looks))
    assert quiet.wait(60) == {}
    monkeypatch.setattr(quiet, "others", lambda: {"a": 1.0})
    assert quiet.wait(0) == {"a": 1.0}


def test_every_figure_is_kept_as_numbers(miniature, monkeypatch):
    monkeypatch.setattr(measure, "measure", figures_of)
    measure.main(["--only", "5", "--work", str(miniature)])
    kept = json.loads((miniature / "measurements.json").read_text())
    assert kept["sets"]["5"]["runs"] == [40.0, 80.0, 60.0]
