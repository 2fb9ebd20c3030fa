"""scripts/measurements.py and origin.py: what is kept, where tables are written, and that the texts hold them."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lowmem_resnet20.network.parameters import PARAMETER_SETS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import measurements
import origin
from origin import Origin
from tables import TABLES, Table

HERE = Origin("code", "weights", "a processor; 2 cores", "versions")
STAMP = {"commit": "c0ffee", "changed": False, "time": "2026-11-25 18:30"}
COUNTS = Table(
    "counts",
    "scripts/count.py",
    lambda rows: ["of", "count"],
    lambda rows: [[n, str(r["count"])] for n, r in rows.items()],
)


@pytest.fixture
def kept(monkeypatch, tmp_path) -> Path:
    """A file of measurements with one kind of table, and no texts."""
    monkeypatch.setattr(measurements, "FILE", tmp_path / "measurements.json")
    monkeypatch.setattr(measurements, "ROOT", tmp_path)
    monkeypatch.setitem(TABLES, "counts", COUNTS)
    return tmp_path


# --- parameter sets and measurements agree -----------------------------------------------------------------


def largest(section: str, of_row: Callable[[dict], float]) -> dict[tuple[int, str], float]:
    """By set and engine, of those that were measured."""
    found: dict[tuple[int, str], float] = {}
    for row in measurements.read()[section].values():
        key = row["set"], row["engine"]
        found[key] = max(found.get(key, 0), of_row(row))
    return found


def test_simulations_take_the_noise_that_was_measured():
    """At least that of every number of slots, and little more."""
    noise = largest("refreshes", lambda row: row["refresh"]["rms"])
    assert set(noise) == set(PARAMETER_SETS)
    for key, worst in noise.items():
        assert worst <= PARAMETER_SETS[key].refresh_deviation <= 1.3 * worst, key


def test_the_memory_that_is_asked_for_was_measured():
    """At least the server's peak, and little more."""
    peaks = largest("sets", lambda row: row["peak_bytes"])
    assert len(peaks) >= 8
    for key, peak in peaks.items():
        assert peak <= PARAMETER_SETS[key].server_bytes <= 1.1 * peak, key


# --- the texts as they are ---------------------------------------------------------------------------------


def test_the_texts_hold_the_tables_of_what_was_measured():
    """If this fails: scripts/measurements.py."""
    for path in measurements.texts(ROOT):
        text = path.read_text(encoding="utf-8")
        assert measurements.with_tables(text) == text, f"{path} is not what measurements.json gives"


def test_every_table_stands_in_a_text():
    places = [
        place for path in measurements.texts(ROOT) for place in re.findall(r"<!-- measured: (.*) -->", path.read_text())
    ]
    assert set(places) == set(TABLES)


def test_what_was_measured_is_of_committed_code():
    """With an origin each; and every figure that a table shows is there."""
    for name, described in TABLES.items():
        for row in measurements.read().get(described.section, {}).values():
            assert set(row["origin"]) == set(asdict(HERE)) and not row["changed"], name
    rows = measurements.read()["sets"].values()
    assert {(row["set"], row["engine"]) for row in rows} <= set(PARAMETER_SETS)


# --- the file and the tables --------------------------------------------------------------------------------


def test_a_row_stays_until_it_is_measured_anew(kept):
    first, other = {"count": 1, "origin": asdict(HERE)} | STAMP, replace(HERE, code="other")
    measurements.record("counts", HERE, {"a": {"count": 1} | STAMP, "b": {"count": 1} | STAMP})
    assert measurements.rows_of("counts", HERE) == {"a": first, "b": first}
    measurements.record("counts", other, {"b": {"count": 2} | STAMP})
    assert measurements.rows_of("counts", HERE) == {"a": first}
    assert measurements.rows_of("counts", other) == {"b": first | {"count": 2, "origin": asdict(other)}}
    [newer, older] = measurements.sources(COUNTS, measurements.read()["counts"])
    assert {newer[:3], older[:3]} == {"a: ", "b: "}
    for change in ("code", "weights", "machine", "versions"):
        assert "a" not in measurements.rows_of("counts", replace(HERE, **{change: "other"}))
    assert measurements.rows_of("others", HERE) == {}
    measurements.record("others", HERE, {})
    assert set(json.loads(measurements.FILE.read_text())) == {"counts", "others"}


