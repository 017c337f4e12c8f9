"""Images: made by a program, or read from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal

from medidistill.config.fields import NOT_DIGESTED, Help, Range, Section, Validated
from medidistill.config.quality import QualityConfig
from medidistill.errors import ConfigError

__all__ = ["IngestConfig", "PhantomConfig"]


@dataclass(frozen=True)
class PhantomConfig(Validated):
    """Phantom chest X-rays: plainly synthetic DICOM studies in three classes."""

    patients_per_class: Annotated[int, Range(5, 100_000), Help("synthetic patients in each class")] = 40
    images_per_patient: Annotated[
        int, Range(1, 20), Help("largest number of images per patient (1 to this number)")
    ] = 3
    size: Annotated[int, Range(64, 4096), Help("rows and columns of each image")] = 256
    monochrome1_share: Annotated[float, Range(0.0, 1.0), Help("share of images stored as MONOCHROME1")] = 0.3
    seed: Annotated[int, Range(0), Help("seed of every random decision")] = 0


@dataclass(frozen=True)
class IngestConfig(Validated):
    """From files to images in [0, 1] with labels, patients and a patient-disjoint split."""

    image_size: Annotated[int, Range(16, 512), Help("rows and columns after resizing, pixels")] = 64
    labels: Annotated[
        str, Help("CSV of labels inside the input folder; the layout gives labels where it is absent")
    ] = "labels.csv"
    exclusions: Annotated[
        str,
        Help(
            "CSV with the columns `path` and `reason` of files that are not used: inside the input folder, none where "
            "it is absent; or the absolute path of one"
        ),
        NOT_DIGESTED,
    ] = "exclusions.csv"
    classes: Annotated[tuple[str, ...], Help("class names in order; empty: all labels found, sorted")] = ()
    val_fraction: Annotated[
        float, Range(0.0, 0.8), Help("share of patients for validation, where the CSV has no split")
    ] = 0.15
    test_fraction: Annotated[
        float, Range(0.0, 0.8), Help("share of patients for the test split, where the CSV has no split")
    ] = 0.2
    max_quarantine: Annotated[float, Range(0.0, 1.0), Help("largest share of files that may be quarantined")] = 0.1
    normalisation: Annotated[
        Literal["per_image", "fixed", "zca"],
        Help(
            "zero mean and unit standard deviation for each image, fixed public constants, or ZCA whitening (fitted "
            "on the training images, so it is a statistic of the patients; shipped with the set, size^4 numbers)"
        ),
    ] = "per_image"
    norm_mean: Annotated[float, Range(0.0, 1.0), Help("mean that `fixed` subtracts")] = 0.5
    norm_std: Annotated[float, Range(1e-3, 10.0), Help("standard deviation that `fixed` divides by")] = 0.25
    demographics: Annotated[
        Literal["table", "header"],
        Help("sex and age come from the CSV only, or from the header where the CSV has none"),
    ] = "table"
    follow_links: Annotated[
        tuple[str, ...],
        Help("absolute paths of folders outside the input that symbolic links in it may lead into; empty: none"),
    ] = ()
    similar_classes: Annotated[
        Literal["refuse", "merge", "keep"],
        Help(
            "labels that differ only in case, spaces, hyphens, underscores or number form (1, 1.0): refuse, merge "
            "into one class, or keep as classes of their own"
        ),
    ] = "refuse"
    similar_patient_ids: Annotated[
        Literal["merge", "keep"],
        Help(
            "patient IDs that differ only in case, spaces, leading zeros or number form (12, 012, 12.0): take as one "
            "patient, or keep apart; reported in either case"
        ),
    ] = "merge"
    frames: Annotated[
        Literal["refuse", "split"], Help("multi-frame DICOM files: refuse, or read each frame as an image")
    ] = "refuse"
    quality: Annotated[QualityConfig, Section("which images are fit for training")] = QualityConfig()
    cache: Annotated[Literal["memory", "disk"], Help("MONAI cache: in memory, or on disk (holds patient pixels)")] = (
        "memory"
    )
    seed: Annotated[int, Range(0), Help("seed of the split by patient")] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        twice = [name for number, name in enumerate(self.classes) if name in self.classes[:number]]
        if twice:
            raise ConfigError(
                f"IngestConfig.classes={list(self.classes)!r}: {twice[0]!r} is named twice; name each class once"
            )
        for folder in self.follow_links:
            if not PurePath(folder).is_absolute():
                raise ConfigError(f"IngestConfig.follow_links={folder!r}: must be the absolute path of a folder")
