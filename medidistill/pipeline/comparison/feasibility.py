"""What a run cannot do with its images, said before hours of work."""

from __future__ import annotations

from collections.abc import Mapping

from medidistill.config import RunConfig
from medidistill.distillation.coarse import coarse_side
from medidistill.distillation.group_gaussians import require_patients
from medidistill.distillation.state import parameterization
from medidistill.distilled_set import LabelledImages
from medidistill.errors import ConfigError
from medidistill.pipeline.comparison.arms import method_config, methods
from medidistill.pipeline.comparison.controls import PACKED

__all__ = ["check_ipc", "check_patients", "check_sets"]


def check_ipc(config: RunConfig, counts: Mapping[str, int]) -> None:
    """Refuse numbers of images that the arms of real images, or sets that begin as such, cannot fill.

    Args:
        config: the run.
        counts: training images by class.

    Raises:
        ConfigError: a class has too few.
    """
    smallest = min(counts, key=lambda name: counts[name])
    if not counts[smallest]:
        raise ConfigError(
            f"class {smallest!r} has no training images; add some, or take it out of the labels and of ingest.classes"
        )
    rivals = [arm for arm in config.evaluate.arms if arm in ("random", PACKED, "kmeans", "herding")]
    if rivals and config.distill.ipc > counts[smallest]:
        raise ConfigError(
            f"distill.ipc={config.distill.ipc}: class {smallest!r} has only {counts[smallest]} training images "
            f"(needed by {', '.join(rivals)}); use distill.ipc <= {counts[smallest]} or add images"
        )
    for method in methods(config):
        made = method_config(config, method)
        if made.init == "real" and made.images_per_class > counts[smallest]:
            raise ConfigError(
                f"distill.init='real' ({method}): class {smallest!r} has only {counts[smallest]} training images, "
                f"{made.images_per_class} are needed (distill.ipc={made.ipc}, factor={made.factor}); use a smaller "
                "ipc or factor, or init=noise"
            )


def check_patients(config: RunConfig, train: LabelledImages) -> None:
    """Refuse, before experts are trained, to draw images from too few patients of a class. Raises `ConfigError`."""
    for method in methods(config):
        made = method_config(config, method)
        if made.init in ("gaussian", "mixture"):
            require_patients(train.labels, train.patient_ids, train.num_classes, made.group_patients)


def check_sets(config: RunConfig, side: int) -> None:
    """Refuse sets that cannot be stored at this side, or that cannot begin with one another.

    Args:
        config: the run.
        side: rows and columns of a training image, pixels.

    Raises:
        ConfigError: `distill.factor` or `distill.coarse` does not divide the side, or a set begins with one of another
            number of images.
    """
    for method in methods(config):
        made = method_config(config, method)
        if not made.matches_experts:
            continue
        try:
            parameterization(made, side)
            if made.coarse > 1:
                parameterization(made.at_coarse_side(), coarse_side(side, made.coarse, config.ingest.normalisation))
        except ConfigError as error:
            raise ConfigError(f"method {method}: {error}") from error
        if made.start_from:
            first = method_config(config, made.start_from)
            if first.images_per_class != made.images_per_class:
                raise ConfigError(
                    f"method {method}: begins with the set of {made.start_from}, which has {first.images_per_class} "
                    f"images a class, and has {made.images_per_class}; use the same factor, decoder and bits for both"
                )
