"""Memory of this process and what the machine has to spare."""

import mmap
import subprocess
import sys

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
