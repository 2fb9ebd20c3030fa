"""Who asks: the client whose token a request brings."""

from __future__ import annotations

import hmac

from .clients import FIRST, Client, Clients
from .token import hashed

_SCHEME = b"bearer "


class Gate:
    """Compares tokens, in the same time whatever is wrong with one.

    Errors, of every method: EnvironmentFault where the clients cannot be read.
    """

    def __init__(self, token: str, clients: Clients) -> None:
        """Admit ``clients``, as they are at each request, and whoever runs the service, by ``token``."""
        self._first, self._clients = Client(FIRST, hashed(token)), clients

    def client(self, authorization: bytes) -> Client | None:
        """Return whose token the value of an Authorization header brings; None: nobody's."""
        scheme, token = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :]
        digest = hashed(token.strip())
        named = [client for client in self._all() if hmac.compare_digest(client.sha256, digest)]
        return named[0] if named and scheme.lower() == _SCHEME else None

    def names(self) -> set[str]:
        """Return the names of all who have a token."""
        return {client.name for client in self._all()}

    def _all(self) -> list[Client]:
        return [self._first, *self._clients.all()]
