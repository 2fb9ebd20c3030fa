"""Reading the picture to classify: of the network's size, JPEG or PNG, or any such photograph with ``resize``."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ..errors import PictureError
from .picturefile import JPEG_MAGIC, PNG_MAGIC, needed_of_jpeg, needed_of_png

MAX_FILE_BYTES = 250_000_000
#: Pixels of a picture that is decoded whole (4 bytes a pixel and more), and of a JPEG that is decoded at a fraction of
#: its size.  Measured at these limits, reading takes at most 1.2 GB beside two copies of the file; of a JPEG that is
#: not progressive, 0.1.
MAX_PIXELS, MAX_SCALED_PIXELS = 1 << 27, 1 << 28
#: Names of the files in a folder that are pictures.
SUFFIXES = (".png", ".jpg", ".jpeg")
_RESIZE_HINT = "add the word resize to crop it to a square, scale it and give it the network's colours"
_PNG_BIT_DEPTH = 24  # place in the file
_EXIF_ORIENTATION = 0x0112
#: What undoes each EXIF orientation.
_TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: str | Path, width: int = 32, resize: bool = False, colours: int = 3) -> np.ndarray:
    """Read a JPEG or PNG picture, told by its content and not by its name.

    Returns float64 pixels in [0, 1] of shape (colours, width, width), rows from the top: 3 colours are red, green and
    blue planes, 1 is the luminance.
    The picture is turned as its EXIF orientation says.  Without ``resize`` it must be width x width, and what is not
    RGB (grey, a palette, opaque transparency) is taken where its RGB values are exact, and for one colour where it is
    grey.  With it, a photograph is cropped around its centre to a square, scaled (Lanczos) and made RGB (transparent
    parts white), or grey of that.

    Colour profiles are not applied, of an animation the still picture is read, and other metadata, damaged or not,
    has no effect.

    Errors: PictureError, whatever is wrong with the file.
    """
    path = Path(path)
    return decode_picture(_read_file(path), path, width, resize, colours)


def decode_picture(content: bytes, path: Path, width: int = 32, resize: bool = False, colours: int = 3) -> np.ndarray:
    """Return the pixels of a file's content, as :func:`read_picture` does; ``path`` is what errors call it."""
    check_size(len(content), path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(content, path, width, resize, colours)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever their broken input leads them to
        raise PictureError(f"{path} is damaged or cut short", "save it again, or take another picture") from error


def check_size(count: int, path: Path) -> None:
    """Raise PictureError unless a file of ``count`` bytes may be a picture."""
    if not count:
        raise PictureError(f"{path} is empty")
    if count > MAX_FILE_BYTES:
        raise PictureError(f"{path} is larger than {MAX_FILE_BYTES // 1_000_000} MB", "scale it down first")


def default_pictures() -> Path:
    """Return the folder of the pictures that come with the program: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "inputs"
    return packaged if packaged.is_dir() else package.parents[1] / "inputs"


def find_picture(path: Path) -> Path:
    """``path`` itself, or the program's own picture for an ``inputs/NAME`` that is not in the working directory."""
    if path.parent == Path("inputs") and not os.path.exists(path):
        own = default_pictures() / path.name
        return own if own.is_file() else path
    return path


def pictures_in(path: Path) -> list[Path]:
    """Return the pictures of a folder, by name, without hidden files; or ``path`` itself if it is no folder.

    Errors: PictureError, of this path alone.
    """
    if not os.path.isdir(path):
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if is_named_as_picture(file))
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise PictureError(f"{path} has no picture in it", f"of a name that ends in {', '.join(SUFFIXES)}")
    return found


def is_named_as_picture(file: Path) -> bool:
    """Tell whether a file is a picture, by its name.  Hidden files are none: macOS leaves a ``._a.png`` beside
    ``a.png`` on other systems' disks."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _read_file(path: Path) -> bytes:
    """Return the content of a regular file of reasonable size; anything else (a pipe would block) is refused."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{path} is a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(f"{path} is not a regular file")
        check_size(status.st_size or 1, path)  # some systems' files that hold something are told to be of 0 bytes
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"there is no picture {path}", "name one with: input FILE") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"cannot read {path}: {reason}") from error
    return content


