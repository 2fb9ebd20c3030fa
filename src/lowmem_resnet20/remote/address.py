"""Where a service is, and the token that it asks for."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ..errors import EnvironmentFault, UsageError
from ..machine.files import hiding_hint, os_errors
from ..machine.hosts import is_host_name, is_ip, is_this_machine

#: The token, where no file of it is named.  It is never a word of the command line, which other users can see.
TOKEN_VARIABLE = "LOWMEM_RESNET20_TOKEN"
_EXAMPLE = "such as http://127.0.0.1:8642 or https://HOST"
_TUNNEL = "use https, or a tunnel: ssh -L 8642:127.0.0.1:8642 HOST, then server http://127.0.0.1:8642"
_WHERE_THE_TOKEN_IS = "the service keeps it in its store, in the file token"
_LONGEST_TOKEN = 1024
#: First lines of what is no file: it can be read once, and a command may connect more than once.
_FROM_PIPES: dict[Path, bytes] = {}


@dataclass(frozen=True)
class Address:
    """Where a service is.

    url: without a slash at its end;
    on_this_machine: whether nothing that is sent there leaves it;
    token: empty where none was given.
    """

    url: str
    on_this_machine: bool
    token: str = field(default="", repr=False)


def address_of(url: str, token: str | Path | None) -> Address:
    """Check an address, and read the token, or take it as it is.

    Errors: UsageError for what is no service's address, and one where the token would be sent in the clear;
    EnvironmentFault where the token cannot be had, or others can read it."""
    parts = _split(url)
    host = parts.hostname or ""
    on_this_machine = is_this_machine(host)
    shown = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}"
    shown += (f":{parts.port}" if parts.port is not None else "") + parts.path.rstrip("/")
    if parts.scheme == "http" and not on_this_machine:
        raise UsageError(f"the way to {shown} is not encrypted, and others could read the token on it", _TUNNEL)
    return Address(shown, on_this_machine, _token(token))


def _split(url: str) -> SplitResult:
    """Return the parts of an address in which every program reads the same."""
    wrong = UsageError(f"{url!r} is not the address of a service", _EXAMPLE)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    if "@" in url:
        raise UsageError("an address has no user name or password in it", "the token goes into a file: token FILE")
    known_host = is_host_name(host) or (":" in host and is_ip(host))
    known_path = re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path)
    if parts.scheme not in ("http", "https") or not known_host or port == 0 or not known_path:
        raise wrong
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise wrong
    return parts


def _token(given: str | Path | None) -> str:
    if isinstance(given, str):
        content, where = given.encode("utf-8", "surrogateescape"), "the token given"
    elif given is None:
        content, where = os.environb.get(TOKEN_VARIABLE.encode(), b""), f"{TOKEN_VARIABLE} of the environment"
        if not content:
            return ""
    else:
        content, where = _first_line(given), str(given)
    token = content.strip()
    if not re.fullmatch(rb"[\x21-\x7e]{1,%d}" % _LONGEST_TOKEN, token):
        raise EnvironmentFault(f"{where} holds no token", _WHERE_THE_TOKEN_IS)
    return token.decode("ascii")


def _first_line(path: Path) -> bytes:
    if path in _FROM_PIPES:
        return _FROM_PIPES[path]
    with os_errors("read", path), open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            name = shlex.quote(str(path))
            hint = hiding_hint(path, f'token <(cat {name}), or without token: {TOKEN_VARIABLE}="$(cat {name})"')
            raise EnvironmentFault(f"{path} can be read by others", hint)
        line = file.readline(_LONGEST_TOKEN + 2)
    if not stat.S_ISREG(mode):
        _FROM_PIPES[path] = line
    return line
