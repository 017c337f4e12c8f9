"""What the figures say, in sentences: so that a reader who stops after the first screen takes the right thing away."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from medidistill.results.comparison import Comparison
from medidistill.results.privacy_section import Measurement
from medidistill.statistics import Interval
from medidistill.textio import interval_text
from medidistill.words import row_words

__all__ = ["confounded_sites", "findings", "measured", "quarantine_by_reason", "test_openings"]

_MOST_HASHES = 20


def findings(comparison: Comparison) -> list[str]:
    """Return one sentence for each arm and one for each difference that matters, first architecture only."""
    first, classes = comparison.rows[0].architecture, len(comparison.class_names)
    rows = {row.arm: row for row in comparison.rows if row.architecture == first}
    level = f"{100 * comparison.confidence:g} %"
    sentences = [
        f"Networks trained on {row_words(rows[arm], classes)}, {rows[arm].training_images} in all, reach a "
        f"balanced accuracy of {interval_text(rows[arm].balanced_accuracy, 2)} on the test split."
        for arm in dict.fromkeys(["full", "iadd", "mtt", "random", *rows])
        if arm in rows and arm != "kmeans"
    ]
    sentences += [
        f"{_first_capital(row_words(rows[gap.arm], classes))} instead of {row_words(rows[gap.minus], classes)}: "
        f"{_verdict(gap.bootstrap)}"
        for gap in comparison.differences
        if (gap.metric, gap.architecture) == ("balanced_accuracy", first) and gap.arm in ("iadd", "mtt")
    ]
    return [*sentences, f"In brackets: {level} intervals. Chance is {1 / classes:.2f}."]


def _first_capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def measured(row: Measurement) -> str:
    """Return the figure of one measurement of an audit, with its interval where it has one."""
    if isinstance(row.estimate, str):
        return row.estimate
    limits = "" if row.low is None or row.high is None else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.estimate:.3g}{limits}"


def _verdict(gap: Interval) -> str:
    span = interval_text(gap, 2, "+")
    if gap.low > 0:
        return f"{span}: better in this run, the interval is above zero."
    if gap.high < 0:
        return f"{span}: worse in this run, the interval is below zero."
    return f"{span}: the interval holds zero, so this run does not show a difference."


def confounded_sites(sites: Mapping[str, Mapping[str, int]], class_names: Sequence[str]) -> list[str]:
    """Return a sentence for each class that shares no site with another class: a network may learn the site."""
    if len(sites) < 2:
        return []
    held = {name: {site for site, counts in sites.items() if counts.get(name, 0) > 0} for name in class_names}
    return [
        f"Class {name} shares no site with another class ({', '.join(sorted(own))}): a network may recognise the site "
        "instead of the disease, and no figure here can tell the two apart."
        for name, own in held.items()
        if own and not own & set().union(*(other for one, other in held.items() if one != name))
    ]


def test_openings(openings: Sequence[Mapping[str, str]]) -> tuple[str, bool]:
    """Return what to say about the test split, and whether it is a warning."""
    if not openings:
        return "The record names no opening of the test split.", False
    if len(openings) == 1:
        return "The test split was opened once, after every choice had been made on the validation split.", False
    return (
        f"The test split was opened {len(openings)} times. Each look allows a choice that fits these patients by "
        "chance: read the results as optimistic, and confirm them on patients that no run has seen.",
        True,
    )


def quarantine_by_reason(quarantine: Sequence[tuple[str, str]]) -> list[tuple[str, int, list[str]]]:
    """Return (reason, number of files, hashes of their keys), most frequent first. No file name gets through.

    A hash is the first 12 hexadecimal digits of the SHA-256 of the key (the relative path).
    """
    grouped: dict[str, list[str]] = defaultdict(list)
    for key, reason in quarantine:
        path = PurePath(key)
        for part in sorted({key, path.name, path.stem, *path.parts}, key=len, reverse=True):
            reason = reason.replace(part, "(file)") if len(part) > 1 else reason
        grouped[reason].append(hashlib.sha256(key.encode()).hexdigest()[:12])
    ordered = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(reason, len(hashes), sorted(hashes)[:_MOST_HASHES]) for reason, hashes in ordered]
