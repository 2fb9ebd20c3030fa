#!/usr/bin/env python
"""Handwritten digits as folders of PNG pictures, to try this program on: those that scikit-learn brings.

    scripts/digits.py FOLDER

Writes FOLDER/train/NAME/NUMBER.png and FOLDER/test/NAME/NUMBER.png: 1,797 grey pictures of 8x8 pixels, in folders
named zero to nine; 300 of them, spread over all, are kept for the test.  They are of the UCI repository's "Optical
Recognition of Handwritten Digits".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = 300
#: The pictures' values are from 0 to this.
LARGEST = 16


def write(folder: Path) -> None:
    """Write all pictures.  The folder may be there, but no picture in it is replaced."""
    digits = load_digits()
    held_out = set((np.arange(HELD_OUT) * len(digits.images) // HELD_OUT).tolist())
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / ("test" if number in held_out else "train") / NAMES[label] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            Image.fromarray((image * (255 / LARGEST)).astype(np.uint8)).save(file, "PNG")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
