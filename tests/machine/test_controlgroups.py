"""What control groups leave a process, of memory and of processors, wherever the limit stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowmem_resnet20.machine import controlgroups, memory
from lowmem_resnet20.native.kernels import threads

V2, V1 = "cgroup2 cgroup2 rw", "cgroup cgroup rw,memory"
V1_CPU = "cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Make a process's view of its control groups: where they are mounted (root, kind), and which it is in."""
    monkeypatch.setattr(controlgroups, "_PROCESS", tmp_path)
    mounted = tmp_path / "a mount"

    def make(root: str, kind: str, group: str) -> Path:
        point = str(mounted).replace(" ", "\\040")
        (tmp_path / "mountinfo").write_text(
            f"22 1 8:1 / / rw - ext4 /dev/root rw\n35 31 0:32 {root} {point} rw shared:9 - {kind}\n"
        )
        (tmp_path / "cgroup").write_text(f"3:cpuset:/elsewhere\n{group}\n")
        return mounted

    return make


def limit(group: Path, **files: object) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (group / name.replace("memory_", "memory.").replace("cpu_", "cpu.")).write_text(f"{value}\n")


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
    monkeypatch.setattr(controlgroups, "_PROCESS", tmp_path)
    assert memory.available_bytes() > 1 << 26
    assert list(controlgroups.processors_granted()) == []


# --- processors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "granted"),
    [("150000 100000", [2]), ("max 100000", []), ("50000 100000", [1]), ("nonsense", []), ("1 0", []), ("", [])],
)
def test_a_quota_of_version_2(process, text, granted):
    limit(process("/", V2, "0::/"), cpu_max=text)
    assert list(controlgroups.processors_granted()) == granted


@pytest.mark.parametrize(("quota", "granted"), [(50000, [1]), (250000, [3]), (-1, []), ("x", [])])
def test_a_quota_of_version_1(process, quota, granted):
    top = process("/", V1_CPU, "5:cpu,cpuacct:/box")
    limit(top / "box", cpu_cfs_quota_us=quota, cpu_cfs_period_us=100000)
    assert list(controlgroups.processors_granted()) == granted


@pytest.mark.parametrize("limited", ["", "system.slice", "system.slice/serve.service"])
def test_the_least_quota_of_the_groups_above_counts(process, limited, monkeypatch):
    """CPUQuota= of systemd is one on a group inside others; the machine has 64 processors."""
    top = process("/", V2, "0::/system.slice/serve.service")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.delenv("LOWMEM_RESNET20_THREADS", raising=False)
    for part in ("", "system.slice", "system.slice/serve.service"):
        limit(top / part, cpu_max=f"{200000 if part == limited else 800000} 100000")
    assert threads.available_processors() == 2
