"""Write the sections of docs/performance.md that come from results, and their plots.

    python -m benchmarks.performance_page

Reads benchmarks/results/{experts,scaling,end_to_end}_{cpu,cuda}.json; a section without results says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medidistill.files import read_json, write_text

__all__ = ["page"]

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
_BEGIN = "<!-- what follows is written by benchmarks.performance_page -->"
_AXES = {
    "inner_steps": "J",
    "ipc": "images per class",
    "side": "rows and columns",
    "experts": "experts in the pool",
    "ranks": "processes",
}
_MIB = 2**20


def experts(found: Mapping[str, Any]) -> str:
    """Return the table of expert training."""
    lines = ["| work | kind | experts a minute | times the plain loop | CPU seconds, share of its | deviation |"]
    lines.append("|---|---|---|---|---|---|")
    for work in found["rows"]:
        for kind in work["kinds"]:
            deviation = f"{kind['deviation']:.0e}" if "deviation" in kind else "-"
            cells = [work["name"], kind["kind"], f"{kind['experts_a_minute']:.1f}", f"{kind['speedup']:.2f}"]
            lines.append("| " + " | ".join([*cells, f"{kind['cpu_ratio']:.2f}", deviation]) + " |")
    return "\n".join(lines)


def scaling(found: Mapping[str, Any]) -> str:
    """Return a table and a plot for each series."""
    blocks = []
    for series in found["rows"]:
        name = _AXES[series["field"]]
        lines = [f"| {name} | seconds an outer step | CPU seconds | peak, MiB |", "|---|---|---|---|"]
        for point in series["points"]:
            seconds, cpu = (statistics.median(point[key]) for key in ("step_seconds", "cpu_seconds"))
            lines.append(f"| {point['value']} | {seconds:.2f} | {cpu:.2f} | {point['peak_bytes'] / _MIB:.0f} |")
        picture = f"pictures/scaling-{series['field']}.png"
        _plot(series, PAGE.parent / picture)
        base = ", ".join(f"{key} {value}" for key, value in series["base"].items() if key != series["field"])
        blocks.append(
            f"![Cost of an outer step by {name}]({picture})\n\n" + "\n".join(lines) + f"\n\nAll else: {base}."
        )
    return "\n\n".join(blocks)


def _plot(series: Mapping[str, Any], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    values = [point["value"] for point in series["points"]]
    sides = (
        ("CPU seconds", [statistics.median(point["cpu_seconds"]) for point in series["points"]]),
        ("peak, MiB", [point["peak_bytes"] / _MIB for point in series["points"]]),
    )
    for axes, (label, heights) in zip(figure.subplots(1, 2), sides, strict=True):
        axes.plot(values, heights, marker="o", color="#1f5a8a")
        axes.set_xlabel(_AXES[series["field"]])
        axes.set_ylabel(label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def end_to_end(found: Mapping[str, Any]) -> str:
    """Return when each kind reached the goal, and what all of its steps took."""
    lines = [
        "| data | goal | kind | best | reached at step | after, s | of them scoring, s | all, s | times the reference |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in found["rows"]:
        whole = {kind: curve[-1]["seconds"] for kind, curve in row["curves"].items()}
        for kind, point in row["reached"].items():
            if point is None:
                cells = ["not reached", "-", "-"]
            else:
                cells = [str(point["step"]), f"{point['seconds']:.1f}", f"{point['scoring_seconds']:.1f}"]
            best = max(one["score"] for one in row["curves"][kind])
            cells = [kind, f"{best:.3f}", *cells, f"{whole[kind]:.1f}", f"{whole[kind] / whole['reference']:.2f}"]
            lines.append("| " + " | ".join([row["data"], f"{row['goal']:.3f}", *cells]) + " |")
    return "\n".join(lines)


_SECTIONS: dict[str, tuple[str, str, Callable[[Mapping[str, Any]], str]]] = {
    "experts": (
        "Experts",
        "Experts a minute, against a plain loop of eager modules. All kinds train the same experts, in turns; "
        "`deviation` is how far their ends lie from the plain loop's, as a share of the way an expert went.",
        experts,
    ),
    "scaling": (
        "Scaling",
        "What an outer step costs as the work grows, uncompiled. Memory is the peak of the process above its size "
        "before the distillation began, its libraries' first use included. CPU seconds are those of a whole turn, its "
        "set-up included, over its outer steps; read them, not the clock, where the load is above the number of cores. "
        "The peak grows with J because the backward pass keeps activations while they fit into `activation_cache_mb`: "
        "1.2 MB a step at the sizes below, 86 MB from J = 10 to 80; most of the rest are images that are augmented "
        "many steps at once.",
        scaling,
    ),
    "end_to_end": (
        "End to end",
        "Seconds until a set scores within one percent of the best that the stored graph in eager mode reaches, with "
        "compilation and scoring. `ours` finds nothing in the compiler's cache, `again` what that run left there; "
        "`all` is the time of all outer steps and scores. Kinds take turns; all start with glibc's thresholds raised.",
        end_to_end,
    ),
}
_SCALE_OUT = """## Scale-out

W processes with one segment each make the bytes that one process with W segments makes; in each outer step
they exchange one sample a segment. Tests start two real processes by torchrun and gloo, compare the bytes,
kill one of them and compare again (`tests/distillation/test_ranks.py`, `tests/cli/test_ranks.py`). torchrun's
store outlives the processes that it starts, and a restarted group used to read the addresses of the one
before (pytorch/pytorch#135712): ranks now agree on a name for each life of their group. How to start them:
[pipelines.md](pipelines.md). NCCL takes the same code and has not been run."""


def page(results: Path) -> str:
    """Return the sections, from the results in a folder."""
    blocks = []
    for name, (title, text, draw) in _SECTIONS.items():
        blocks.append(f"## {title}\n\n{text}")
        files = [results / f"{name}_{device}.json" for device in ("cpu", "cuda")]
        for file in files:
            if file.is_file():
                found = read_json(file)
                machine = found["hardware"]
                facts = f"{machine['cpu']}, {machine['cores']} cores, accelerator {machine['accelerator']}, "
                facts += f"torch {found['versions']['torch']}, load {found['load']:.1f} (five minutes)"
                blocks.append(f"`{found['command']}`: {facts}.\n\n{draw(found)}")
        if not any(file.is_file() for file in files):
            blocks.append(f"Not measured yet: `python -m benchmarks.{name} --scale cpu`.")
        if name == "experts":
            blocks.append(_SCALE_OUT)
    return "\n\n".join(blocks)


def main() -> None:
    """Write the page and its plots."""
    before = PAGE.read_text().partition(_BEGIN)[0].rstrip()
    write_text(PAGE, f"{before}\n\n{_BEGIN}\n\n{page(HERE / 'results')}\n")


if __name__ == "__main__":
    main()
