"""The file that weights come in: which kind it is, told by its content and not by its name."""

from __future__ import annotations

import io
import zipfile
from enum import Enum
from pathlib import Path

from ..errors import WeightsError
from ..machine.files import read_bounded

ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
#: How ONNX's model begins: its version, a number below 128, and one of the fields behind it.
_ONNX_MAGIC, _ONNX_FIELDS = b"\x08", (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42")
LARGEST_BYTES = 1 << 30
_HEAD_BYTES = 512
_HINT = "a PyTorch checkpoint, safetensors, ONNX, a folded npz, a model hub's or the original's folder can be imported"
_AGAIN = "download it again"
#: How files begin that often stand where weights should be: what each is, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file it stands for", "fetch that with: git lfs pull"),
    (b"<", "a web page, not a checkpoint", "download the file itself: its address is often another than the page's"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", _HINT),
)


class Kind(Enum):
    """The program that a file of weights was written by."""

    TORCH = "torch.save"
    SAFETENSORS = "safetensors"
    NPZ = "numpy.savez"
    ONNX = "onnx"


def read_source(path: Path) -> tuple[Kind, bytes]:
    """Return the kind of a file and its content.  Errors: WeightsError saying what it is instead; EnvironmentFault."""
    content = read_regular(path, LARGEST_BYTES, WeightsError(f"{path} is too large for this network's weights"))
    if not content:
        raise WeightsError(f"{path} is empty", _AGAIN)
    if content.startswith(ZIP_MAGIC):
        return _kind_of_zip(path, content), content
    if content.startswith(_PICKLE_MAGIC):
        return Kind.TORCH, content
    if content[8:9] == b"{":  # after the length of its header, which is JSON
        return Kind.SAFETENSORS, content
    if content[:1] == _ONNX_MAGIC and content[2:3] in _ONNX_FIELDS:
        return Kind.ONNX, content
    head = content[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, what, hint in _OTHERS:
        if head.startswith(start):
            raise WeightsError(f"{path} is {what}", hint)
    if content[257:262] == b"ustar":
        raise WeightsError(f"{path} is a tar archive", "unpack it first")
    raise WeightsError(f"{path} is of no kind that can be imported", _HINT)


def read_regular(path: Path, most_bytes: int, too_large: WeightsError) -> bytes:
    """Return the content of a regular file, of at most so many bytes.  Errors: WeightsError; EnvironmentFault."""
    if path.exists() and not path.is_file():  # a pipe would block
        raise WeightsError(f"{path} is not a regular file")
    return read_bounded(path, most_bytes, WeightsError(f"there is no file {path}"), too_large)


def _kind_of_zip(path: Path, content: bytes) -> Kind:
    try:
        members = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise WeightsError(f"{path} is damaged or cut short", _AGAIN) from None
    if sum(member.file_size for member in members) > LARGEST_BYTES:
        raise WeightsError(f"{path} unpacks to more than this network's weights can be")
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightsError(
            f"{path} is a TorchScript program", "save its state dict: torch.save(model.state_dict(), FILE)"
        )
    if any(name.endswith("/data.pkl") for name in names):
        return Kind.TORCH
    if any(name.endswith(".npy") for name in names):
        return Kind.NPZ
    raise WeightsError(f"{path} is a zip archive without weights", "unpack it, and import what is in it")
