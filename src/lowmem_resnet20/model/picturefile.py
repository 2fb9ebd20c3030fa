"""The parts of a JPEG or PNG file that its pixels and its orientation depend on.

Pillow refuses a file for metadata that it finds damaged or too large, though all its pixels are there.  So metadata
never reaches it: text, colour profiles, previews, animation.

Sources: Portable Network Graphics (W3C), sections 5 and 11; ITU-T T.81 (JPEG), annex B.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PNG_MAGIC, JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_START_OF_SCAN, _COMMENT = 0xDA, 0xFE
#: Segments APP0, APP1 and APP14 stay: JFIF and Adobe's tell how colours are stored, EXIF the orientation.
_LEFT_OUT = {*range(0xE2, 0xEE), 0xEF, _COMMENT}
#: What holds EXIF, if it begins so; else XMP, whose orientation does not count.
_APP1, _EXIF = 0xE1, b"Exif\0\0"
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}


def needed_of_png(content: bytes) -> bytes:
    """Return a PNG file of its critical chunks, transparency, and EXIF data where its checksum is right."""
    return b"".join(_chunks(content))


def needed_of_jpeg(content: bytes) -> bytes:
    """Return a JPEG file without the segments before its first scan that are metadata."""
    return b"".join(_segments(content))


def _chunks(content: bytes) -> Iterator[memoryview]:
    """Yield the chunks that are kept.

    A chunk: length, kind, that many bytes, checksum of the last two.  Kinds in upper case are critical.
    """
    view = memoryview(content)
    yield view[: len(PNG_MAGIC)]
    start, kind = len(PNG_MAGIC), b""
    while start < len(content) and kind != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        kind, chunk = content[start + 4 : start + 8], view[start:end]
        intact_exif = kind == b"eXIf" and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind[:1].isupper() or kind == b"tRNS" or intact_exif:
            yield chunk
        start = end


def _segments(content: bytes) -> Iterator[memoryview]:
    """Yield the segments that are kept.

    A segment: 0xFF (more than once, if it likes), marker, length with its own two bytes, the rest of the bytes.
    """
    view = memoryview(content)
    yield view[:2]
    start = 2
    while start + 4 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == _START_OF_SCAN or marker in _WITHOUT_LENGTH:
            break
        end = start + 1 if marker == 0xFF else start + 2 + int.from_bytes(view[start + 2 : start + 4], "big")
        if marker not in _LEFT_OUT and (marker != _APP1 or view[start + 4 : start + 10] == _EXIF):
            yield view[start:end]
        start = end
    yield view[start:]
