"""Train, validation and test, by patient: no patient has images in two of them."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch

from medidistill.config import IngestConfig
from medidistill.errors import ConfigError, IngestError, did_you_mean
from medidistill.ingest.sources.layout import split_of
from medidistill.ingest.sources.record import Record
from medidistill.seeding import stream

__all__ = ["SPLITS", "assign_splits", "check_coverage", "describe_splits", "required_splits"]

SPLITS = ("train", "val", "test")


def assign_splits(records: Sequence[Record], classes: Sequence[str], config: IngestConfig) -> list[str]:
    """Return the split of each record: as the table or the folders give it, else drawn by patient from the seed.

    Where they give training and test only, validation is drawn from the patients of the training split. A drawn split
    is stratified: each class sends `val_fraction` and `test_fraction` of its patients to validation and test, at least
    one where the fraction is not 0. A patient with several labels counts for the most frequent one. The patients of
    one class do not move when another class changes.

    Args:
        records: what was found, sorted by key.
        classes: class names in order.
        config: the fractions and the seed.

    Raises:
        IngestError: an unknown split, splits given for some images only, a patient in two splits, or a
            class with fewer patients than the splits need.
        ConfigError: fractions that leave nothing to train on.
    """
    if any(record.split for record in records):
        splits = _given_splits(records)
        if "val" in splits or not config.val_fraction:
            return splits
        train = [record for record, split in zip(records, splits, strict=True) if split == "train"]
        alone = dataclasses.replace(config, test_fraction=0.0)
        drawn = _draw(_strata(train, classes), alone)
        return [drawn.get(record.patient_id, split) for record, split in zip(records, splits, strict=True)]
    if config.val_fraction + config.test_fraction >= 1:
        raise ConfigError(
            f"IngestConfig.val_fraction={config.val_fraction:g} and test_fraction={config.test_fraction:g}: "
            "their sum must be < 1, to leave patients to train on"
        )
    drawn = _draw(_strata(records, classes), config)
    return [drawn[record.patient_id] for record in records]


def describe_splits(records: Sequence[Record], config: IngestConfig) -> str:
    """Return a sentence on where validation comes from, if the input names splits and none for it; else empty."""
    given = {split_of(record.split) for record in records if record.split}
    if not given or "val" in given or not config.val_fraction:
        return ""
    share = f"{100 * config.val_fraction:g} %"
    return f"The input names no validation split: {share} of its training patients were drawn for it."


def _given_splits(records: Sequence[Record]) -> list[str]:
    empty = sum(not record.split for record in records)
    if empty:
        raise IngestError(f"{empty} of {len(records)} images have no split; give it for all of them or for none")
    splits = []
    for record in records:
        name = split_of(record.split)
        if not name:
            guess = did_you_mean(record.split.lower(), SPLITS)
            # without a guess it is no slip of the pen, and may be a cell of another column
            shown = f"split {record.split!r} is unknown" if guess else "a split is unknown"
            where = f"{record.place}: " if record.place else ""
            raise IngestError(
                f"{where}{shown}: must be train, val or test{guess}", private=[f"{record.key}: {record.split}"]
            )
        splits.append(name)
    seen: dict[str, set[str]] = defaultdict(set)
    for record, split in zip(records, splits, strict=True):
        seen[record.patient_id].add(split)
    shared = sorted(patient for patient, names in seen.items() if len(names) > 1)
    if shared:
        # a hash of an identifier is no secret: who knows what numbers look like finds the one that has it in seconds
        files: dict[str, list[str]] = defaultdict(list)
        for record, split in zip(records, splits, strict=True):
            files[record.patient_id].append(f"{record.key} in {split}")
        among = " and ".join(name for name in SPLITS if any(name in seen[patient] for patient in shared))
        raise IngestError(
            f"{len(shared)} of {len(seen)} patients have images in more than one split ({among}); give each patient "
            "one split",
            private=[f"{patient}: {', '.join(files[patient])}" for patient in shared],
        )
    return splits


def _strata(records: Sequence[Record], classes: Sequence[str]) -> dict[str, list[str]]:
    """Return the patients of each class, sorted."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        labels[record.patient_id][record.label] += 1
    rank = {name: i for i, name in enumerate(classes)}
    strata: dict[str, list[str]] = {name: [] for name in classes}
    for patient in sorted(labels):
        name = min(labels[patient], key=lambda label: (-labels[patient][label], rank[label]))
        strata[name].append(patient)
    return strata


def _draw(strata: Mapping[str, Sequence[str]], config: IngestConfig) -> dict[str, str]:
    needed = len(required_splits(False, config))
    drawn: dict[str, str] = {}
    for name, patients in strata.items():
        n = len(patients)
        if n < needed:
            raise IngestError(
                f"class {name!r} has {n} patient{'' if n == 1 else 's'}: a split by patient needs at least {needed}; "
                "add patients, or set ingest.val_fraction or ingest.test_fraction to 0"
            )
        val, test = (max(1, round(f * n)) if f > 0 else 0 for f in (config.val_fraction, config.test_fraction))
        while val + test >= n:  # rounding up must leave a patient to train on
            val, test = (val, test - 1) if test >= val else (val - 1, test)
        order = torch.randperm(n, generator=stream(config.seed, "split", name)).tolist()
        for place, i in enumerate(order):
            drawn[patients[i]] = "test" if place < test else "val" if place < test + val else "train"
    return drawn


def required_splits(given: bool, config: IngestConfig) -> tuple[str, ...]:
    """Return the splits that must hold images: all, or for a drawn split those whose fraction is not 0."""
    shares = {"train": 1.0, "val": config.val_fraction, "test": config.test_fraction}
    return tuple(split for split in SPLITS if given or shares[split] > 0)


def check_coverage(
    labels: Sequence[str], splits: Sequence[str], classes: Sequence[str], required: Sequence[str]
) -> None:
    """Refuse an empty class: each class needs an image in each required split.

    Raises:
        IngestError: the first class and split without an image, and what to do.
    """
    found = Counter(zip(labels, splits, strict=True))
    for name in classes:
        if not any(found[name, split] for split in SPLITS):
            raise IngestError(f"class {name!r} has no usable images; add some, or take it out of the labels")
        for split in required:
            if not found[name, split]:
                raise IngestError(
                    f"class {name!r} has no usable images in the {split} split; add some or change the split"
                )
