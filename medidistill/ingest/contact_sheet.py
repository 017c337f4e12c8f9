"""Thumbnails of the images set aside, with reasons. They are patients' pixels: for the run's private folder only."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medidistill.files import write_text
from medidistill.ingest.manifest import Quarantined

__all__ = ["MOST_THUMBNAILS", "write_contact_sheet"]

MOST_THUMBNAILS = 500
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Set aside</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #1b1f24; background: #fff }}
p.notice {{ border-left: 4px solid #b3261e; padding: .4rem .8rem; background: #fdf1f0 }}
table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ddd }}
img {{ width: 112px; height: 112px; image-rendering: pixelated; background: #000; display: block }}
</style></head><body><h1>Set aside, or used under a warning</h1>
<p class="notice">This page holds patients' pixels and names of files. It belongs to this folder, which its owner alone
can enter: do not copy it into a report, a bundle or a message.</p>
{tables}</body></html>
"""


def _picture(image: NDArray[np.float32] | None) -> str:
    if image is None:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image[0] * 255).astype(np.uint8)).save(buffer, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _table(title: str, entries: Sequence[Quarantined], images: Mapping[str, NDArray[np.float32]]) -> str:
    if not entries:
        return ""
    rows = "".join(
        f"<tr><td>{_picture(images.get(one.key))}</td><td>{html.escape(one.reason)}</td>"
        f"<td>{html.escape(one.key)}</td><td>{_picture(images.get(one.other))}{html.escape(one.other)}</td></tr>\n"
        for one in entries[:MOST_THUMBNAILS]
    )
    more = len(entries) - MOST_THUMBNAILS
    rest = f"<p>{more} more are in the table beside this page.</p>" if more > 0 else ""
    head = "<tr><th></th><th>reason</th><th>file</th><th>like</th></tr>"
    return f"<h2>{title}: {len(entries)}</h2>\n<table>{head}\n{rows}</table>\n{rest}"


def write_contact_sheet(
    path: Path,
    quarantine: Sequence[Quarantined],
    warned: Sequence[Quarantined],
    images: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write one HTML page, readable by its owner only.

    Args:
        path: the page, in a private folder.
        quarantine: what was set aside.
        warned: what is used all the same.
        images: (1, S, S) in [0, 1] by key; what could not be decoded has none.

    Raises:
        ResourceError: it cannot be written.
    """
    tables = _table("Set aside", quarantine, images) + _table("Used under a warning", warned, images)
    write_text(path, _PAGE.format(tables=tables or "<p>Nothing.</p>"), mode=0o600)
