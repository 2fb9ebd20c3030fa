"""Memory of this process and what the machine has to spare."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from lowmem_resnet20.machine import memory
from lowmem_resnet20.machine.memory import peak_resident_bytes, resident_bytes


def test_memory_is_this_process():
    before = resident_bytes()
    with mmap.mmap(-1, 64 << 20) as block:  # new pages, whatever earlier tests have freed
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        assert resident_bytes() - before > 48 << 20
        assert peak_resident_bytes() >= resident_bytes() - (1 << 20)
    assert resident_bytes() - before < 48 << 20
    assert peak_resident_bytes() - before > 48 << 20


def test_available_memory_is_of_the_order_of_the_machine():
    assert 1 << 26 < memory.available_bytes() < 1 << 50


V2, V1 = "cgroup2 cgroup2 rw", "cgroup cgroup rw,memory"


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Make a process's view of its control groups: where they are mounted (root, kind), and which it is in."""
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    mounted = tmp_path / "a mount"

    def make(root: str, kind: str, group: str) -> Path:
        point = str(mounted).replace(" ", "\\040")
        (tmp_path / "mountinfo").write_text(
            f"22 1 8:1 / / rw - ext4 /dev/root rw\n35 31 0:32 {root} {point} rw shared:9 - {kind}\n"
        )
        (tmp_path / "cgroup").write_text(f"3:cpu:/elsewhere\n{group}\n")
        return mounted

    return make


def limit(group: Path, **files: object) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (group / name.replace("memory_", "memory.")).write_text(f"{value}\n")


STAT = "anon 40\nactive_file 10000000\ninactive_file 20000000\n"


def test_a_group_of_version_2(process):
    group = process("/", V2, "0::/")
    machine = memory.available_bytes()
    limit(group, memory_max="max", memory_high="max", memory_current=70_000_000, memory_stat=STAT)
    assert memory.available_bytes() > machine // 2
    limit(group, memory_max=100_000_000)
    assert memory.available_bytes() == 60_000_000
    limit(group, memory_high=90_000_000)
    assert memory.available_bytes() == 50_000_000
    limit(group, memory_max=1000)
    assert memory.available_bytes() == 0


@pytest.mark.parametrize("limited", ["", "user.slice", "user.slice/run.scope"])
def test_the_least_limit_of_the_groups_above_counts(process, limited):
    top = process("/", V2, "0::/user.slice/run.scope")
    for part in ("", "user.slice", "user.slice/run.scope"):
        value = 50_000_000 if part == limited else "max"
        limit(top / part, memory_max=value, memory_current=0, memory_stat="")
    assert memory.available_bytes() == 50_000_000


def test_a_container_that_names_its_group_as_the_host_does(process):
    """What is mounted is the group /docker/x itself, and the process is in /docker/x/job."""
    top = process("/docker/x", V2, "0::/docker/x/job")
    limit(top / "job", memory_max=50_000_000, memory_current=0, memory_stat="")
    assert memory.available_bytes() == 50_000_000
    top = process("/docker/x", V2, "0::/../../elsewhere")
    limit(top, memory_max=40_000_000, memory_current=0, memory_stat="")
    assert memory.available_bytes() == 40_000_000


@pytest.mark.parametrize("limited", ["", "box"])
def test_a_group_of_version_1(process, limited):
    top = process("/", V1, "5:cpuacct,memory:/box")
    for part in ("", "box"):
        value = 100_000_000 if part == limited else 9223372036854771712
        stat = "cache 9\ntotal_active_file 10000000\ntotal_inactive_file 20000000\nactive_file 1\n"
        limit(top / part, memory_limit_in_bytes=value, memory_usage_in_bytes=70_000_000, memory_stat=stat)
    assert memory.available_bytes() == 60_000_000


def test_without_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    assert memory.available_bytes() > 1 << 26


def test_the_limit_of_ulimit_counts():
    script = (
        "import resource; from lowmem_resnet20.machine.memory import available_bytes\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); print(available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 1 << 26 < int(done.stdout) < 1 << 30


def test_a_system_that_tells_no_memory_fails_no_run(monkeypatch):
    """As some sandboxes' /proc."""

    def absent(self, *_, **__):
        raise FileNotFoundError(self)

    monkeypatch.setattr(memory.Path, "read_text", absent)
    assert resident_bytes() == 0
    assert peak_resident_bytes() > 1 << 20
    monkeypatch.setattr(memory.Path, "read_text", lambda *_, **__: "Name: python\n")
    assert resident_bytes() == 0
    assert peak_resident_bytes() > 1 << 20
