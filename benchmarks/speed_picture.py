"""docs/pictures/meta-gradient.svg, from the results of `benchmarks.meta_gradient`.

python -m benchmarks.speed_picture
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from medidistill.files import read_json

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "pictures" / "meta-gradient.svg"
KINDS = {
    "adjoint": ("float32", "#56B4E9"),
    "adjoint_keeping": ("float32, maps kept", "#0072B2"),
    "adjoint_bfloat16": ("maps kept, bfloat16 tangents", "#D55E00"),
}
_HEIGHT = 0.26


def picture(result: Mapping[str, Any]) -> Figure:
    """Draw time and memory as shares of the stored graph's; a black line where the project aims at."""
    rows = result["rows"]
    figure = Figure(figsize=(9, 0.8 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))
    for axis, ratio, aim in zip(axes, ("time_ratio", "memory_ratio"), ("target_time", "target_memory"), strict=True):
        for k, (kind, (label, colour)) in enumerate(KINDS.items()):
            axis.barh(
                places + (k - 1) * _HEIGHT, [row[ratio][kind] for row in rows], _HEIGHT, label=label, color=colour
            )
        for place, row in zip(places, rows, strict=True):
            if row[aim] is not None:
                axis.plot([row[aim]] * 2, [place - 0.45, place + 0.45], color="black")
        axis.axvline(1, color="grey", linestyle=":")
    axes[0].set_yticks(places, [row["name"].replace(", batch", "\nbatch") for row in rows])
    axes[0].invert_yaxis()
    axes[0].set_xlabel("time / stored graph")
    axes[1].set_xlabel("peak memory / stored graph")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def main() -> None:
    """Write the picture."""
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "medidistill"}):
        figure = picture(read_json(HERE / "results" / "meta_gradient.json"))
        figure.savefig(PICTURE, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