def test_tables_are_written_between_their_marks(kept):
    (kept / "scripts").mkdir()
    for name in ("README.md", "scripts/README.md", "notes.txt"):
        (kept / name).write_text("before\n<!-- measured: counts -->\nolder\n<!-- /measured -->\nafter\n")
    measurements.record("counts", HERE, {"a": {"count": 1} | STAMP, "b": {"count": 2} | STAMP})
    table = "| of | count |\n| --- | --- |\n| a | 1 |\n| b | 2 |\n"
    source = "`scripts/count.py`, commit c0ffee, 2026-11-25 18:30 UTC. a processor; 2 cores; versions."
    expected = f"before\n<!-- measured: counts -->\n{table}\n{source}\n<!-- /measured -->\nafter\n"
    assert (kept / "README.md").read_text() == (kept / "scripts" / "README.md").read_text() == expected
    assert "older" in (kept / "notes.txt").read_text()
    assert measurements.with_tables(expected) == expected


def test_what_was_not_measured_is_said(kept):
    text = "<!-- measured: counts -->\n<!-- /measured -->\n"
    assert "\nNot measured yet: `scripts/count.py`.\n" in measurements.with_tables(text)
    with pytest.raises(KeyError, match="of nothing"):
        measurements.with_tables("<!-- measured: of nothing -->\n<!-- /measured -->\n")


def test_the_source_names_all_commits():
    rows = {"a": STAMP, "b": STAMP | {"commit": "decade", "changed": True, "time": "2026-11-25 19:00"}}
    told = measurements.source("x", {name: row | {"origin": asdict(HERE)} for name, row in rows.items()})
    assert (
        "`x`, the same code at commits c0ffee, decade with changes, 2026-11-25 18:30 to 2026-11-25 19:00 UTC." in told
    )


# --- origin -------------------------------------------------------------------------------------------------


def test_the_code_is_what_figures_depend_on(tmp_path):
    """A changed byte of a measured file, or a new one; not a text beside them, nor another part."""
    for name in ("network/a.py", "network/README.md", "openfhe/b.py", "cli/c.py", "server/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    parts, seen = ("network", "server"), set()

    def digest():
        return origin.code_digest(tmp_path, parts)

    seen.add(digest())
    for name in ("network/README.md", "openfhe/b.py", "cli/c.py"):
        (tmp_path / name).write_text("2")
        assert digest() in seen
    for name in ("network/a.py", "server/d.py", "network/c.py"):
        (tmp_path / name).write_text("2")
        assert digest() not in seen
        seen.add(digest())


def test_the_measured_files_are_there():
    for name in origin.OF_AN_EVALUATION:
        assert list(origin.python_files(origin.PACKAGE, (name,))), name
        assert all(path.is_file() for path in origin.python_files(origin.PACKAGE, (name,)))
    assert set(origin.IN_THE_CLEAR) < set(origin.OF_A_REFRESH) < set(origin.OF_AN_EVALUATION)


CPU = """processor	: 0
model name	: AMD EPYC
cpu family	: 25
model		: 17
flags		: fpu fma avx avx2 avx512f sse

processor	: 1
model name	: AMD EPYC
cpu family	: 25
model		: 18
"""


def test_the_machine_in_words(monkeypatch, tmp_path):
    monkeypatch.setattr(origin, "available_processors", lambda: 2)
    cpu, memory = tmp_path / "cpuinfo", tmp_path / "meminfo"
    cpu.write_text(CPU)
    memory.write_text("MemTotal:       25165824 kB\nMemFree: 1 kB\n")
    expected = "AMD EPYC (family 25, model 17) with fma, avx2, avx512f; 2 cores, 24.00 GiB of memory"
    assert origin.machine(cpu, memory) == expected
    cpu.write_text("processor : 0\nFeatures : fp asimd\n")
    assert " with asimd; 2 cores" in origin.machine(cpu, memory)


def test_where_this_is():
    here, stamp = Origin.here(origin.OF_A_REFRESH), origin.stamp()
    assert re.fullmatch(r"[0-9a-f]{16}", here.code) and re.fullmatch(r"[0-9a-f]{16}", here.weights)
    assert all(f"{name} " in here.versions for name in ("OpenFHE", "numba", "numpy", "CPython"))
    assert re.fullmatch(r"[0-9a-f]{10}|unknown", stamp["commit"]) and isinstance(stamp["changed"], bool)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", stamp["time"])
