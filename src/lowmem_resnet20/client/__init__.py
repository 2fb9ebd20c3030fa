"""The client: keys, encryption, decryption; the only package that reads the secret key."""

from .client import Client, Result
from .keys import generate_keys

__all__ = ["Client", "Result", "generate_keys"]
