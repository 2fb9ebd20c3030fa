"""Makes evaluation keys with OpenFHE and writes them in the native evaluator's form.

The client's part.  OpenFHE makes whole keys; of each the rows that its level needs are kept.  A key is made, written to
a temporary file, converted, and forgotten before the next, so that memory holds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import KeyFolderError
from ..machine.memory import return_freed_memory
from ..native.keys.keys import Header, Order, key_path, mapped_file, write_key, write_keys
from ..native.keys.openfhe_files import FileKey, read_chain, read_relinearisation_key, read_rotation_keys
from ..native.ring.chain import CHAIN, Chain
from ..native.ring.keynames import RELINEARISATION, automorphism
from .context import (
    clear_relinearisation_keys,
    clear_rotation_keys,
    hold_rotation_keys,
    write_relinearisation_key,
    write_rotation_keys,
)
from .library import BINARY, openfhe
from .secret import ClientContext, PrivateKey


def make_native_keys(
    context: ClientContext,
    secret: PrivateKey,
    plan: Mapping[str, int],
    folder: Path,
    order: Order,
    done: Callable[[str], None],
) -> Chain:
    """Write the keys that ``plan`` names, each cut to its towers, and the chain of primes into ``folder``.

    ``done`` hears each name.  This process holds no evaluation keys after.

    Errors: KeyFolderError for a name that is no key's; OSError.
    """
    chain = read_chain(openfhe.Serialize(context, BINARY))
    with _relinearisation_key(context, secret, chain, folder) as relinearisation:
        chain = replace(chain, p=relinearisation.primes[len(chain.q) :])
        (folder / CHAIN).write_bytes(chain.to_json())
        if RELINEARISATION in plan:
            header = Header.of(RELINEARISATION, plan[RELINEARISATION], chain, order.name, relinearisation.tag)
            write_key(key_path(folder, RELINEARISATION), relinearisation, header, chain, order)
            done(RELINEARISATION)
    for name, towers in plan.items():
        if name == RELINEARISATION:
            continue
        index = automorphism(name, chain.dimension)
        if index == 1:
            raise KeyFolderError(f"there is no key {name!r} to make")
        with _automorphism_key(context, secret, index, chain, folder) as key:
            write_keys(folder, {index: key}, {name: towers}, chain, order)
        done(name)
    return chain


@contextmanager
def _relinearisation_key(context: ClientContext, secret: PrivateKey, chain: Chain, folder: Path) -> Iterator[FileKey]:
    with TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "key"
        context.EvalMultKeyGen(secret)
        write_relinearisation_key(path, context, secret.GetKeyTag())
        clear_relinearisation_keys()
        with mapped_file(path) as data:
            yield read_relinearisation_key(data, chain)


@contextmanager
def _automorphism_key(
    context: ClientContext, secret: PrivateKey, index: int, chain: Chain, folder: Path
) -> Iterator[FileKey]:
    """Take the key of X -> X^index from OpenFHE into a temporary file, and read it there."""
    with TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "key"
        hold_rotation_keys({secret.GetKeyTag(): context.EvalAutomorphismKeyGen(secret, [index])})
        write_rotation_keys(path, context, secret.GetKeyTag())
        clear_rotation_keys()
        return_freed_memory()
        with mapped_file(path) as data:
            yield read_rotation_keys(data, chain)[index]
