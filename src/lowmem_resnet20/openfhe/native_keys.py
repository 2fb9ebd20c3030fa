"""Makes evaluation keys with OpenFHE and writes them in the native evaluator's form.

The client's part.  OpenFHE makes whole keys; of each the rows that its level needs are kept.  A rotation's key is made,
written to a temporary file, converted, and forgotten before the next, so that memory holds one; those of bootstrapping
OpenFHE makes together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import KeyFolderError
from ..machine.memory import return_freed_memory
from ..native.chain import CHAIN, Chain
from ..native.keys import (
    INTO_SPARSE,
    RELINEARISATION,
    Header,
    Order,
    key_path,
    mapped_file,
    openfhe_index,
    rotation_step,
    write_key,
    write_keys,
)
from ..native.openfhe_files import FileKey, read_chain, read_relinearisation_key, read_rotation_keys
from .context import clear_relinearisation_keys, clear_rotation_keys, write_relinearisation_key, write_rotation_keys
from .library import BINARY, openfhe
from .secret import ClientContext, PrivateKey


def make_native_keys(
    context: ClientContext,
    secret: PrivateKey,
    plan: Mapping[str, int],
    folder: Path,
    order: Order,
    make_bootstrapping_keys: Callable[[], None],
    done: Callable[[str], None],
) -> Chain:
    """Write the keys that ``plan`` names, each cut to its towers, and the chain of primes into ``folder``.

    ``make_bootstrapping_keys`` has OpenFHE make and hold the keys that come together: the pair around the sparse
    secret, conjugation, and rotations.  ``done`` hears each name.  This process holds no evaluation keys after.

    Errors: KeyFolderError for a name that is no key's; OSError.
    """
    chain = read_chain(openfhe.Serialize(context, BINARY))
    with _relinearisation_key(context, secret, chain, folder) as relinearisation:
        make_bootstrapping_keys()
        with _rotation_keys(context, secret, chain, folder) as keys:
            chain = _with_special_primes(chain, relinearisation, keys)
            (folder / CHAIN).write_bytes(chain.to_json())
            together = [name for name in plan if openfhe_index(name, chain.dimension) in keys]
            for name in together:
                write_keys(folder, keys, {name: plan[name]}, chain, order)
                done(name)
        if RELINEARISATION in plan:
            header = Header.of(RELINEARISATION, plan[RELINEARISATION], chain, order.name, relinearisation.tag)
            write_key(key_path(folder, RELINEARISATION), relinearisation, header, chain, order)
            done(RELINEARISATION)
    for name in plan:
        if name not in together and name != RELINEARISATION:
            _make_rotation_key(context, secret, name, plan[name], folder, chain, order)
            done(name)
    return chain


def _make_rotation_key(
    context: ClientContext, secret: PrivateKey, name: str, towers: int, folder: Path, chain: Chain, order: Order
) -> None:
    if not rotation_step(name):
        raise KeyFolderError(f"there is no key {name!r} to make")
    context.EvalRotateKeyGen(secret, [rotation_step(name)])
    with _rotation_keys(context, secret, chain, folder) as keys:
        write_keys(folder, keys, {name: towers}, chain, order)


def _with_special_primes(chain: Chain, relinearisation: FileKey, keys: Mapping[int, FileKey]) -> Chain:
    into_sparse = keys.get(openfhe_index(INTO_SPARSE, chain.dimension))
    sparse = into_sparse.primes[1:] if into_sparse else ()
    return replace(chain, p=relinearisation.primes[len(chain.q) :], sparse=sparse)


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
def _rotation_keys(
    context: ClientContext, secret: PrivateKey, chain: Chain, folder: Path
) -> Iterator[dict[int, FileKey]]:
    """Take the rotation keys that OpenFHE holds from it into a temporary file, and read them there."""
    with TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "keys"
        write_rotation_keys(path, context, secret.GetKeyTag())
        clear_rotation_keys()
        return_freed_memory()
        with mapped_file(path) as data:
            yield read_rotation_keys(data, chain)
