"""Compiled code is kept where this user alone can write; what cannot be kept or is damaged is compiled again; and
nothing in the working directory or the environment chooses otherwise."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import lowmem_resnet20
from lowmem_resnet20.native.kernels.compilation import KEPT
from lowmem_resnet20.native.kernels.kernelcache import KernelFolder

PACKAGE = Path(lowmem_resnet20.__file__).parent

#: A kernel of its own, called once: prints the result, how often kept code was loaded, and what is complained of.
PROGRAM = """
from lowmem_resnet20.native.kernels.compilation import compile_once, compiled, complaints, is_compiled

@compiled
def twice(x):
    return 2 * x

compile_once(lambda: twice(21))
print(twice(21), sum(twice.stats.cache_hits.values()), is_compiled())
for message, hint in complaints():
    print(message)
"""
COMPILED, LOADED, NOT_KEPT = "42 0 True\n", "42 1 True\n", "42 0 False\n"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")
#: What numba would take from the environment, and what each would do.
MEANT_FOR_OTHERS = {
    "NUMBA_DISABLE_JIT": "1",
    "NUMBA_NUM_THREADS": "abc",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_CACHE_LOCATOR_CLASSES": "nowhere.Locator",
    "NUMBA_OPT": "fast",
    "NUMBA_BOUNDSCHECK": "1",
    "NUMBA_ENABLE_AVX": "0",
    "NUMBA_DEBUG": "1",
    "NUMBA_DEBUG_CACHE": "1",
    "NUMBA_DEBUGINFO": "1",
    "LLVMLITE_ENABLE_IR_LAYER_TYPED_POINTERS": "0",
    "VS_PROFILER": "1",
}


@pytest.fixture
def cache(tmp_path) -> Path:
    """The folder of compiled code, when it will have been made."""
    return tmp_path / "home" / "lowmem-resnet20" / KEPT.path.name


@pytest.fixture
def run(tmp_path, cache):
    """Run a program with that cache; what it prints."""

    def run(program: str = PROGRAM, umask: int = 0o022, **environment: str) -> str:
        variables = os.environ | {"XDG_CACHE_HOME": str(cache.parents[1])} | environment
        (tmp_path / "here").mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", program], env=variables, cwd=tmp_path / "here", umask=umask,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    return run


def kernel(cache: Path) -> Path:
    [file] = cache.glob("*twice-*")
    return file


def test_compiled_code_is_kept(run, cache):
    assert (run(), run()) == (COMPILED, LOADED)
    assert {path.name.partition("-")[0].rpartition(".")[2] for path in cache.iterdir()} == {"twice", "complete"}


# --- what lies in a folder, or stands in the environment --------------------------------------------------


def test_settings_of_numba_for_other_programs_are_not_heeded(run, tmp_path):
    """numba reads its file when it is imported, and again when it compiles."""
    (tmp_path / "here").mkdir()
    settings = {"disable_jit": "1", "cache_dir": "./evil", "debug": "1", "7": "no string", "num_threads": "0"}
    (tmp_path / "here" / ".numba_config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
    later = "import os, sys\nprint(sorted(n for n in os.environ if n.startswith('NUMBA')))\n"
    later += (
        "from numba import config\nprint(config.DISABLE_JIT, config.CACHE_DIR, config.CPU_NAME, config.BOUNDSCHECK)"
    )
    evil = {"NUMBA_CACHE_DIR": str(tmp_path / "evil")}
    assert run(PROGRAM + later, **MEANT_FOR_OTHERS, **evil) == COMPILED + "[]\n0  None None\n"
    assert run() == LOADED
    assert [path.name for path in (tmp_path / "here").iterdir()] == [".numba_config.yaml"]
    assert not (tmp_path / "evil").exists()


def test_the_working_directory_may_be_gone(run):
    """As where Ray's workers of a cluster made for the run are; numba asks for it."""
    gone = "import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\n"
    asking = PROGRAM.replace("twice(21))", "(os.getcwd(), twice(21)))", 1)
    back = "from lowmem_resnet20.machine.files import working_directory_is_gone\nprint(working_directory_is_gone())"
    assert run(f"{gone}{asking}{back}") == f"{COMPILED}True\n"


