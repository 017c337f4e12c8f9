"""From raw images and labels to what an ingest of files would have found: checked, square, split by patient.

Rules for images: values become [0, 1] by `medidistill.intensities`, one range for all images. An image that is not
square is cut to its central square (`fit="crop"`, as the ingest of files does) or padded with black to a square
(`fit="pad"`). It is resized to `image_size`: averaged over areas where it shrinks, bilinear where it grows.

Rules for the split: by patient where `groups` names them, stratified by class. Where it does not, each image counts as
a patient of its own, images with the same pixels as one, and every result says that patients are unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.api.items import RawImages
from medidistill.api.labels import class_names_of, labels_of, patients_of
from medidistill.config import IngestConfig
from medidistill.distilled_set import LabelledImages
from medidistill.errors import ArgumentError, ArgumentTypeError
from medidistill.hashing import tensor_sha256
from medidistill.intensities import as_batch, to_unit_range
from medidistill.normalisation import fit_normalisation
from medidistill.patient_units import PatientSource, PatientUnits

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["CheckedImages", "check_images", "split_images"]

_SPLITS = ("train", "val", "test")
_SMALLEST, _LARGEST, _KEPT = 16, 512, 128  # pixels a side: allowed, and kept as it is unless a size is named
_RESIZED = 64
_BLOCK = 1024  # images that are converted at a time


@dataclass(frozen=True)
class CheckedImages:
    """Images that can be distilled.

    Args:
        images: (N, C, S, S) float32 in [0, 1].
        labels: (N,) int64.
        class_names: K names in label order.
        patient_ids: N hashed identifiers.
        known: whether `groups` named the patients.
        splits: split of each image, empty where it is to be drawn.
        digests: SHA-256 of each image's pixels.
        notes: what was assumed, sentences.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    patient_ids: tuple[str, ...]
    known: bool
    splits: tuple[str, ...]
    digests: tuple[str, ...]
    notes: tuple[str, ...]


def check_images(
    raw: RawImages,
    *,
    class_names: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    image_size: int | None = None,
    fit: str = "crop",
    value_range: tuple[float, float] | None = None,
) -> CheckedImages:
    """Check images, labels and patients, and bring the images to one size.

    Args:
        raw: what a container held.
        class_names: K names in label order; None: those of the container, else the labels themselves.
        groups: patient of each image; None: those of the container.
        image_size: rows and columns; None: the side of the images, or 64 where it is above 128.
        fit: `crop` or `pad`, for images that are not square.
        value_range: (low, high) of the images, None: see `medidistill.intensities`.

    Raises:
        ArgumentError, ArgumentTypeError: the first thing that cannot be used, in one sentence.
    """
    if fit not in ("crop", "pad"):
        raise ArgumentError("fit", repr(fit), "'crop' or 'pad'")
    labels, names = labels_of(raw.labels, raw.class_names if class_names is None else class_names_of(class_names))
    given = raw.groups if groups is None else groups
    patients = patients_of(given, len(labels)) if groups is not None or raw.groups else ()
    images, notes = _images(raw, image_size, fit, value_range)
    if len(images) != len(labels):
        raise ArgumentError("labels", f"{len(labels)} entries", f"as many as there are images ({len(images)})")
    known, digests = bool(patients), tuple(map(tensor_sha256, images))
    if not known:
        patients = _by_pixels(digests, raw.splits)
    return CheckedImages(images, labels, names, patients, known, raw.splits, digests, notes)


