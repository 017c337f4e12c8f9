"""A comparison as text: Markdown for reading, CSV for further work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from medidistill import textio
from medidistill.statistics import Interval
from medidistill.textio import CsvRow, interval_text, markdown_table

if TYPE_CHECKING:
    from medidistill.results.comparison import Comparison

__all__ = ["csv_text", "markdown"]

_COLUMNS = ("arm", "minus", "architecture", "metric", "class", "estimate", "low", "high", "sd", "networks", "images")
_SAY = {"balanced_accuracy": "balanced accuracy", "macro_auroc": "macro AUROC"}


def markdown(comparison: Comparison) -> str:
    """Return the table of arms, the paired differences and the notes."""
    names = comparison.class_names
    level = f"{100 * comparison.confidence:g} %"
    head = ["arm", "network", "training images", "balanced accuracy", "macro AUROC"]
    head += [f"{rate} {name}" for rate in ("sensitivity", "specificity") for name in names]
    lines = markdown_table(
        [*head, "sd over networks", "networks"],
        [
            [
                row.arm,
                row.architecture,
                str(row.training_images),
                interval_text(row.balanced_accuracy),
                interval_text(row.macro_auroc),
                *(f"{one.estimate:.2f}" for one in (*row.sensitivity, *row.specificity)),
                "one network" if row.sd_balanced_accuracy is None else f"{row.sd_balanced_accuracy:.3f}",
                str(row.networks),
            ]
            for row in comparison.rows
        ],
    )
    if comparison.differences:
        lines.append("")
        lines += markdown_table(
            ["difference", "network", "metric", "estimate", "over training alone", "paired by"],
            [
                [
                    f"{one.arm} - {one.minus}",
                    one.architecture,
                    _SAY[one.metric],
                    interval_text(one.bootstrap, sign="+"),
                    "not paired" if one.over_units is None else interval_text(one.over_units, sign="+"),
                    "patient" if one.unit == "unpaired" else f"patient and {one.unit}",
                ]
                for one in comparison.differences
            ],
        )
    lines += [
        "",
        f"Brackets: {level} intervals, {comparison.bootstrap} bootstrap resamples of {comparison.test_patients} "
        f"test patients ({comparison.test_images} images) and of networks or seeds; "
        '"over training alone" is a paired t interval on these test patients.',
    ]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in comparison.notes)] if comparison.notes else [])])


def csv_text(comparison: Comparison) -> str:
    """Return a tidy table: one line for each arm or difference, metric and class."""
    return textio.csv_text(_COLUMNS, _records(comparison))


def _records(comparison: Comparison) -> Iterator[CsvRow]:
    for row in comparison.rows:
        common: CsvRow = {"arm": row.arm, "architecture": row.architecture}
        common |= {"networks": row.networks, "images": row.training_images}
        for metric, interval, deviation in (
            ("balanced_accuracy", row.balanced_accuracy, row.sd_balanced_accuracy),
            ("macro_auroc", row.macro_auroc, row.sd_macro_auroc),
        ):
            yield common | {"metric": metric, "sd": "" if deviation is None else deviation} | _limits(interval)
        for metric, intervals in (("sensitivity", row.sensitivity), ("specificity", row.specificity)):
            for name, interval in zip(comparison.class_names, intervals, strict=True):
                yield common | {"metric": metric, "class": name} | _limits(interval)
    for one in comparison.differences:
        named: CsvRow = {"arm": one.arm, "minus": one.minus, "architecture": one.architecture, "metric": one.metric}
        yield named | _limits(one.bootstrap)


def _limits(interval: Interval) -> CsvRow:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
