"""What kernels are compiled to, on this processor and as if on others, and which processors work."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import pytest

from lowmem_resnet20.native.kernels import compilation

HERE = Path(__file__).parent


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


@pytest.mark.skipif(not has("avx2"), reason="this processor has no AVX2")
def test_avx2_gives_the_same_residues(host):
    narrow = results(LOWMEM_RESNET20_VECTORS="avx2")
    print(f"vector registers found with AVX2 forced: {narrow['registers']}")
    assert all("ymm" in found and "zmm" not in found for found in narrow["registers"].values()), narrow["registers"]
    assert narrow["digests"] == host["digests"] and len(set(host["digests"].values())) == 1


#: A processor of which nothing is known: of x86-64 the least.
PORTABLE = """
import llvmlite.binding
from llvmlite.binding.targets import FeatureMap
llvmlite.binding.get_host_cpu_name, llvmlite.binding.get_host_cpu_features = lambda: "generic", FeatureMap
import runpy, sys
sys.path.insert(0, ".")
sys.argv = ["operations_digest.py", "1"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_processor_of_which_nothing_is_known_gives_the_same_residues(host):
    done = python(PORTABLE)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    if platform.machine() == "x86_64":
        assert all(kernel == ["xmm"] for kernel in found["registers"].values()), found["registers"]
    assert found["digests"]["1"] == host["digests"]["1"]


#: Each kernel compiled anew, and its code as LLVM makes it for another processor.
FOR_AARCH64 = """
import json, re
import llvmlite.binding as llvm
import numba
from numba.core.codegen import JITCPUCodegen
from operations_digest import KERNELS, digest
from lowmem_resnet20.native.kernels.fourier import slots_to_coefficients

digest(1)
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(opt=3, jit=True)
add, found = JITCPUCodegen._add_module, set()

def adding(codegen, module):
    code = re.sub("^target (datalayout|triple).*$", "", str(module), flags=re.MULTILINE)
    code = code.replace("@llvm.x86.atomic.", "@counted.").replace(" immarg", "")  # numba's own, for here
    other = llvm.parse_assembly(f'target triple = "{machine.triple}"\\n{code}')
    found.update(re.findall(r"^\\s+(\\w+)", machine.emit_assembly(other), re.MULTILINE))
    add(codegen, module)

JITCPUCodegen._add_module = adding
for kernel in (*KERNELS, slots_to_coefficients):
    numba.njit(nogil=True, error_model="numpy")(kernel.py_func).compile(kernel.signatures[0])
print(json.dumps(sorted(found)))
"""


def aarch64() -> bool:
    """Whether this LLVM can make code for it."""
    llvmlite.binding.initialize_all_targets()
    try:
        return bool(llvmlite.binding.Target.from_triple("aarch64-unknown-linux-gnu"))
    except RuntimeError:
        return False


@pytest.mark.skipif(not aarch64(), reason="this LLVM makes no code for AArch64")
def test_code_for_aarch64_rounds_products_as_it_does_here():
    """It has instructions that do not: a product and a sum fused.  Nothing is run."""
    done = python(FOR_AARCH64)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert {"fmul", "fadd", "fsub", "umull"} <= set(found)
    assert not [name for name in found if re.match("fn?m(add|sub|la|ls)", name)]


def test_nothing_is_compiled_at_import(tmp_path):
    code = (
        "from lowmem_resnet20.native import readiness\n"
        "from lowmem_resnet20.native.kernels import ntt\n"
        "print(len(ntt.to_evaluation.signatures))"
    )
    done = python(code, XDG_CACHE_HOME=str(tmp_path))
    assert done.stdout == "0\n", done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_kernel_is_compiled_for_two_forms_at_most(host):
    """More would be kept code that some call meets for the first time in the middle of an evaluation."""
    code = """
import operations_digest
from lowmem_resnet20.native.kernels import bases, elementwise, fourier, ntt
from lowmem_resnet20.native import readiness

def forms():
    names = [f for module in (bases, elementwise, fourier, ntt) for f in vars(module).values()]
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


def test_kernels_are_in_the_folder_on_whose_files_kept_code_depends():
    folder = Path(compilation.__file__).parent
    decorated = re.compile("^@(compiled|vectorised)", re.MULTILINE)
    assert {file.parent for file in folder.parent.rglob("*.py") if decorated.search(file.read_text())} == {folder}


def test_kept_code_depends_on_every_file_there(monkeypatch, tmp_path):
    file = tmp_path / "compilation.py"
    monkeypatch.setattr(compilation, "__file__", str(file))
    file.write_text("")
    found = {compilation._fingerprint()}
    for name, text in (("compilation.py", "#"), ("another.py", ""), ("another.py", "#")):
        (tmp_path / name).write_text(text)
        found.add(compilation._fingerprint())
    assert len(found) == 4


def test_processors_are_those_of_the_affinity():
    code = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from lowmem_resnet20.native.kernels.threads import *\n"
        "print(available_processors())"
    )
    assert python(code).stdout == "1\n"


@pytest.mark.parametrize(
    ("text", "heeded"), [("1", True), ("0", False), ("-1", False), ("abc", False), ("1.5", False), ("9" * 5000, False)]
)
def test_threads_are_as_many_as_the_user_asks_for(text, heeded):
    """A line tells of what is no number."""
    code = (
        "import os\n"
        "os.sched_getaffinity = lambda _: {0, 1, 2}\n"
        "from lowmem_resnet20.native.kernels import compilation, threads\n"
        "threads.processors_granted = lambda: [4]\n"
        "print(threads.available_processors(), len(compilation.complaints()), *compilation.complaints())"
    )
    done = python(code, LOWMEM_RESNET20_THREADS=text, NUMBA_NUM_THREADS="0")
    told = f"LOWMEM_RESNET20_THREADS of the environment is no number of threads, and not heeded: {text!r}"
    assert done.stdout == ("1 0\n" if heeded else f"3 1 {(told, '')}\n"), done.stderr


def test_vectors_that_there_are_not():
    """A word that means nothing, and AVX2 on a processor without."""
    code = (
        "import llvmlite.binding\n"
        "host = llvmlite.binding.get_host_cpu_features()\n"
        "host['avx2'] = False\n"
        "llvmlite.binding.get_host_cpu_features = lambda: host\n"
        "from lowmem_resnet20.native.kernels import compilation\n"
        "print(compilation.config.CPU_NAME, [message for message, _ in compilation.complaints()])"
    )
    asks = "LOWMEM_RESNET20_VECTORS of the environment asks for avx2, and this processor lacks avx2"
    assert python(code, LOWMEM_RESNET20_VECTORS="avx2").stdout == f"None {[asks]}\n"
    means = "LOWMEM_RESNET20_VECTORS of the environment is not avx2, and not heeded: 'sse'"
    assert python(code, LOWMEM_RESNET20_VECTORS="sse").stdout == f'None ["{means}"]\n'


def test_the_wing_imports_neither_openfhe_nor_what_knows_secrets():
    code = (
        "import sys\n"
        "import lowmem_resnet20.native.readiness\n"
        "print([m for m in sys.modules if 'openfhe' in m and 'native' not in m])"
    )
    assert python(code).stdout == "[]\n"
