"""Tables of docs/value.md and the README, from what `benchmarks.value` found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medidistill.evaluate.intervals import Interval
from medidistill.pipeline.comparison.arms import FULL
from medidistill.pipeline.comparison.controls import PACKED
from medidistill.textio import interval_text

CLINICAL = "covid-cxr"
OTHERS = ("pneumoniamnist.npz", "cifar10-jpeg")  # other sets of images with a table of their own
AIMS = {1: (0.85, 0.10), 5: (0.92, 0.08), 10: (0.95, 0.06), 50: (0.99, 0.0)}  # ipc -> share, above packed
WORDS = {  # arm -> what a reader calls it
    "full": "all real X-rays",
    "packed": "random real X-rays, packed",
    "random": "random real X-rays",
    "kmeans": "real X-rays chosen by k-means",
    "mtt": "MTT",
    "iadd": "IADD",
    "iadd_warm": "IADD from a set matched at snapshots",
    "gaussian": "draws of class Gaussians, labelled by experts",
    "mixture": "draws of Gaussians of groups of 16 to 31 patients, labelled by experts",
    "snapshots": "feature matching at snapshots",
    "kernel_warm": "feature matching, then kernel regression",
}


def result_file(dataset: str) -> Path:
    """Return where the figures of a set of images are kept."""
    name = "value" if dataset == CLINICAL else f"value_{dataset.removesuffix('.npz').removesuffix('-jpeg')}"
    return Path(__file__).parent / "results" / f"{name}.json"


RESULT = result_file(CLINICAL)


def _span(value: Mapping[str, float], sign: str = "") -> str:
    return interval_text(Interval(value["estimate"], value["low"], value["high"]), 3, sign)


def table(result: Mapping[str, Any], images: str = "X-rays") -> str:
    """Return the Markdown of the result: every arm, the losing ones too, and each set minus packed real images.

    Args:
        result: what `benchmarks.value collect` wrote.
        images: what a reader calls the real images.
    """
    lines = [
        "| side | stored a class | trained on | stored as | stored bytes | training images | validation | "
        "test balanced accuracy | share of all real | minus packed real X-rays |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group in result["groups"]:
        minus = {
            gap["arm"]: gap["bootstrap"]
            for gap in group["differences"]
            if gap["minus"] == PACKED and gap["metric"] == "balanced_accuracy"
        }
        for row in group["rows"]:
            arm, gap = row["arm"], minus.get(row["arm"])
            stored = "" if arm == FULL else group["ipc"]
            lines.append(
                f"| {group['side']} | {stored} | {WORDS[arm]} | {row['stored_as']} | {_each(row, 'stored_bytes')} | "
                f"{_each(row, 'training_images')} | "
                f"{np.mean(row['validation_by_seed']):.3f} | {_span(row['balanced_accuracy'])} | "
                f"{row['share_of_full']:.0%} | {'' if gap is None else _span(gap, '+')} |"
            )
    counted = ", ".join(
        f"{len(group['seeds'])} at {group['side']} x {group['side']} and {group['ipc']} a class ({_seeds(group)})"
        for group in result["groups"]
    )
    note = f"Seeds: {counted}, each with experts of its own; {result['hardware']['cpu']}."
    return "\n".join([*lines, "", note]).replace("X-rays", images)


def _each(row: Mapping[str, Any], name: str) -> str:
    """Return a number of a row, with the count of seeds behind each where they differ."""
    values = Counter(row.get(f"{name}_by_seed", [row[name]]))
    return ", ".join(
        f"{value:,} ({count})" if len(values) > 1 else f"{value:,}" for value, count in values.most_common()
    )


def shown_side(result: Mapping[str, Any]) -> int:
    """Return the side with the most seeds, and the larger one where several have as many."""
    best = max(result["groups"], key=lambda group: (len(group["seeds"]), group["side"]))
    return int(best["side"])


def short_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of the README: a row for each arm, a column for each number of stored images.

    Of one side, see `shown_side`, and of the comparisons there with the most seeds.
    """
    side = shown_side(result)
    most = max(len(group["seeds"]) for group in result["groups"])
    groups = [group for group in result["groups"] if group["side"] == side and len(group["seeds"]) == most]
    ipcs = [group["ipc"] for group in groups]
    titles = [
        f"bytes of {group['ipc']} a class" + (f", {_seeds(group)}" if ipcs.count(group["ipc"]) > 1 else "")
        for group in groups
    ]
    lines = ["| trained on | " + " | ".join(titles) + " |", "|---" * (1 + len(groups)) + "|"]
    for arm, words in WORDS.items():
        spans = [
            next((_span(row["balanced_accuracy"]) for row in group["rows"] if row["arm"] == arm), "")
            for group in groups
        ]
        if any(spans):
            lines.append(f"| {words} | " + " | ".join(spans) + " |")
    return "\n".join(lines)


def aims_table(result: Mapping[str, Any], arm: str, side: int) -> str:
    """Return the Markdown of what was asked of a set in the bytes of so many images a class, and what `arm` keeps."""
    lines = [
        "| stored bytes of | aim | kept | packed real X-rays keep | aim above these | measured | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in result["groups"]:
        rows = {row["arm"]: row for row in group["rows"]}
        if group["side"] != side or arm not in rows:
            continue
        share, above = AIMS[group["ipc"]]
        [gap] = [
            one["bootstrap"]
            for one in group["differences"]
            if (one["arm"], one["minus"], one["metric"]) == (arm, PACKED, "balanced_accuracy")
        ]
        kept, control = (f"{rows[name]['share_of_full']:.0%}" for name in (arm, PACKED))
        lines.append(
            f"| {group['ipc']} a class | {share:.0%} | {kept} | {control} | {above:.2f} | {_span(gap, '+')} "
            f"| {len(group['seeds'])} |"
        )
    return "\n".join(lines)


def _seeds(group: Mapping[str, Any]) -> str:
    """Return the seeds of a group, which stand in a row."""
    first, last = min(group["seeds"]), max(group["seeds"])
    return f"seeds {first} to {last}" if last > first else f"seed {first}"


def bits_table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of packed sets in fewer bits, on validation."""
    lines = [
        "| side | stored a class | bits a value | stored bytes | validation balanced accuracy | minus 8 bits |",
        "|---|---|---|---|---|---|",
    ]
    for group in result["groups"]:
        for row in group["bits"]:
            gap = row["minus_8_bits"]
            lines.append(
                f"| {group['side']} | {group['ipc']} | {row['bits']} | {row['stored_bytes']:,} | "
                f"{np.mean(row['validation_by_seed']):.3f} | {'' if gap is None else _span(gap, '+')} |"
            )
    return "\n".join(lines)
