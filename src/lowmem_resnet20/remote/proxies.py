"""What the environment says of the way to a service: the proxy that leads there, and whose certificates are trusted.

HTTPS_PROXY, ALL_PROXY and NO_PROXY, in capitals or not, mean what they mean to curl; of NO_PROXY's entries a network
such as 10.0.0.0/8 counts too.  SSL_CERT_FILE and SSL_CERT_DIR name certificates.  Nothing else is read of what httpx,
OpenSSL and Python would: no .netrc, and no SSLKEYLOGFILE.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import EnvironmentFault, ServerError
from ..machine.files import os_errors
from ..machine.hosts import is_ip
from .said import status_name

_FILE, _FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"
#: By the schemes that are written, those that httpx knows: desktops write socks.
_SCHEMES = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5h", "socks": "socks5"}
_BRACKETS = str.maketrans("", "", "[]")
#: Statuses below 500 that a proxy may take back.
_FOR_THE_MOMENT = (408, 425, 429)


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    variable: the one that names it;
    url: without its user;
    login: name and password, if it has any.
    """

    variable: str
    url: str
    login: tuple[str, str] | None = field(default=None, repr=False)


def proxy_to(host: str, port: int) -> Proxy | None:
    """Return the proxy by which a host is asked in https, if there is one.

    Errors: EnvironmentFault for a variable that names none; what it says may be a password, and is not told.
    """
    variable, text = next((found for found in (_said("https"), _said("all")) if found[1]), ("", ""))
    if not text or any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", _said("no")[1])):
        return None
    return _read(variable, text)


def trusted_certificates() -> ssl.SSLContext:
    """Return those that the environment names; otherwise Mozilla's.  Errors: EnvironmentFault where there are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, folder = os.environ.get(_FILE), os.environ.get(_FOLDER)
    if folder and not file and not any(map(os.path.isdir, folder.split(os.pathsep))):
        raise EnvironmentFault(f"{folder} is no folder", f"{_FOLDER} of the environment names it")
    if not file and not folder:
        import certifi

        file = certifi.where()
    for path in (Path(file),) if file else ():
        try:
            with os_errors("read", path), open(path, "rb"):
                context.load_verify_locations(path)
        except EnvironmentFault as error:
            unreadable = isinstance(error.__cause__, ssl.SSLError)
            message = f"{path} holds no certificates that can be read" if unreadable else error.message
            raise EnvironmentFault(message, f"{_FILE} of the environment names it") from error
    if folder:
        context.load_verify_locations(capath=folder)
    return context


def _said(kind: str) -> tuple[str, str]:
    """Return the variable of that kind, in small letters if it is there so, and what it says."""
    names = [name for name in os.environ if name.lower() == f"{kind}_proxy"]
    return next(((name, os.environ[name].strip()) for name in sorted(names, reverse=True)), ("", ""))


def fault_of(proxy: Proxy, url: str, reason: str, *, refused: bool) -> tuple[ServerError, bool]:
    """Return what is told of a proxy that has not led to ``url``; and whether it never will.

    reason: of one that has ``refused``, what it says, in HTTP a status first.
    """
    hint = f"{proxy.variable} of the environment names it; NO_PROXY={urlsplit(url).hostname} goes without it"
    if not refused:
        return ServerError(f"the proxy at {proxy.url} does not answer as one: {reason}", hint), False
    code = reason.partition(" ")[0]
    status = int(code) if re.fullmatch("[0-9]{3}", code) else 0
    reason = status_name(status) if status else reason
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        what = "does not accept the name and the password" if proxy.login else "wants a name and a password"
        hint = f"they stand in {proxy.variable} of the environment: http://NAME:PASSWORD@HOST:PORT"
        return ServerError(f"the proxy at {proxy.url} {what}: {reason}", hint), True
    told = ServerError(f"the proxy at {proxy.url} does not lead to {url}: {reason}", hint)
    return told, 300 <= status < 500 and status not in _FOR_THE_MOMENT


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY is of that host: ``*``, a name with or without what is before it, an address,
    or a network of them; with a port, of that alone."""
    entry = entry.lower().rpartition("://")[2]
    with_port = re.fullmatch(r"(\[.+\]|[^:[]+):([0-9]+)", entry)
    if with_port:
        return int(with_port[2]) == port and _matches(with_port[1], host, port)
    if entry == "*":
        return True
    if is_ip(host):
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry.translate(_BRACKETS), strict=False)
        except ValueError:
            return False
    name = entry.removeprefix("*").strip(".")
    return bool(name) and f".{host}".endswith(f".{name}")


def _read(variable: str, text: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", host) or port == 0 or parts.path not in ("", "/"):
        hint = "such as http://HOST:PORT; in a name or a password, %40 is an @, %2F a slash"
        raise EnvironmentFault(f"{variable} of the environment is not the address of a proxy", hint)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        message = f"{variable} of the environment names a proxy of a kind that is not known: {parts.scheme}"
        raise EnvironmentFault(message, f"one of {', '.join(_SCHEMES)}")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        message = f"{variable} of the environment names a SOCKS proxy, and the package socksio is not installed"
        raise EnvironmentFault(message, "pip install socksio")
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port else "")
    named = parts.username is not None
    return Proxy(variable, url, (unquote(parts.username or ""), unquote(parts.password or "")) if named else None)
