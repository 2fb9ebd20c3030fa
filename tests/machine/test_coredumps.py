"""Core dumps: a process that asked for none leaves none, and the command line asks before there is a secret."""

import ctypes
import resource
import subprocess
import sys

import pytest

import parties
from lowmem_resnet20 import client
from lowmem_resnet20.cli.client import open_client
from lowmem_resnet20.cli.output import Printer
from lowmem_resnet20.cli.words import Request
from lowmem_resnet20.client import keys as keygeneration
from miniature import INSECURE_SHORT_SET, random_weights

PR_GET_DUMPABLE = 3
FORBIDDEN = """
import ctypes, resource
from lowmem_resnet20.machine.coredumps import forbid_core_dumps
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
open("/proc/self/statm").read()
ctypes.CDLL(None).abort()
"""


def test_no_core_and_no_reader(tmp_path):
    done = subprocess.run([sys.executable, "-c", FORBIDDEN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "0"], done.stderr
    assert done.returncode < 0
    assert list(tmp_path.iterdir()) == []


def dumpable() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)


@pytest.fixture
def allowed():
    """Core dumps allowed before the test."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0:
        pytest.skip("this machine allows no core dumps at all")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    assert dumpable() == (hard, 1)
    return hard, 1


def test_the_command_line_forbids_them_before_the_client_is_there(allowed, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(client, "Client", lambda *_: seen.append(dumpable()))
    open_client(Request("decrypt", 6, keys=tmp_path), Printer(None, None))
    assert seen == [(0, 0)]


def test_the_command_line_forbids_them_before_a_key_is_made(allowed, tmp_path, monkeypatch, run):
    seen = []

    def stop(set_):
        seen.append(dumpable())
        raise RuntimeError("enough")

    monkeypatch.setattr(keygeneration, "new_context", stop)
    assert "enough" in run("generate_keys", "1", "keys", str(tmp_path)).err
    assert seen == [(0, 0)]


def test_a_program_that_uses_the_library_keeps_its_own(allowed, tmp_path):
    parties.generate_keys(INSECURE_SHORT_SET, tmp_path / "exp6")
    weights = random_weights(INSECURE_SHORT_SET.architecture)
    with client.Client(tmp_path / "exp6", weights, set_=INSECURE_SHORT_SET) as holder:
        holder.unlock()
    assert dumpable() == allowed
