"""Tables of `docs/algorithm.md` about how close matching can come, from the JSON of `benchmarks.matching_limits`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["targets_table", "weights_table"]


def targets_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the targets: means over experts, and the lowest and highest."""
    names = {
        "expert": "expert's snapshot (batch 64)",
        "mean_continuation": "mean of 4 continuations",
        "line": "straight line to the last snapshot",
        "whole_batches": "expert on whole batches, momentum 0.9",
    }
    lines = [
        "| target | start | left by real images | the same, best length | of the target's own: order |",
        "|---|---|---|---|---|",
    ]
    for kind, words in names.items():
        rows = [row for row in result["targets"] if row["target"] == kind and row["pool"] != "B"]
        for start in sorted({row["start"] for row in rows}):
            here = [row for row in rows if row["start"] == start]
            cells = []
            for key in ("real", "real_best_length", "order"):
                values = [row[key] for row in here]
                cells.append(f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})")
            lines.append(f"| {words} | {start} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def weights_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of what weights could change."""
    found = result["weights"]
    lines = [
        "| kept of the loss | single parameters: in hindsight | chosen on the other pool | tensors: in hindsight | "
        "chosen on the other pool |",
        "|---|---|---|---|---|",
        f"| all (w = 1) | {found['pools']['B']['noise_share']:.3f} | | | |",
    ]
    rows = {(row["by"], row["keep"]): row for row in found["coverage"]}
    for keep in sorted({row["keep"] for row in found["coverage"]}, reverse=True):
        cells = [f"{rows[by, keep][key]:.3f}" for by in ("parameter", "tensor") for key in ("hindsight", "beforehand")]
        lines.append(f"| {keep:.1%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
