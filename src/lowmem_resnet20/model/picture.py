"""Reading the picture to classify: 32x32 RGB, JPEG or PNG, or any such photograph with ``resize``."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PictureError

MAX_FILE_BYTES = 100_000_000
#: Names of the files in a folder that are pictures.
SUFFIXES = (".png", ".jpg", ".jpeg")
_RESIZE_HINT = "add the word resize to crop it to a square, scale it and make it RGB"
_MODE_NAMES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with transparency",
    "P": "a palette picture",
    "RGBA": "RGB with transparency",
    "CMYK": "CMYK",
    "I": "16-bit grey",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
}


def read_picture(path: str | Path, width: int = 32, resize: bool = False) -> np.ndarray:
    """Read a JPEG or PNG picture, told by its content and not by its name.

    Returns float64 pixels in [0, 1] of shape (3, width, width): red, green, blue planes, rows from the top.
    Without ``resize`` the picture must be width x width and RGB as it is.  With it, a photograph is turned
    as its EXIF orientation says, made RGB (transparent parts white), cropped around its centre to a square
    and scaled (Lanczos).

    Errors: PictureError, whatever is wrong with the file.
    """
    path = Path(path)
    content = _read_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(content, path, width, resize)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a JPEG or PNG picture") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"{path} has too many pixels", "scale it down first") from error
    except Exception as error:  # Pillow's decoders raise whatever their broken input leads them to
        raise PictureError(f"{path} is damaged or cut short", "save it again, or take another picture") from error


def default_pictures() -> Path:
    """The folder of the pictures that come with the program: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "inputs"
    return packaged if packaged.is_dir() else package.parents[1] / "inputs"


def find_picture(path: Path) -> Path:
    """``path`` itself, or the program's own picture for an ``inputs/NAME`` that is not in the working directory."""
    if path.parent == Path("inputs") and not path.exists():
        own = default_pictures() / path.name
        return own if own.is_file() else path
    return path


def pictures_in(path: Path) -> list[Path]:
    """The pictures of a folder, by name; or ``path`` itself if it is none.  Errors: PictureError."""
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise PictureError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise PictureError(f"{path} has no picture in it", f"of a name that ends in {', '.join(SUFFIXES)}")
    return found


def _read_file(path: Path) -> bytes:
    """The content of a regular file of reasonable size; anything else (a pipe would block) is refused."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{path} is a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(f"{path} is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise PictureError(f"{path} is larger than {MAX_FILE_BYTES // 1_000_000} MB", "scale it down first")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PictureError(f"there is no picture {path}", "name one with: input FILE") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"cannot read {path}: {reason}") from error
    if not content:
        raise PictureError(f"{path} is empty")
    return content


def _decode(content: bytes, path: Path, width: int, resize: bool) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
        if not resize:
            _check_as_is(image, path, width)
        pixels = np.asarray(_fit(image, width) if resize else image, dtype=np.float64)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / 255.0


def _check_as_is(image: Image.Image, path: Path, width: int) -> None:
    if image.size != (width, width):
        size = f"{image.width}x{image.height}"
        raise PictureError(f"{path} is {size} pixels, not {width}x{width}", _RESIZE_HINT)
    if image.mode != "RGB":
        mode = _MODE_NAMES.get(image.mode, image.mode)
        raise PictureError(f"{path} is {mode}, not RGB", _RESIZE_HINT)


def _fit(image: Image.Image, width: int) -> Image.Image:
    """Turn, convert, crop to the central square and scale to width x width."""
    image = _to_rgb(ImageOps.exif_transpose(image))
    return ImageOps.fit(image, (width, width), method=Image.Resampling.LANCZOS)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip instead of scaling
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
