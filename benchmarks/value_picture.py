"""docs/pictures/value.png, from the results of `benchmarks.value`: accuracy against stored bytes, a line for each arm.

python -m benchmarks.value_picture
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.value_tables import RESULT, WORDS, shown_side
from medidistill.files import read_json

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "value.png"
COLOURS = {
    "random": "#999999",
    "kmeans": "#E69F00",
    "packed": "#CC79A7",
    "gaussian": "#009E73",
    "mixture": "#8C564B",
    "snapshots": "#56B4E9",
    "kernel_warm": "#0072B2",
    "mtt": "#F0E442",
    "iadd": "#D55E00",
}
_SIZE, _DPI = (9.0, 4.6), 110


def picture(result: Mapping[str, Any], side: int) -> Figure:
    """Draw balanced accuracy on the test split against stored bytes (left) and against training images (right)."""
    groups = [group for group in result["groups"] if group["side"] == side]
    figure = Figure(figsize=_SIZE, layout="constrained")
    for axis, quantity in zip(figure.subplots(1, 2, sharey=True), ("stored_bytes", "training_images"), strict=True):
        lines: dict[str, list[tuple[float, Mapping[str, float]]]] = defaultdict(list)
        for group in groups:
            for row in group["rows"]:
                lines[row["arm"]].append((row[quantity], row["balanced_accuracy"]))
        ceiling = lines.pop("full")[-1][1]
        axis.axhspan(ceiling["low"], ceiling["high"], color="#000000", alpha=0.08)
        axis.axhline(ceiling["estimate"], color="black", linestyle=":", label=WORDS["full"])
        for arm, points in lines.items():
            points.sort(key=lambda point: point[0])
            centre = [point["estimate"] for _, point in points]
            error = [[p["estimate"] - p["low"] for _, p in points], [p["high"] - p["estimate"] for _, p in points]]
            axis.errorbar(
                [x for x, _ in points], centre, error, marker="o", capsize=3, color=COLOURS[arm], label=WORDS[arm]
            )
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())  # they overlap where the axis spans little
        axis.set_xlabel(quantity.replace("_", " "))
    figure.axes[0].set_ylabel("balanced accuracy, test")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def main() -> None:
    """Write the picture of the side with the most seeds."""
    result = read_json(RESULT)
    with mpl.rc_context({"font.size": 9}):
        figure = picture(result, shown_side(result))
        figure.savefig(PICTURE, dpi=_DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()
