"""Pictures and archives as a browser sends them, made on the spot."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image


def picture(seed: int = 0) -> bytes:
    """Return a PNG of 20 x 20 random pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 20), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(files: Mapping[str, bytes | str]) -> bytes:
    """Return a ZIP of the files, under exactly the names that are given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            packed.writestr(info, content)
    return buffer.getvalue()


def picture_archive(names: Iterable[str], *, backslash: bool = False) -> bytes:
    """Return a ZIP with a picture under each name; one that ends in a slash is a folder."""
    return archive(
        {
            name.replace("/", "\\") if backslash else name: b"" if name.endswith("/") else picture(number)
            for number, name in enumerate(names)
        }
    )
