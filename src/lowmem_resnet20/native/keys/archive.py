"""cereal's portable binary archive, as far as OpenFHE uses it.

One byte tells the byte order (1: little endian); then the fields follow in order, without names or padding.

* A shared pointer is a u32: with its highest bit set an object follows and gets the number in the other bits, counted
  from 1; without it, it is the object of that number, which came before.
* A pointer to a polymorphic class first names the class: 2^30 for the declared class itself, else a u32 numbered in
  the same way, with the name behind it the first time.
* The version of a class stands before its first object only.

:class:`Reader` never reads past the end, never allocates more than it was given, and raises :class:`Malformed` alone.
:class:`Writer` writes what it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
LITTLE_ENDIAN = 1
#: A pointer or a name that is new to the archive.
NEW = 1 << 31
#: In place of a name: the object is of the pointer's declared class.
DECLARED = 1 << 30
_LONGEST_TEXT = 256


class Malformed(Exception):
    """Bytes that are no such archive; the message fits on a line."""


class Reader:
    """Reads fields from bytes, or from a memory-mapped file of any size."""

    def __init__(self, data: Any) -> None:
        self._data = memoryview(data).cast("B")
        self._objects: list[tuple[Callable, Any]] = []
        self._names: list[str] = []
        self._versions: dict[str, int] = {}
        self.at = 0
        if self.unpack("<B")[0] != LITTLE_ENDIAN:
            raise Malformed("it is not a little-endian archive")

    @property
    def remaining(self) -> int:
        return len(self._data) - self.at

    @property
    def objects(self) -> int:
        """Shared objects so far."""
        return len(self._objects)

    def end(self) -> None:
        if self.remaining:
            raise Malformed(f"{self.remaining} bytes too many")

    def take(self, size: int) -> memoryview:
        """The next bytes, not copied."""
        if size > self.remaining:
            raise Malformed(f"it ends after {len(self._data)} bytes, {size - self.remaining} too early")
        self.at += size
        return self._data[self.at - size : self.at]

    def before(self, at: int) -> bytes:
        """All bytes before a place, copied."""
        return bytes(self._data[:at])

    def unpack(self, fields: str) -> tuple:
        """Fields in the notation of the struct module."""
        return struct.unpack(fields, self.take(struct.calcsize(fields)))

    def u32(self) -> int:
        return self.unpack("<I")[0]

    def u64(self) -> int:
        return self.unpack("<Q")[0]

    def count(self, most: int, of: str) -> int:
        """A number of elements."""
        number = self.u64()
        if number > most:
            raise Malformed(f"{number} {of}, more than {most}")
        return number

    def exactly(self, fields: str, expected: tuple, of: str) -> None:
        """Fields that have only one value here."""
        found = self.unpack(fields)
        if found != expected:
            raise Malformed(f"{of}: {', '.join(map(str, found))}, not {', '.join(map(str, expected))}")

    def text(self) -> str:
        size = self.u64()
        if size > _LONGEST_TEXT:
            raise Malformed(f"a text of {size} characters")
        try:
            return str(self.take(size), "ascii")
        except UnicodeDecodeError:
            raise Malformed("a text that is not ASCII") from None

    def version(self, class_: str, known: int = 0) -> None:
        """The version of a class, which stands before its first object."""
        if class_ in self._versions:
            return
        found = self._versions[class_] = self.u32()
        if found != known:
            raise Malformed(f"{class_} of version {found}, not {known}")

    def declared(self) -> None:
        """What stands before a pointer to an object of the declared class."""
        if self.u32() != DECLARED:
            raise Malformed("an object of an unexpected class")

    def named(self, name: str) -> None:
        """What stands before a pointer to an object of the class ``name``."""
        number = self.u32()
        if number == NEW | len(self._names) + 1:
            self._names.append(self.text())
        elif not 1 <= number <= len(self._names):
            raise Malformed(f"a class number {number:#x} out of order")
        found = self._names[(number & ~NEW) - 1]
        if found != name:
            raise Malformed(f"an object of class {found!r}, not {name!r}")

    def shared(self, load: Callable[[Reader], T]) -> T:
        """The object of a shared pointer: read by ``load`` the first time, remembered after."""
        number = self.u32()
        if number == NEW | len(self._objects) + 1:
            self._objects.append((load, None))
            value = load(self)
            self._objects[(number & ~NEW) - 1] = (load, value)
            return value
        if not 1 <= number <= len(self._objects):
            raise Malformed(f"an object number {number:#x} out of order")
        loader, value = self._objects[number - 1]
        if loader is not load or value is None:
            raise Malformed("a pointer to an object of another class")
        return value


class Writer:
    """Writes fields behind the beginning of another archive, whose objects, names and versions it can refer to."""

    def __init__(self, beginning: bytes, objects: int) -> None:
        self._parts: list[Any] = [beginning]
        self._objects = objects

    def raw(self, data: Any) -> None:
        """Bytes, or anything with a buffer of them; kept until :meth:`bytes`, not copied."""
        self._parts.append(data)

    def pack(self, fields: str, *values: Any) -> None:
        self._parts.append(struct.pack(fields, *values))

    def new(self) -> None:
        """A shared pointer to an object that follows."""
        self._objects += 1
        self.pack("<I", NEW | self._objects)

    def bytes(self) -> bytes:
        return b"".join(self._parts)
