"""Core dumps: that a process which asked for none leaves none, and when the client asks."""

import ctypes
import resource
import subprocess
import sys

import pytest

import parties
from lowmem_resnet20.client import client
from lowmem_resnet20.client import keys as keygeneration
from lowmem_resnet20.files.keystore import CLIENT
from lowmem_resnet20.openfhe.secret import SECRET_KEY
from miniature import INSECURE_SET

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


def test_they_are_off_before_the_secret_is_read(allowed, tmp_path):
    (tmp_path / CLIENT).mkdir()
    (tmp_path / CLIENT / SECRET_KEY).touch(mode=0o600)
    seen = []

    class Reading(type(tmp_path)):
        def read_bytes(self):
            seen.append((self.name, dumpable()))
            raise OSError(5, "")

    with pytest.raises(Exception, match="cannot read"):
        client.read_secret_key(Reading(tmp_path))
    assert seen == [(SECRET_KEY, (0, 0))]


def test_they_are_off_before_it_is_made(allowed, tmp_path, monkeypatch):
    seen = []

    def stop(set_):
        seen.append(dumpable())
        raise RuntimeError("enough")

    monkeypatch.setattr(keygeneration, "new_context", stop)
    with pytest.raises(RuntimeError, match="enough"):
        parties.generate_keys(INSECURE_SET, tmp_path / "exp1")
    assert seen == [(0, 0)]
