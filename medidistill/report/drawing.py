"""Shared by all figures: colours, axes, and how a figure becomes part of a page.

Colours are Okabe and Ito's, told apart by readers with any common colour blindness; every arm also has its own
marker and line style. Figures are `Figure` objects on the Agg backend: no global pyplot state.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medidistill.jsontypes import JsonObject  # settings of matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "Style", "new_figure", "style_of"]

_WIDTH = 9.0  # inches; the page is 54 rem wide
_STYLE: JsonObject = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "medidistill",
}


@dataclass(frozen=True)
class Style:
    """How one arm is drawn everywhere."""

    color: str
    marker: str
    line: Any


_ARMS = {
    "full": Style("#000000", "s", "-"),
    "random": Style("#E69F00", "v", (0, (1, 1))),
    "kmeans": Style("#56B4E9", "^", (0, (5, 2))),
    "packed": Style("#F0B323", "<", (0, (3, 1))),
    "snapshots": Style("#0072B2", "P", "--"),
    "kernel": Style("#CC79A7", "X", ":"),
    "kernel_warm": Style("#882255", "*", (0, (2, 1))),
    "mtt": Style("#009E73", "D", (0, (4, 1, 1, 1))),
    "iadd": Style("#D55E00", "o", "-"),
}
_OTHERS = (Style("#44AA99", "p", "--"), Style("#999933", "d", ":"), Style("#7F7F7F", "h", "-."))


def style_of(arm: str, known: Sequence[str] = ()) -> Style:
    """Return the style of an arm; names outside the usual five take turns by their place in `known`."""
    if arm in _ARMS:
        return _ARMS[arm]
    others = [name for name in known if name not in _ARMS]
    return _OTHERS[others.index(arm) % len(_OTHERS) if arm in others else 0]


@dataclass(frozen=True)
class Picture:
    """A figure ready for the page.

    Args:
        name: anchor on the page.
        title: heading.
        alt: what the picture shows, for those who cannot see it.
        caption: what to look for, in plain words.
        source: `data:` address.
    """

    name: str
    title: str
    alt: str
    caption: str
    source: str

    @property
    def content(self) -> bytes:
        """The file: SVG or PNG."""
        return base64.b64decode(self.source.partition(",")[2])

    @classmethod
    def of(cls, figure: Figure, name: str, title: str, alt: str, caption: str, *, pixels: bool = False) -> Picture:
        """Encode a figure: SVG, or PNG where it consists of pixels. The same figure gives the same bytes."""
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        data = io.BytesIO()
        FigureCanvasAgg(figure)
        with mpl.rc_context(_STYLE):
            if pixels:
                figure.savefig(data, format="png", dpi=130, facecolor="white", metadata={"Software": None})
            else:
                # what `savefig` does, but for a drawing of everything beforehand that only a tight box needs
                figure.set_facecolor("white")
                FigureCanvasSVG(figure).print_svg(data, metadata={"Date": None, "Creator": None})
        kind = "png" if pixels else "svg+xml"
        return cls(name, title, alt, caption, f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}")


def new_figure(rows: int, columns: int, height: float, *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure of the page's width and its axes, row by row.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        height: of the figure, inches.
        share_y: one y axis for a row.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    return figure, [axes for line in grid for axes in line]
