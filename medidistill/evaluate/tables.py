"""A comparison as text: Markdown for reading, CSV for further work. Takes `Comparison.to_dict()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medidistill import textio
from medidistill.textio import interval_text, markdown_table

__all__ = ["csv_text", "markdown"]

_COLUMNS = ("arm", "minus", "architecture", "metric", "class", "estimate", "low", "high", "sd", "networks", "images")
_SAY = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "macro AUROC"}


def markdown(comparison: Mapping[str, Any]) -> str:
    """Return the table of arms, the paired differences and the notes."""
    names = comparison["class_names"]
    level = f"{100 * comparison['confidence']:g} %"
    head = ["arm", "network", "training images", "balanced accuracy", "macro AUROC"]
    head += [f"{rate} {name}" for rate in ("sensitivity", "specificity") for name in names]
    lines = markdown_table(
        [*head, "sd over networks", "networks"],
        [
            [
                row["arm"],
                row["architecture"],
                str(row["training_images"]),
                interval_text(row["balanced_accuracy"]),
                interval_text(row["macro_auroc"]),
                *(f"{one['estimate']:.2f}" for one in (*row["sensitivity"], *row["specificity"])),
                "one network" if row["sd_balanced_accuracy"] is None else f"{row['sd_balanced_accuracy']:.3f}",
                str(row["networks"]),
            ]
            for row in comparison["rows"]
        ],
    )
    if comparison["differences"]:
        lines.append("")
        lines += markdown_table(
            ["difference", "network", "metric", "estimate", "over training alone", "paired by"],
            [
                [
                    f"{one['arm']} - {one['minus']}",
                    one["architecture"],
                    _SAY[one["metric"]],
                    interval_text(one["bootstrap"], sign="+"),
                    "not paired" if one["over_units"] is None else interval_text(one["over_units"], sign="+"),
                    "patient" if one["unit"] == "unpaired" else f"patient and {one['unit']}",
                ]
                for one in comparison["differences"]
            ],
        )
    lines += [
        "",
        f"Brackets: {level} intervals, {comparison['bootstrap']} bootstrap resamples of {comparison['test_patients']} "
        f"test patients ({comparison['test_images']} images) and of networks or seeds; "
        '"over training alone" is a paired t interval on these test patients.',
    ]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in comparison["notes"])] if comparison["notes"] else [])])


def csv_text(comparison: Mapping[str, Any]) -> str:
    """Return a tidy table: one line for each arm or difference, metric and class."""
    return textio.csv_text(_COLUMNS, _records(comparison))


def _records(comparison: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in comparison["rows"]:
        common = {"arm": row["arm"], "architecture": row["architecture"]}
        common |= {"networks": row["networks"], "images": row["training_images"]}
        for metric in _SAY:
            deviation = row[f"sd_{metric}"]
            yield common | {"metric": metric, "sd": "" if deviation is None else deviation} | row[metric]
        for metric in ("sensitivity", "specificity"):
            for name, interval in zip(comparison["class_names"], row[metric], strict=True):
                yield common | {"metric": metric, "class": name} | interval
    for one in comparison["differences"]:
        yield {name: one[name] for name in ("arm", "minus", "architecture", "metric")} | one["bootstrap"]