@pytest.mark.parametrize("module", ["kernels.intrinsics", "kernels.residues", "kernels.compilation", "readiness"])
def test_whichever_module_imports_numba_first(run, tmp_path, module):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".numba_config.yaml").write_text("[not, settings")
    program = f"import lowmem_resnet20.native.{module}\nfrom numba import config\n"
    program += "print(config.OPT, config.DISABLE_JIT)"
    assert run(program, NUMBA_OPT="0", NUMBA_DISABLE_JIT="1") == "_OptLevel(3) 0\n"


def test_a_program_that_imports_numba_first_has_its_own_settings(run, tmp_path):
    """And compiled kernels all the same, kept where they always are."""
    evil = tmp_path / "evil"
    later = "from numba import config\nprint(config.DISABLE_JIT)\n"
    given = {"NUMBA_DISABLE_JIT": "1", "NUMBA_CACHE_DIR": str(evil), "NUMBA_BOUNDSCHECK": "1"}
    assert run(f"import numba\n{PROGRAM}{later}", **given) == f"{COMPILED}1\n"
    assert run() == LOADED and not evil.exists()


def test_a_numba_that_reads_its_settings_elsewhere_is_refused(run):
    program = """
import lowmem_resnet20.native
from lowmem_resnet20.machine import numbasettings
numbasettings._FILE = ".another.yaml"
try:
    import numba
except ImportError as error:
    print(error)
"""
    assert run(program) == "this numba reads its settings from elsewhere than .another.yaml\n"


def test_a_cache_folder_that_depends_on_the_working_directory_is_none(run, tmp_path):
    assert run(HOME=str(tmp_path), XDG_CACHE_HOME="evil") == COMPILED
    assert not (tmp_path / "here" / "evil").exists()
    assert (tmp_path / ".cache" / "lowmem-resnet20" / KEPT.path.name / "complete").exists()
    told = "compiled code cannot be kept in ~: this user has no home folder\n"
    assert run(HOME="evil", XDG_CACHE_HOME="") == NOT_KEPT + told


