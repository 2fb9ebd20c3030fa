"""Classify a picture that the server never sees: a ResNet under RNS-CKKS with a low memory footprint.

    import lowmem_resnet20 as lr

    lr.generate_keys(6, "keys/exp6")                              # once: keys/exp6/client and keys/exp6/server
    client = lr.Client("keys/exp6")
    sent = client.encrypt(lr.read_picture("inputs/vale.jpg"))     # bytes, with save and load
    answers = lr.Server("keys/exp6").evaluate(sent)               # or lr.RemoteServer(url, token, "keys/exp6")
    for result in client.decrypt(answers):
        print(result.label, result.logits, result.warnings)

Nothing is imported before it is used.
"""

__version__ = "0.1.0"

#: As typing's, of which nothing may be imported here: a child process finds this file before all others.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Client as Client
    from .client import Result as Result
    from .client import generate_keys as generate_keys
    from .client.precision import inspect_checkpoints as inspect_checkpoints
    from .errors import LowmemError as LowmemError
    from .files.envelope import Ciphertext as Ciphertext
    from .model.picture import read_picture as read_picture
    from .network.architecture import CIFAR10_CLASSES as CIFAR10_CLASSES
    from .network.card import Card as Card
    from .network.cardfile import load_card as load_card
    from .network.cardfile import save_card as save_card
    from .network.weights import Weights as Weights
    from .network.weights import load_weights as load_weights
    from .remote import RemoteServer as RemoteServer
    from .server.server import Server as Server

#: Where each name of the front door is.
_PLACES = {
    "CIFAR10_CLASSES": "network.architecture",
    "Card": "network.card",
    "Ciphertext": "files.envelope",
    "Client": "client",
    "LowmemError": "errors",
    "RemoteServer": "remote",
    "Result": "client",
    "Server": "server.server",
    "Weights": "network.weights",
    "generate_keys": "client",
    "inspect_checkpoints": "client.precision",
    "load_card": "network.cardfile",
    "load_weights": "network.weights",
    "read_picture": "model.picture",
    "save_card": "network.cardfile",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
