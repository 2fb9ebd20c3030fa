"""Switching keys as the native evaluator keeps them on disk: as long as their level, packed, mapped into memory.

A key is a pair (b, a) a digit, modulo QP.  Used on polynomials of l towers it needs ceil(l / alpha) digits and, of
each, the first l towers of Q and all of P: cutting a key is leaving out rows.  One file a key:

* a header of 4096 bytes: magic line, then JSON, then zeros;
* small: uint32 (2, digits, towers, N), residues modulo Q, b before a;
* special: uint64 (2, digits, k, N), residues modulo P.

All little endian, each row on a cache line.  Where residue i of OpenFHE's evaluation form stands is the kernels'
choice; the header names their order.

A file's size follows from its header, and the header from the chain: nothing else is mapped.  That residues are below
their primes is checked when a key is converted; afterwards the manifest's digest vouches for the file.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import KeyFolderError
from ..kernels.threads import available_processors
from ..ring.chain import Chain
from ..ring.keynames import automorphism, key_file
from .openfhe_files import FileKey

FORMAT = 2
_MAGIC = b"lowmem-resnet20 native key\n"
#: A page, so that residues begin on one.
HEADER_BYTES = 4096
_HALVES = "ba"


def key_path(folder: Path, name: str) -> Path:
    return folder / key_file(name)


class Order(NamedTuple):
    """An order of residues in memory: OpenFHE's residue i stands at ``order[i]``; int64 (N,)."""

    name: str
    order: NDArray[np.int64]

    @property
    def sources(self) -> NDArray[np.int64]:
        """By position, OpenFHE's residue that stands there."""
        sources = np.empty_like(self.order)
        sources[self.order] = np.arange(len(self.order))
        return sources


@dataclass(frozen=True)
class Header:
    """name: of the key; dimension, digits, towers, special: N, digits, rows modulo Q and P of each; order: of residues;
    chain: digest of the chain; pair: OpenFHE's tag of the key pair."""

    name: str
    dimension: int
    digits: int
    towers: int
    special: int
    order: str
    chain: str
    pair: str
    format: int = FORMAT

    @classmethod
    def of(cls, name: str, towers: int, chain: Chain, order: str, pair: str) -> Header:
        """The header of a key cut to ``towers``."""
        digits = chain.digits_at(towers)
        return cls(name, chain.dimension, digits, towers, len(chain.p), order, chain.digest, pair)

    @property
    def rows(self) -> int:
        return 2 * self.digits * self.towers

    @property
    def special_at(self) -> int:
        return HEADER_BYTES + 4 * self.rows * self.dimension

    @property
    def file_bytes(self) -> int:
        return self.special_at + 8 * 2 * self.digits * self.special * self.dimension

    def to_bytes(self) -> bytes:
        return (_MAGIC + json.dumps(asdict(self)).encode()).ljust(HEADER_BYTES, b"\0")


@dataclass(frozen=True)
class NativeKey:
    """A key mapped into memory; arrays of :mod:`.keys`' layout, read from disk as they are touched.

    small: uint32 (2, digits, towers, N); special: uint64 (2, digits, k, N); b is first.
    """

    header: Header
    small: NDArray[np.uint32]
    special: NDArray[np.uint64]
    _map: mmap.mmap

    @property
    def automorphism(self) -> int:
        """g of the automorphism X -> X^g that the key is for."""
        return automorphism(self.header.name, self.header.dimension)

    def release(self) -> None:
        """Let the memory go; what is touched again is read again."""
        self._map.madvise(mmap.MADV_DONTNEED)


class MappedKeys(Mapping[str, NativeKey]):
    """The keys of a folder by name: mapped when asked for, read from disk as they are touched.

    towers: by name, at how many a key is used, at most.  Errors, of every access: KeyFolderError.
    """

    def __init__(self, folder: Path, towers: Mapping[str, int], chain: Chain, order: str) -> None:
        self._folder, self._towers, self._chain, self._order = folder, towers, chain, order
        self._open: dict[str, NativeKey] = {}

    def __getitem__(self, name: str) -> NativeKey:
        if name not in self._open:
            path = key_path(self._folder, name)
            self._open[name] = open_key(path, name, self._chain, self._towers[name], self._order)
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._towers)

    def __len__(self) -> int:
        return len(self._towers)

    def release(self) -> None:
        """Let the memory of all keys go; what is touched again is read again."""
        for key in self._open.values():
            key.release()


