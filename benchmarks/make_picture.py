"""Draw the images of a bundle as a grid, one row for each class: the picture of the README.

python -m benchmarks.make_picture demo-output/1/run/bundle docs/pictures/distilled.png --columns 8
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from PIL import Image

from medidistill.export import load
from medidistill.export.copies import display_pixels

_SIDE, _GAP = 128, 6


def main() -> None:
    """Read a bundle, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle, or the file of a set")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--columns", type=int, default=0, help="images of each class, the first ones (default: all)")
    arguments = parser.parse_args()
    distilled = load(arguments.bundle)
    scale = math.ceil(_SIDE / distilled.images.shape[-1])
    cell = scale * distilled.images.shape[-1] + _GAP
    pixels = display_pixels(distilled)
    rows = [(distilled.labels == label).nonzero().flatten().tolist() for label in range(distilled.num_classes)]
    rows = [row[: arguments.columns or None] for row in rows]
    # a packed image is smooth by its decoder; of another one whole pixels stay visible, as there is no more detail
    how = Image.Resampling.NEAREST if distilled.packed is None else Image.Resampling.BICUBIC
    sheet = Image.new(
        "L" if pixels.ndim == 3 else "RGB", (cell * max(map(len, rows)) - _GAP, cell * len(rows) - _GAP), 0
    )
    for y, row in enumerate(rows):
        for x, index in enumerate(row):
            image = Image.fromarray(pixels[index])
            sheet.paste(image.resize((cell - _GAP, cell - _GAP), how), (x * cell, y * cell))
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
