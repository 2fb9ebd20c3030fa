"""What kernels are compiled to, on this processor and as if on others, and how compiled code is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import pytest

from lowmem_resnet20.native import compilation, threads

HERE = Path(__file__).parent
#: Processors to compile for as if they were this one's: what they are to have, and the vector registers they lack.
OTHERS = {
    "avx2": ("haswell", "+avx2,+avx,+sse4.2,+bmi,+bmi2,+lzcnt,+popcnt", "ymm", "zmm"),
    "sse4.2": ("nehalem", "+sse4.2,+popcnt", "xmm", "ymm"),
}


def python(code_or_file, *words, **environment):
    command = (
        [sys.executable, code_or_file, *words]
        if code_or_file.endswith(".py")
        else [sys.executable, "-c", code_or_file, *words]
    )
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=HERE, env={**os.environ, **environment}, timeout=600
    )


def results(**environment):
    done = python("operations_digest.py", "1", "2", "3", **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def host():
    return results()


def has(feature):
    return llvmlite.binding.get_host_cpu_features().get(feature, False)


def test_kernels_use_the_widest_registers_of_this_processor(host, record_property):
    widest = "zmm" if has("avx512f") else "ymm" if has("avx") else "xmm"
    record_property("registers", json.dumps(host["registers"]))
    print(f"vector registers found: {host['registers']}")
    assert all(widest in found for found in host["registers"].values()), host["registers"]


@pytest.mark.parametrize("feature", OTHERS)
def test_other_processors_give_the_same_residues(host, feature):
    if not has(feature):
        pytest.skip(f"this processor has no {feature}")
    name, features, widest, lacking = OTHERS[feature]
    other = results(NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
    print(f"vector registers found as if on a {name}: {other['registers']}")
    assert all(widest in found and lacking not in found for found in other["registers"].values()), other["registers"]
    assert other["digests"] == host["digests"] and len(set(host["digests"].values())) == 1


def test_nothing_is_compiled_at_import(tmp_path):
    code = "from lowmem_resnet20.native import ciphertext, readiness, ntt; print(len(ntt.to_evaluation.signatures))"
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "0\n", done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_kernel_is_compiled_for_two_forms_at_most(host):
    """More would be kept code that some call meets for the first time in the middle of an evaluation."""
    code = """
import operations_digest
from lowmem_resnet20.native import bases, elementwise, encoding, ntt, readiness

def forms():
    names = [f for module in (bases, elementwise, encoding, ntt) for f in vars(module).values()]
    functions = [f for f in names if hasattr(f, "signatures")]
    return {f.__name__: len(f.signatures) for f in functions if f.py_func.__code__.co_varnames[0] == "counter"}

readiness._exercise()
before = forms()
operations_digest.digest(2)
assert before == forms(), (before, forms())
assert set(before.values()) == {1, 2}, before
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_kept_code_depends_on_every_file_that_it_comes_from():
    wing = Path(compilation.__file__).parent
    marks = ("@compiled", "@vectorised", "def vectorised", "def compiled", "class SmallModulus", "BLOCK, ROWS = ")
    sources = {file.stem for file in wing.glob("*.py") if any(mark in file.read_text() for mark in marks)}
    assert sources == set(compilation.SOURCES)


def test_processes_that_start_at_once_compile_once(tmp_path):
    """Both call compile_once; the second waits for the first, then finds nothing to do."""
    code = """
import sys, time
from lowmem_resnet20.native.compilation import compile_once
def exercise():
    print("compiled", flush=True)
    time.sleep(0.5)
compile_once(exercise)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) for _ in range(3)
    ]
    assert b"".join(process.communicate()[0] for process in started) == b"compiled\n"


def test_without_a_folder_to_write_in_code_is_compiled_and_not_kept(tmp_path):
    file = tmp_path / "file"
    file.touch()
    code = (
        "from lowmem_resnet20.native import compilation\n"
        "print(compilation.FOLDER)\n"
        "compilation.compile_once(lambda: print('compiled'))"
    )
    done = python(code, NUMBA_CACHE_DIR=str(file))
    assert done.stdout == "None\ncompiled\n", done.stderr


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense\n"}, None),
        ({}, None),
    ],
)
def test_processors_are_those_that_the_control_group_grants(tmp_path, files, processors):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._quota(tmp_path) == processors


def test_processors_are_those_of_the_affinity():
    code = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from lowmem_resnet20.native.threads import *\n"
        "print(available_processors())"
    )
    assert python(code).stdout == "1\n"


def test_a_failing_job_on_another_thread_is_raised():
    def kernel(counter, jobs, scratch):
        raise MemoryError("none left")

    with pytest.raises(MemoryError, match="none left"):
        threads.Workers(2, 8).run(kernel, 2)


def test_the_wing_imports_neither_openfhe_nor_what_knows_secrets():
    code = (
        "import sys\n"
        "import lowmem_resnet20.native.readiness\n"
        "print([m for m in sys.modules if 'openfhe' in m and 'native' not in m])"
    )
    assert python(code).stdout == "[]\n"