def write_key(path: Path, key: FileKey, header: Header, chain: Chain, order: Order) -> None:
    """Convert one key; memory of a few towers beside the pages of the file it comes from.

    Errors: KeyFolderError if the key does not fit the header, or has residues above their primes; OSError.
    """
    _check_source(key, header, chain)
    sources = order.sources
    first_special = len(key.primes) - header.special
    towers = [*range(header.towers), *range(first_special, len(key.primes))]
    rows = [(half, digit, i) for half in range(2) for digit in range(header.digits) for i in range(len(towers))]
    with open(path, "xb") as file, ThreadPoolExecutor(available_processors()) as pool:
        file.write(header.to_bytes())
        file.flush()

        def convert(row: tuple[int, int, int]) -> None:
            half, digit, i = row
            values = key.residues(_HALVES[half], digit, towers[i])[sources]
            _write_at(file.fileno(), *_placed(header, half * header.digits + digit, i, values))

        for _ in pool.map(convert, rows):
            pass


def _placed(header: Header, digit: int, i: int, values: NDArray[np.uint64]) -> tuple[int, NDArray]:
    """Where in the file the values of tower ``i`` of a half's digit go, and as what."""
    n = header.dimension
    if i < header.towers:
        return HEADER_BYTES + 4 * n * (digit * header.towers + i), values.astype("<u4")
    return header.special_at + 8 * n * (digit * header.special + i - header.towers), values.astype("<u8", copy=False)


def _write_at(descriptor: int, at: int, values: NDArray) -> None:
    rest = values.data.cast("B")
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


def _check_source(key: FileKey, header: Header, chain: Chain) -> None:
    if key.primes != (*chain.q, *chain.p) or key.digits != chain.digits:
        raise KeyFolderError(f"the {header.name} key is of another chain of primes")


def open_key(path: Path, name: str, chain: Chain, towers: int, order: str) -> NativeKey:
    """Map a key that is to be used at ``towers`` or fewer.

    Errors: KeyFolderError if the file is missing, of another format, key, chain or order, shorter or longer than its
    header says, or cut below ``towers``.
    """
    with _reading(path), open(path, "rb") as file:
        header = _read_header(file.read(HEADER_BYTES), path)
        expected = Header.of(name, header.towers, chain, order, header.pair)
        if header != expected or not 1 <= header.towers <= len(chain.q):
            raise KeyFolderError(f"{path} does not hold the {name} key of this folder")
        if header.towers < towers:
            raise KeyFolderError(f"{path} serves {header.towers} towers, not {towers}")
        if os.fstat(file.fileno()).st_size != header.file_bytes:
            raise KeyFolderError(f"{path} has not {header.file_bytes} bytes")
        mapped = mmap.mmap(file.fileno(), header.file_bytes, access=mmap.ACCESS_READ)

    def part(dtype: str, at: int, rows: int) -> NDArray:
        shape = (2, header.digits, rows, header.dimension)
        return np.frombuffer(mapped, dtype, int(np.prod(shape)), at).reshape(shape)

    small, special = part("<u4", HEADER_BYTES, header.towers), part("<u8", header.special_at, header.special)
    return NativeKey(header, small, special, mapped)


def _read_header(data: bytes, path: Path) -> Header:
    try:
        if len(data) != HEADER_BYTES or not data.startswith(_MAGIC):
            raise ValueError("no magic")
        fields = json.loads(data[len(_MAGIC) :].rstrip(b"\0"))
        if fields["format"] != FORMAT:
            raise KeyFolderError(f"{path} has format {fields['format']!r}, and this program reads {FORMAT}")
        header = Header(**fields)
        typed = all(type(value) is {"int": int, "str": str}[Header.__annotations__[k]] for k, value in fields.items())
        if not typed:
            raise ValueError("wrong types")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeyFolderError(f"{path} is not a native key") from None
    return header


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyFolderError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def mapped_file(path: Path) -> Iterator[mmap.mmap]:
    """A file as bytes that are read when touched.  Errors: KeyFolderError if it is missing or empty."""
    with _reading(path), open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise KeyFolderError(f"{path} is empty")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    yield mapped


def write_keys(folder: Path, keys: Mapping[int, FileKey], plan: Mapping[str, int], chain: Chain, order: Order) -> None:
    """Convert from OpenFHE's map the keys that ``plan`` names, each cut to its towers, into ``folder``.

    Errors: KeyFolderError for a key that is not there, and as :func:`write_key`.
    """
    for name, towers in plan.items():
        index = automorphism(name, chain.dimension)
        if index not in keys:
            raise KeyFolderError(f"the {name} key is missing")
        header = Header.of(name, towers, chain, order.name, keys[index].tag)
        write_key(key_path(folder, name), keys[index], header, chain, order)
