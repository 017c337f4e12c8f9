"""Reports whose figures stay blank: drawing them takes most of a small run, and few tests of runs look at a picture."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["undrawn"]


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave the figures of reports and the letters of summaries undrawn, here and in children that are forked here.

    Every figure is still put together, with its title, its words and its place on the page, and so are the lines of
    the summary. Only what turns them into SVG, PNG and PDF is left out.
    """
    from medidistill.pipeline.stages import report as stage
    from medidistill.report import ReportData
    from medidistill.report.drawing import Picture
    from medidistill.report.summary import summary_lines

    def blank(_: object, name: str, title: str, alt: str, caption: str, *, pixels: bool = False) -> Picture:
        return Picture(name, title, alt, caption, f"data:image/svg+xml;base64,{_BLANK}")

    def unset(page: ReportData) -> bytes:
        return repr(summary_lines(page)).encode()

    with pytest.MonkeyPatch.context() as patch:
        replaced: Any = staticmethod(blank)
        patch.setattr(Picture, "of", replaced)
        patch.setattr(stage, "summary_pdf", unset)
        yield


_BLANK = base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>').decode()
