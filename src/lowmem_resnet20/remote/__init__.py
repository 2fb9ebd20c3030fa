"""A service as its client sees it."""

from .server import RemoteServer

__all__ = ["RemoteServer"]
