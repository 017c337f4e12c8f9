"""Class names: in which order, and which of them may be one class under two spellings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean
from medidistill.ingest.sources.record import Record, SourceListing

__all__ = ["MOST_CLASSES", "class_names", "normal_label", "settle_classes"]

MOST_CLASSES = 20  # where the configuration lists none
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:[.,]\d{1,18})?", re.ASCII)


def normal_label(label: str) -> str:
    """Return what is left of a label without case, spaces, hyphens and underscores; of a number its value."""
    text = unicodedata.normalize("NFKC", label).strip()
    if _NUMBER.fullmatch(text):
        return str(_value(text).normalize() + 0)
    return re.sub(r"[\s_\-\u2010-\u2015]+", "", text).casefold()


def _value(text: str) -> Decimal:
    return Decimal(text.replace(",", "."))


def settle_classes(found: SourceListing, config: IngestConfig) -> None:
    """Refuse labels that look like one class, or merge or keep them by `config.similar_classes`.

    Names that `config.classes` lists are classes of their own. A merged class takes the name listed there, else that
    of most of its images.

    Raises:
        IngestError: labels that look like one class, where the configuration does not say what to do.
    """
    counts = Counter(record.label for record in found.records)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted({*counts, *config.classes}):
        groups[normal_label(label)].append(label)
    alike = [
        [label for label in group if counts[label] or label in config.classes]
        for group in groups.values()
        if any(label not in config.classes for label in group) and len(group) > 1
    ]
    if not alike:
        return
    similar = "; ".join(", ".join(f"{label!r} ({counts[label]} images)" for label in group) for group in alike)
    if config.similar_classes == "refuse":
        raise IngestError(
            f"labels that differ only in case, spaces, hyphens, underscores or number form: {similar}; correct "
            "them, or set ingest.similar_classes to merge or keep"
        )
    if config.similar_classes == "keep":
        found.notes.append(f"Labels that look alike are kept as classes of their own: {similar}.")
        return
    names: dict[str, str] = {}
    for group in alike:
        listed = [label for label in group if label in config.classes]
        if len(listed) > 1:
            raise IngestError(
                f"ingest.similar_classes=merge: {similar}: ingest.classes lists several of them; list one of each"
            )
        name = listed[0] if listed else max(group, key=lambda label: (counts[label], label)).strip()
        names |= dict.fromkeys(group, name)
    found.records = [replace(record, label=names.get(record.label, record.label)) for record in found.records]
    found.notes.append(f"Labels that look alike were merged: {similar}.")


def class_names(records: Sequence[Record], config: IngestConfig) -> tuple[str, ...]:
    """Return the class names in label order, after checking each label against `config.classes`.

    Without `config.classes` numbers come first, by value, then words by their letters.

    Raises:
        IngestError: a label that is no class, a class without images, more classes than it is likely that there are, or
            fewer than two.
    """
    counts = Counter(record.label for record in records)
    if not config.classes and len(counts) > MOST_CLASSES:
        raise IngestError(
            f"{len(counts)} labels would be classes, more than {MOST_CLASSES}: they look like names or identifiers; "
            "correct the column label, or list the classes in ingest.classes",
            private=[f"labels: {', '.join(sorted(counts))}"],
        )
    names = config.classes or tuple(sorted(counts, key=_rank))
    unknown = sorted(set(counts) - set(names))
    for label in unknown:
        guess = did_you_mean(label, names)
        # without a guess it is no slip of the pen, and may be a patient's folder or a cell of another column
        shown = f"label {label!r}" if guess else "a label"
        raise IngestError(
            f"{shown} of {counts[label]} images is not one of the classes {', '.join(names)}{guess}; correct the "
            "labels or add it to ingest.classes",
            private=[f"labels that are no class: {', '.join(unknown)}"],
        )
    for name in names:
        if not counts[name]:
            guess = did_you_mean(name, sorted(set(counts) - {name}))
            raise IngestError(
                f"class {name!r} has no usable images; labels found: {', '.join(sorted(counts)) or 'none'}{guess}"
            )
    if len(names) < 2:
        raise IngestError(f"only one class ({', '.join(names)}): a comparison needs at least two")
    return names


def _rank(name: str) -> tuple[bool, Decimal, str]:
    number = _NUMBER.fullmatch(name)
    return not number, _value(name) if number else Decimal(0), name
