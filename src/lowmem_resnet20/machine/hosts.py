"""Names and addresses of hosts: which are possible, and which are this machine."""

from __future__ import annotations

import ipaddress
import re


def is_host_name(text: str) -> bool:
    """Return whether it is a host's name, in small letters.  Labels have 1 to 63 characters: for others Python's
    look-up raises UnicodeError."""
    return bool(re.fullmatch(r"(?=[a-z0-9])([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{0,62}[a-z0-9]", text))


def host_and_port(text: str) -> tuple[str, int] | None:
    """Return host, without brackets, and port, 0 to 65535, of ``HOST:PORT`` or ``[IPV6]:PORT``; None of others."""
    found = re.fullmatch(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", text)
    if not found or int(found["port"]) > 65535:
        return None
    host = found["six"] or found["host"]
    known = is_ip(host) if found["six"] else is_host_name(host.lower())
    return (host, int(found["port"])) if known else None


def is_this_machine(host: str) -> bool:
    """Return whether nothing that is sent to a host of that name leaves this machine."""
    return host == "localhost" or (is_ip(host) and ipaddress.ip_address(host).is_loopback)


def is_ip(host: str) -> bool:
    """Return whether it is an address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
