"""Images: made by a program, or read from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from medidistill.config.fields import Validated, choice, file_name, names, number, part, text
from medidistill.config.quality import QualityConfig
from medidistill.errors import ConfigError

__all__ = ["IngestConfig", "PhantomConfig"]


@dataclass(frozen=True)
class PhantomConfig(Validated):
    """Phantom chest X-rays: plainly synthetic DICOM studies in three classes."""

    patients_per_class: int = number(40, "synthetic patients in each class", 5, 100_000)
    images_per_patient: int = number(3, "largest number of images per patient (1 to this number)", 1, 20)
    size: int = number(256, "rows and columns of each image", 64, 4096)
    monochrome1_share: float = number(0.3, "share of images stored as MONOCHROME1", 0.0, 1.0)
    seed: int = number(0, "seed of every random decision", 0)


@dataclass(frozen=True)
class IngestConfig(Validated):
    """From files to images in [0, 1] with labels, patients and a patient-disjoint split."""

    image_size: int = number(64, "rows and columns after resizing, pixels", 16, 512)
    labels: str = text(
        "labels.csv", "CSV of labels inside the input folder; the layout gives labels where it is absent"
    )
    exclusions: str = file_name(
        "exclusions.csv",
        "CSV with the columns `path` and `reason` of files that are not used: inside the input folder, none where it "
        "is absent; or the absolute path of one",
    )
    classes: tuple[str, ...] = names((), "class names in order; empty: all labels found, sorted")
    val_fraction: float = number(0.15, "share of patients for validation, where the CSV has no split", 0.0, 0.8)
    test_fraction: float = number(0.2, "share of patients for the test split, where the CSV has no split", 0.0, 0.8)
    max_quarantine: float = number(0.1, "largest share of files that may be quarantined", 0.0, 1.0)
    normalisation: str = choice(
        "per_image",
        "zero mean and unit standard deviation for each image, fixed public constants, or ZCA whitening (fitted on the "
        "training images, so it is a statistic of the patients; shipped with the set, size^4 numbers)",
        "per_image",
        "fixed",
        "zca",
    )
    norm_mean: float = number(0.5, "mean that `fixed` subtracts", 0.0, 1.0)
    norm_std: float = number(0.25, "standard deviation that `fixed` divides by", 1e-3, 10.0)
    demographics: str = choice(
        "table",
        "sex and age come from the CSV only, or from the header where the CSV has none",
        "table",
        "header",
    )
    follow_links: tuple[str, ...] = names(
        (), "absolute paths of folders outside the input that symbolic links in it may lead into; empty: none"
    )
    similar_classes: str = choice(
        "refuse",
        "labels that differ only in case, spaces, hyphens, underscores or number form (1, 1.0): refuse, merge into one "
        "class, or keep as classes of their own",
        "refuse",
        "merge",
        "keep",
    )
    similar_patient_ids: str = choice(
        "merge",
        "patient IDs that differ only in case, spaces, leading zeros or number form (12, 012, 12.0): take as one "
        "patient, or keep apart; reported in either case",
        "merge",
        "keep",
    )
    frames: str = choice("refuse", "multi-frame DICOM files: refuse, or read each frame as an image", "refuse", "split")
    quality: QualityConfig = part(QualityConfig, "which images are fit for training")
    cache: str = choice("memory", "MONAI cache: in memory, or on disk (holds patient pixels)", "memory", "disk")
    seed: int = number(0, "seed of the split by patient", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for folder in self.follow_links:
            if not PurePath(folder).is_absolute():
                raise ConfigError(f"IngestConfig.follow_links={folder!r}: must be the absolute path of a folder")