def test_no_code_is_kept_in_the_package(run, tmp_path):
    """Which may be another user's; numba's own cache would write there."""
    copy = tmp_path / "copy" / "lowmem_resnet20"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "native" / "more.py").write_text(PROGRAM)
    before = sorted(copy.rglob("*"))
    found = run(
        "import lowmem_resnet20.native.more as more; print(more.__file__)",
        XDG_CACHE_HOME="/proc/nowhere", PYTHONPATH=str(copy.parent), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    told = "compiled code cannot be kept in /proc/nowhere: No such file or directory\n"
    assert found == f"{NOT_KEPT}{told}{copy}/native/more.py\n"
    assert sorted(copy.rglob("*")) == before


# --- whose the folder is ----------------------------------------------------------------------------------


@pytest.fixture
def opened(cache, monkeypatch):
    """Open the folder of compiled code in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    return lambda: KernelFolder(cache.name)


def test_the_folder_is_private_whatever_the_umask(run, cache):
    assert run(umask=0) == COMPILED
    for folder in (cache, cache.parent, cache.parents[1]):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o755])
def test_a_folder_that_others_may_look_into_is_not_used(opened, cache, mode):
    opened().write("kernel", b"ours")
    cache.chmod(mode)
    folder = opened()
    assert folder.trouble == f"compiled code cannot be kept in {cache}: others may look into it or change it"
    assert folder.read("kernel") is None
    folder.write("more", b"")
    assert [path.name for path in cache.iterdir()] == ["kernel"]


@AS_ROOT
def test_another_users_folder_is_not_used(opened, run, cache):
    opened().write("kernel", b"ours")
    os.chown(cache, 1000, 1000)
    told = f"compiled code cannot be kept in {cache}: it is another user's"
    assert (opened().trouble, opened().read("kernel")) == (told, None)
    assert run() == f"{NOT_KEPT}{told}\n"


def test_a_link_is_not_followed(opened, cache, tmp_path):
    opened().write("kernel", b"ours")
    cache.rename(tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    assert opened().trouble.startswith(f"compiled code cannot be kept in {cache}: ")
    assert opened().read("kernel") is None


def test_who_may_write_the_folder_above_cannot_put_another_in_its_place(opened, cache, tmp_path):
    """Between the look at it and its use: what was looked at is what is used."""
    folder = opened()
    folder.write("kernel", b"ours")
    cache.rename(tmp_path / "away")
    cache.mkdir()
    shutil.copy(tmp_path / "away" / "kernel", cache / "evil")
    assert (folder.read("kernel"), folder.read("evil")) == (b"ours", None)
    folder.write("more", b"")
    assert {path.name for path in (tmp_path / "away").iterdir()} == {"kernel", "more"}


# --- what cannot be loaded, or kept -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"x",
        lambda content: content[:32],
        lambda content: content[:-1],
        lambda content: content[:4096] + bytes(4096) + content[8192:],
    ],
)
def test_a_damaged_file_counts_as_missing(opened, cache, damage):
    content = os.urandom(20_000)
    opened().write("kernel", content)
    assert opened().read("kernel") == content
    (cache / "kernel").write_bytes(damage((cache / "kernel").read_bytes()))
    assert (opened().read("kernel"), opened().trouble) == (None, "")
    opened().write("kernel", content)
    assert opened().read("kernel") == content


def test_a_file_that_cannot_be_loaded_is_compiled_again(run, cache, opened):
    """Empty, gone, or whole but of something else."""
    run()
    kernel(cache).write_bytes(b"")
    assert run() == COMPILED
    opened().write(kernel(cache).name, b"no pickle")
    assert run() == COMPILED
    kernel(cache).unlink()
    (cache / "complete").write_bytes(b"")
    assert run() == COMPILED
    assert run() == LOADED


@contextmanager
def mounted(*words: object):
    """Inside this context something is mounted on the folder that is named last."""
    if subprocess.run(["mount", *map(str, words)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(words[-1])], check=True)


@AS_ROOT
def test_a_full_disk_ends_no_evaluation(run, cache):
    """What was begun there does not stay."""
    cache.parents[1].mkdir()
    with mounted("-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", cache.parents[1]):
        assert run() == f"{NOT_KEPT}compiled code cannot be kept in {cache}: No space left on device\n"
        assert list(cache.iterdir()) == []


@AS_ROOT
def test_a_read_only_disk_is_read(opened, cache):
    opened().write("kernel", b"ours")
    top = cache.parents[1]
    with mounted("--bind", top, top):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(top)], check=True)
        folder = opened()
        assert (folder.read("kernel"), folder.trouble) == (b"ours", "")
        folder.write("more", b"")
        assert folder.trouble == f"compiled code cannot be kept in {cache}: Read-only file system"


def test_a_file_in_the_folders_place(opened, cache):
    cache.parents[1].touch()
    assert opened().trouble == f"compiled code cannot be kept in {cache.parent}: Not a directory"


def test_the_same_source_elsewhere_shares_what_is_compiled(run, tmp_path):
    copy = tmp_path / "copy" / "lowmem_resnet20"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    program = PROGRAM + "import lowmem_resnet20; print(lowmem_resnet20.__file__)"
    assert run(program) == f"{COMPILED}{PACKAGE}/__init__.py\n"
    assert run(program, PYTHONPATH=str(copy.parent)) == f"{LOADED}{copy}/__init__.py\n"


def test_processes_that_start_at_once_compile_once(cache):
    """All call compile_once; the others wait for the first, then find nothing to do."""
    code = """
import sys, time
from lowmem_resnet20.native.kernels.compilation import compile_once
def exercise():
    print("compiled", flush=True)
    time.sleep(0.5)
compile_once(exercise)
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache.parents[1])}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) for _ in range(3)
    ]
    assert b"".join(process.communicate()[0] for process in started) == b"compiled\n"