def _open(content: bytes, path: Path) -> JpegImageFile | PngImageFile:
    """Return the picture, not yet decoded.  Pillow's own ``open`` would add its limits and read all of an animation."""
    if content.startswith(PNG_MAGIC):
        return PngImageFile(io.BytesIO(needed_of_png(content)))
    if content.startswith(JPEG_MAGIC):
        return JpegImageFile(io.BytesIO(needed_of_jpeg(content)))
    raise PictureError(f"{path} is not a JPEG or PNG picture")


def _decode(content: bytes, path: Path, width: int, resize: bool, colours: int) -> np.ndarray:
    with _open(content, path) as image:
        if resize:
            _check_pixels(image, path)
            picture = _on_white(_scaled(image, width))
        else:
            bits = content[_PNG_BIT_DEPTH] if isinstance(image, PngImageFile) else 8
            picture = _as_is(image, bits, path, width)
        picture = _turned(picture, image)
        if colours == 1:
            picture = _grey(picture, path, resize)
        pixels = np.asarray(picture, dtype=np.float64).reshape(width, width, colours)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / 255.0


def _as_is(image: Image.Image, bits: int, path: Path, width: int) -> Image.Image:
    """Return the picture in RGB, of exactly the values it has.  bits: those of a colour in the file."""
    if image.size != (width, width):
        size = f"{image.width}x{image.height}"
        raise PictureError(f"{path} is {size} pixels, not {width}x{width}", _RESIZE_HINT)
    if bits > 8:
        raise PictureError(f"{path} has {bits} bits a colour, not 8", _RESIZE_HINT)
    if image.mode == "CMYK":
        raise PictureError(f"{path} is CMYK, not RGB", _RESIZE_HINT)
    image = image.convert("RGBA")
    if np.asarray(image)[..., 3].min() < 255:
        raise PictureError(f"{path} has transparent pixels", _RESIZE_HINT)
    return image.convert("RGB")


def _grey(picture: Image.Image, path: Path, resize: bool) -> Image.Image:
    """Return an RGB picture in its one colour, which without ``resize`` has to be its only one."""
    red, green, blue = picture.split()
    if not resize and not red.tobytes() == green.tobytes() == blue.tobytes():
        raise PictureError(f"{path} has colours, and this network takes grey pictures", _RESIZE_HINT)
    return picture.convert("L")


def _check_pixels(image: Image.Image, path: Path) -> None:
    """Raise unless there is memory for decoding: a progressive JPEG's coefficients are all kept, at any scale."""
    scaled = isinstance(image, JpegImageFile) and not image.info.get("progressive")
    most = MAX_SCALED_PIXELS if scaled else MAX_PIXELS
    if image.width * image.height > most:
        raise PictureError(f"{path} has too many pixels: more than {most // 1_000_000} million", "scale it down first")


def _scaled(image: Image.Image, width: int) -> Image.Image:
    """Return the central square, scaled to width x width."""
    image.draft(None, (8 * width, 8 * width))  # has a JPEG decoded at the smallest fraction that is still larger
    return ImageOps.fit(_scalable(image), (width, width), method=Image.Resampling.LANCZOS)


def _scalable(image: Image.Image) -> Image.Image:
    """Return it in a mode whose values can be averaged; no copy where the picture's own is, for it may be large."""
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip instead of scaling
        values = np.asarray(image)
        grey = (values >> 8).astype(np.uint8)
        grey[values == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey)
    if "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Return it in RGB, as on a white page."""
    image = image.convert("RGBA")
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image)
    return page


def _turned(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Return the square picture as the orientation in its source's EXIF data, if that can be read, wants it shown."""
    try:
        turn = _TURNS.get(source.getexif().get(_EXIF_ORIENTATION))
    except Exception:  # noqa: BLE001 - Pillow's parser raises whatever broken data leads it to
        return picture
    return picture if turn is None else picture.transpose(turn)
