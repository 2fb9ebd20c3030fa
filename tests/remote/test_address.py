"""Which addresses are a service's, where a token may be sent, and where it comes from."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lowmem_resnet20.errors import EnvironmentFault, UsageError
from lowmem_resnet20.remote import address as address_module
from lowmem_resnet20.remote.address import TOKEN_VARIABLE, address_of


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("url", "shown", "on_this_machine"),
    [
        ("http://127.0.0.1:8642", "http://127.0.0.1:8642", True),
        ("HTTP://LOCALHOST/", "http://localhost", True),
        ("http://127.9.9.9", "http://127.9.9.9", True),
        ("http://[::1]:80/a/b//", "http://[::1]:80/a/b", True),
        ("https://example.org", "https://example.org", False),
        ("https://10.0.0.1:8642/", "https://10.0.0.1:8642", False),
        (f"https://{'a' * 63}.a_b-c", f"https://{'a' * 63}.a_b-c", False),
        ("https://localhost", "https://localhost", True),
    ],
)
def test_addresses(url, shown, on_this_machine):
    address = address_of(url, None)
    assert (address.url, address.on_this_machine, address.token) == (shown, on_this_machine, "")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8642", "localhost", "localhost:8642", "ftp://127.0.0.1", "file:///etc/passwd", "http://",
        "http:///x", "http://127.0.0.1:0", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://[::1", "http://127.0.0.1?a=b",
        "http://127.0.0.1#a", "http://127.0.0.1/?", "http://127.0.0.1#", "http://evil\\.127.0.0.1", "http://a b",
        "https://", "http://127.0.0.1/%0d%0a", "https://ex\u00e4mple.org", "http://127.0.0.1;x", "https://.", "",
        "https://example..org", f"https://{'a' * 64}.org", f"https://{'a' * 64}", "https://.org", "https://-a.org",
    ],
)  # fmt: skip
def test_what_is_no_address(url):
    with pytest.raises(UsageError, match="is not the address of a service") as raised:
        address_of(url, None)
    assert raised.value.hint == "such as http://127.0.0.1:8642 or https://HOST"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org", "http://10.0.0.1:8642", "http://0.0.0.0", "http://localhost.example.org", "http://127.1",
        "http://127.0.0.1.example.org", "http://[::ffff:10.0.0.1]", "http://0x7f000001", "http://localhost.",
    ],
)  # fmt: skip
def test_no_token_goes_in_the_clear_to_another_machine(url, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "sesame")
    with pytest.raises(UsageError) as raised:
        address_of(url, None)
    assert "ssh -L" in raised.value.hint or url.endswith(".")


@pytest.mark.parametrize(
    "url", ["https://user:sesame@example.org", "http://sesame@127.0.0.1", "http://127.0.0.1\\@evil.org"]
)
def test_no_secret_in_an_address(url):
    with pytest.raises(UsageError, match="no user name or password") as raised:
        address_of(url, None)
    assert "sesame" not in str(raised.value)


#: What a command does with the token that its words name, or none.
TAKING = """
import sys
from pathlib import Path
from lowmem_resnet20.remote.address import address_of
file = Path(sys.argv[2]) if sys.argv[1:] == ["token", *sys.argv[2:3]] else None
print(address_of("http://127.0.0.1", file).token)
"""


def mounted(path: Path, mode: int) -> None:
    raise OSError(errno.EROFS, "")


def token_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_token_comes_from_its_file_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "other")
    address = address_of("http://127.0.0.1", token_file(tmp_path, b"sesame\nrest"))
    assert address.token == "sesame"
    assert "sesame" not in repr(address)
    assert address_of("http://127.0.0.1", None).token == "other"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words\n", b"caf\xc3\xa9\n", b"a\x00b", b"a\x1b[2J", b"x" * 1025])
def test_what_is_no_token(tmp_path, monkeypatch, content):
    path = token_file(tmp_path, content)
    with pytest.raises(EnvironmentFault, match=f"^{path} holds no token$"):
        address_of("http://127.0.0.1", path)
    if content.strip() and b"\x00" not in content:
        monkeypatch.setitem(os.environb, TOKEN_VARIABLE.encode(), content)
        with pytest.raises(EnvironmentFault, match=r"of the environment holds no token$"):
            address_of("http://127.0.0.1", None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_token_that_others_can_read_is_refused(tmp_path, mode):
    path = token_file(tmp_path, b"sesame", mode)
    with pytest.raises(EnvironmentFault, match="can be read by others") as raised:
        address_of("http://127.0.0.1", path)
    assert raised.value.hint == f"chmod 600 {path}"


def test_a_token_from_a_pipe(monkeypatch):
    """Which can be read once, and is asked for whenever a command connects."""
    monkeypatch.setattr(address_module, "_FROM_PIPES", {})
    read, write = os.pipe()
    os.write(write, b"sesame\n")
    os.close(write)
    for _ in range(2):
        assert address_of("http://127.0.0.1", Path(f"/dev/fd/{read}")).token == "sesame"
    os.close(read)


def test_what_the_hint_says_of_a_token_whose_mode_cannot_be_changed(tmp_path, monkeypatch):
    """As where it is mounted read-only: both ways work in a shell."""
    path = token_file(tmp_path, b"sesame\n", 0o444)
    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault) as raised:
        patch.setattr(Path, "chmod", mounted)
        address_of("http://127.0.0.1", path)
    by_pipe, by_variable = raised.value.hint.split(", or without token: ")
    assert (by_pipe, by_variable) == (f"token <(cat {path})", f'{TOKEN_VARIABLE}="$(cat {path})"')
    for shown in (f"python {by_pipe}", f"{by_variable} python"):
        command = shown.replace("python", f"{shlex.quote(sys.executable)} -c {shlex.quote(TAKING)}")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout == "sesame\n"


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_token_that_is_not_there(tmp_path, name):
    with pytest.raises(EnvironmentFault, match=r"^cannot read "):
        address_of("http://127.0.0.1", tmp_path / name)