def _images(
    raw: RawImages, image_size: int | None, fit: str, value_range: tuple[float, float] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Return images (N, C, S, S) in [0, 1] and what was assumed of them."""
    batches = _batches(raw.images)
    channels = {batch.shape[1] for batch in batches}
    if len(channels) > 1:
        raise ArgumentError("data", "images with 1 and with 3 channels", "of one number of channels")
    if len({batch.dtype.is_floating_point for batch in batches}) > 1:
        raise ArgumentTypeError("data", "whole numbers and floats", "images of one kind of number")
    unit = to_unit_range(_extremes(batches), value_range, "data")
    known_range = (unit.low, unit.high)
    notes = [unit.note] if unit.note else []
    sides = {(batch.shape[2], batch.shape[3]) for batch in batches}
    square = [min(one) if fit == "crop" else max(one) for one in sides]
    size = _size(image_size, min(square))
    if any(height != width for height, width in sides):
        how = "cut to their central square" if fit == "crop" else "padded with black to a square"
        notes.append(f"Images that are not square were {how} (fit={fit!r}).")
    if any(side != size for side in square):
        notes.append(f"Images were resized to {size} x {size} pixels.")
    prepared = []
    for batch in batches:
        for block in torch.split(batch, _BLOCK):
            values = to_unit_range(block, known_range, "data").images
            prepared.append(_resized(_squared(values, fit), size))
    return torch.cat(prepared), tuple(notes)


def _extremes(batches: Sequence[Tensor]) -> Tensor:
    """Return the smallest and the largest value of all images, (1, 2), of their kind of number.

    Raises:
        ArgumentError: a value is NaN or infinite.
    """
    found, bad = [], 0
    for batch in batches:
        for block in torch.split(batch, _BLOCK):
            values = block if block.is_floating_point() else block.to(torch.int64)
            bad += int((~torch.isfinite(values)).sum()) if block.is_floating_point() else 0
            found.append(torch.stack(values.aminmax()))
    if bad:
        raise ArgumentError("data", f"{bad} values that are NaN or infinite", "finite", "remove or repair those images")
    ends = torch.stack(found)
    return torch.stack([ends.min(), ends.max()])[None]


def _batches(images: Any) -> list[Tensor]:
    """Return images (n, C, H, W) of their own dtype, as few tensors as their sizes allow, in order."""
    if isinstance(images, (np.ndarray, Tensor)):
        if images.ndim == 2:
            raise ArgumentError("data", f"array of shape {tuple(images.shape)}", "(N, H, W) or (N, C, H, W)")
        return [as_batch(images, "data")]
    batches: list[Tensor] = []
    waiting: list[Tensor] = []
    for number, image in enumerate(images):
        tensor = torch.as_tensor(image)
        if tensor.ndim == 3 and tensor.shape[0] not in (1, 3) and tensor.shape[2] in (1, 3):
            tensor = tensor.movedim(2, 0)
        if tensor.ndim == 2:
            tensor = tensor[None]
        if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.numel():
            raise ArgumentError(
                f"data[{number}]",
                f"image of shape {tuple(tensor.shape)}",
                "(H, W), (C, H, W) or (H, W, C) with C 1 or 3",
            )
        if waiting and (waiting[-1].shape != tensor.shape or waiting[-1].dtype != tensor.dtype):
            batches.append(torch.stack(waiting))
            waiting = []
        waiting.append(tensor)
    return [*batches, torch.stack(waiting)]


def _size(image_size: int | None, side: int) -> int:
    if image_size is None:
        if side < _SMALLEST:
            raise ArgumentError(
                "data", f"images of {side} pixels", f"of at least {_SMALLEST} pixels a side", "or set image_size"
            )
        return side if side <= _KEPT else _RESIZED
    if isinstance(image_size, bool) or not isinstance(image_size, int):
        raise ArgumentTypeError("image_size", repr(image_size), f"a whole number in [{_SMALLEST}, {_LARGEST}]")
    if not _SMALLEST <= image_size <= _LARGEST:
        raise ArgumentError("image_size", image_size, f"in [{_SMALLEST}, {_LARGEST}]")
    return image_size


def _squared(images: Tensor, fit: str) -> Tensor:
    height, width = images.shape[2:]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return images[..., top : top + side, left : left + side]
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return F.pad(images, (before, side - width - before, above, side - height - above))


def _resized(images: Tensor, size: int) -> Tensor:
    side = images.shape[-1]
    if side == size:
        return images.contiguous()
    if side > size:
        return F.interpolate(images, size=size, mode="area")
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _by_pixels(digests: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
    """Return a stand-in for the patient of each image: images with the same pixels, within a given split, share one."""
    from medidistill.ingest.sources.patients import hash_patient

    named = zip(digests, splits or [""] * len(digests), strict=True)
    return tuple(hash_patient(f"pixels\x1f{split}\x1f{digest}") for digest, split in named)


def split_images(given: CheckedImages, config: IngestConfig) -> IngestResult:
    """Split images by patient and describe them as an ingest of files does.

    Args:
        given: checked images.
        config: fractions and seed of the split, normalisation.

    Raises:
        ArgumentError: too few patients of a class for the splits, or a patient in two given splits.
    """
    from medidistill.ingest.manifest import ingest_digest, manifest_table
    from medidistill.ingest.sources.record import Record
    from medidistill.ingest.splits import assign_splits, describe_splits, required_splits
    from medidistill.ingest.stage import IngestResult

    width = len(str(len(given.labels) - 1))
    source = PatientSource.TABLE if given.known else PatientSource.NOTHING
    records = [
        Record(
            key=f"image-{number:0{width}d}",
            path=Path(),
            label=given.class_names[label],
            patient_id=given.patient_ids[number],
            split=given.splits[number] if given.splits else "",
            patient_source=source,
        )
        for number, label in enumerate(given.labels.tolist())
    ]
    stated = bool(given.splits)
    required = required_splits(False, config)
    if stated:
        _check_given_splits(given)
    else:
        _check_patients(given, len(required))
    splits = assign_splits(records, given.class_names, config)
    _check_every_split(given, splits, required)
    side = given.images.shape[-1]
    rows = [
        {**asdict(record), "width": side, "height": side, "sha256": digest, "split": split}
        for record, digest, split in zip(records, given.digests, splits, strict=True)
    ]
    manifest = manifest_table(rows)
    patients = PatientUnits.of(manifest["patient_source"])
    parts = {split: _part(given, rows, splits, split) for split in _SPLITS}
    drawn = describe_splits(records, config)
    return IngestResult(
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        manifest=manifest,
        quarantine=[],
        digest=ingest_digest(manifest, config),
        normalisation=fit_normalisation(config.normalisation, config.norm_mean, config.norm_std, parts["train"].images),
        notes=(*given.notes, *([drawn] if drawn else ()), *_shared(given.digests, splits), *patients.sentences()),
        patients=patients,
    )


def _part(given: CheckedImages, rows: Sequence[dict[str, Any]], splits: Sequence[str], split: str) -> LabelledImages:
    chosen = [number for number, one in enumerate(splits) if one == split]
    index = torch.tensor(chosen, dtype=torch.int64)
    return LabelledImages(
        images=given.images[index],
        labels=given.labels[index],
        class_names=given.class_names,
        patient_ids=tuple(given.patient_ids[i] for i in chosen),
        keys=tuple(str(rows[i]["key"]) for i in chosen),
    )


def _check_patients(given: CheckedImages, needed: int) -> None:
    """Refuse a class with fewer patients than splits, before anything is drawn."""
    for number, name in enumerate(given.class_names):
        members = torch.nonzero(given.labels == number).flatten().tolist()
        found = len({given.patient_ids[i] for i in members})
        if found < needed:
            unit = "patient(s)" if given.known else "different image(s)"
            raise ArgumentError(
                "groups" if given.known else "data",
                f"{found} {unit} of class {name!r}",
                f"at least {needed} of every class, one for each split",
                "add some, or set val_fraction or test_fraction to 0",
            )


def _check_given_splits(given: CheckedImages) -> None:
    seen: dict[str, str] = {}
    for patient, split in zip(given.patient_ids, given.splits, strict=True):
        if seen.setdefault(patient, split) != split and given.known:
            raise ArgumentError("groups", f"a patient in {seen[patient]} and {split}", "one split for each patient")


def _check_every_split(given: CheckedImages, splits: Sequence[str], required: Sequence[str]) -> None:
    found = Counter(zip(given.labels.tolist(), splits, strict=True))
    for number, name in enumerate(given.class_names):
        for split in required:
            if not found[number, split]:
                raise ArgumentError(
                    "groups" if given.known else "data",
                    f"no image of class {name!r} in the {split} split",
                    "images of every class in every split",
                    "a patient counts for their most frequent class; add patients",
                )


def _shared(digests: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Return a sentence where images of different patients have the same pixels in different splits."""
    where: dict[str, set[str]] = {}
    for digest, split in zip(digests, splits, strict=True):
        where.setdefault(digest, set()).add(split)
    several = sum(len(found) > 1 for found in where.values())
    if not several:
        return []
    return [f"{several} images are in more than one split with the same pixels: the test figures are too good."]
