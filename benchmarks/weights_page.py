"""docs/weights.md and its figures, from the results of `benchmarks.weights_analysis`.

python -m benchmarks.weights_page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medidistill.files import read_json

__all__ = ["figures", "page"]

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
_STYLE = {"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True, "svg.hashsalt": "medidistill"}
_BLUE, _RED = "#0072B2", "#D55E00"
_HEAD = """\
# Analysis of the learned weights W

Written by `python -m benchmarks.weights_page` from `benchmarks/results/weights_*.json`; do not edit. The question is
that of IADD's discussion: which parameters does W weight most, and why? A student is trained on the
finished set along drawn segments of the experts; d is its residual at the end, m what the expert moved. Training and
validation images alone are read. **It is one run each: a description, no test.** [algorithm.md](algorithm.md) says how
W is learned.
"""


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown of the page."""
    if not results:
        return _HEAD + "\nNo result is committed yet: `python -m benchmarks.weights_analysis --help`.\n"
    return "\n".join([_HEAD, *(_section(result) for result in results)])


def _section(result: Mapping[str, Any]) -> str:
    name, config = result["name"], result["config"]
    settings, method = result.get("distill", config["distill"]), result.get("method", "iadd")
    rule = settings["importance"]
    how = rule["direction"] if rule["kind"] == "learned" else rule["kind"]
    lines = [
        f"## {result['run']}" + ("" if method == "iadd" else f": `{method}`"),
        "",
        *([f"> {result['notice']}", ""] if result["notice"] else []),
        f"{settings['ipc']} images per class from {settings['init']}, J = {settings['inner_steps']}, K = "
        f"{settings['expert_epochs']}, {settings['outer_steps']} outer steps (set of step {result['outer_step']}), "
        f"{result['experts']} experts, ConvNet of width {config['network']['width']}, W by "
        f"{rule['granularity']}, `{rule['constraint']}`, "
        f"`{how}`; {result['segments']} segments, {result['fisher_images']} images for "
        "the Fisher information.",
        "",
        f"![Residual over movement, and W, by layer](pictures/weights-{name}-layers.svg)",
        "",
        "Left of 1 on the left the student came nearer to the expert than by not moving at all.",
        "",
        "| parameters | number | d² / m² | Fisher information | w: 5 % | median | 95 % |",
        "|---|---|---|---|---|---|---|",
        *(_layer(row) for row in result["layers"]),
        "",
        _extremes(result["layers"]),
        "",
        f"![W over the outer steps](pictures/weights-{name}-time.svg)",
        "",
        "| W against | all parameters | median within layers |",
        "|---|---|---|",
        *(
            f"| {what} | {_rho(found['all'])} | {_rho(found['within_layers'])} |"
            for what, found in result["correlations"].items()
        ),
        "",
        "Spearman's rank correlation."
        + (
            " Where W is learned by lowering the loss it falls where d² is large by construction, so the row of d² "
            "says how far that went, and the others what goes along with it."
            if rule["kind"] == "learned"
            else ""
        ),
        "",
        *_restart(result["restart"]),
    ]
    return "\n".join(lines)


def _layer(row: Mapping[str, Any]) -> str:
    ratio = "never moves" if row["residual_over_movement"] is None else f"{row['residual_over_movement']:.2f}"
    w = row["w"]
    return (
        f"| `{row['name']}` | {row['elements']} | {ratio} | {row['fisher']:.1e} | {w['q05']:.3f} | {w['median']:.3f} | "
        f"{w['q95']:.3f} |"
    )


def _extremes(layers: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on the layers with the largest and smallest w."""
    moving = sorted(
        (row for row in layers if row["residual_over_movement"] is not None), key=lambda row: row["w"]["median"]
    )
    least, most = moving[0], moving[-1]
    return (
        f"W is largest on `{most['name']}` (median {most['w']['median']:.2f}) and smallest on `{least['name']}` "
        f"({least['w']['median']:.2f})."
    )


def _rho(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _restart(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        elsewhere = "[weight-trial.md](weight-trial.md) has it for W learned on the loss of real images."
        return [f"The restart with W frozen was not run here; {elsewhere}", ""]
    lines = ["Does freezing the learned W and starting again help? Validation balanced accuracy, seed by seed:", ""]
    lines += ["| method | by seed |", "|---|---|"]
    lines += [f"| {name} | {', '.join(f'{v:.3f}' for v in values)} |" for name, values in found["scores"].items()]
    for rival in (name for name in found["scores"] if name != "frozen"):
        gap = found[f"frozen_minus_{rival}"]
        interval = "" if gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        lines += ["", f"Frozen minus `{rival}`: {gap['estimate']:+.3f}{interval}, paired over seeds."]
    return [*lines, ""]


def figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of one result: file name -> figure."""
    with mpl.rc_context(_STYLE):
        layers = [row for row in result["layers"] if row["residual_over_movement"] is not None]
        first = Figure(figsize=(8, 0.32 * len(layers) + 1.2), layout="constrained")
        left, right = first.subplots(1, 2, sharey=True)
        places = range(len(layers))
        _spread(left, [row["residual_spread"] for row in layers], _BLUE)
        left.plot([row["residual_over_movement"] for row in layers], places, "o", color="black", markersize=4)
        left.set(xlabel="d² / mean m²: 5 to 95 %, quartiles, mean (dot)", yticks=list(places), xscale="log")
        left.set_yticklabels([row["name"] for row in layers])
        left.invert_yaxis()
        _spread(right, [row["w"] for row in layers], _RED)
        right.set(xlabel="w: 5 to 95 %, quartiles, median")

        second = Figure(figsize=(8, 3.2), layout="constrained")
        axes = second.subplots()
        steps = [entry["step"] for entry in result["over_time"]]
        for k, row in enumerate(layers):
            shade = k / max(1, len(layers) - 1)
            medians = [entry["w"][row["name"]]["median"] for entry in result["over_time"]]
            axes.plot(steps, medians, label=row["name"], color=mpl.colormaps["viridis"](0.9 * shade))
        axes.set(xlabel="outer step", ylabel="median of w")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    name = result["name"]
    return {f"weights-{name}-layers.svg": first, f"weights-{name}-time.svg": second}


def _spread(axes: Axes, rows: Sequence[Mapping[str, float]], colour: str) -> None:
    for place, row in enumerate(rows):
        axes.plot([row["q05"], row["q95"]], [place, place], color=colour, linewidth=1)
        axes.plot([row["q25"], row["q75"]], [place, place], color=colour, linewidth=4, solid_capstyle="butt")
        axes.plot([row["median"]], [place], color="black", marker="|")
    axes.axvline(1, color="black", linewidth=0.8)


def main() -> None:
    """Write the page and its figures."""
    results = [read_json(file) for file in sorted((HERE / "results").glob("weights_*.json"))]
    (DOCS / "weights.md").write_text(page(results), encoding="utf-8")
    for result in results:
        for name, figure in figures(result).items():
            with mpl.rc_context(_STYLE):
                figure.savefig(DOCS / "pictures" / name, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
