"""What a report is made of: plain values, so that the page knows nothing of the stages that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medidistill.distilled_set import DistilledSet
from medidistill.record import RunRecord

__all__ = ["ReportData", "RocInput"]


@dataclass(frozen=True)
class RocInput:
    """What ROC curves are drawn from.

    Args:
        labels: (N,) integers in 0..K-1 of the test images.
        probabilities: arm -> (N, K), the mean over the arm's networks.
        architecture: name of the networks.
    """

    labels: npt.NDArray[np.int64]
    probabilities: Mapping[str, npt.NDArray[np.floating[Any]]]
    architecture: str = "convnet"


@dataclass(frozen=True)
class ReportData:
    """Everything on the page; what is absent is left out of it. Holds no real image.

    Args:
        title: heading of the page.
        class_names: names in label order.
        record: configuration, versions, hardware, stages, openings of the test split.
        notice: a caution shown at the top and under every figure of results, for example a known confounder.
        comparison: `Comparison.to_dict()`.
        clinical: what `clinical_comparison` returned; drawn as calibration, decision curves and probabilities.
        distilled: the distilled set; pictured only where its recipe says that it started from noise.
        histories: run of distillation -> its history entries.
        evolution: (outer step, images like `distilled.images`), pictured under the same condition.
        quarantine: (key, reason) of each file set aside; keys are shown as hashes only.
        splits: class -> split -> number of images.
        sites: site -> class -> number of images.
        roc: test labels and mean probabilities.
        bundle: path of the exported bundle.
    """

    title: str
    class_names: tuple[str, ...]
    record: RunRecord
    notice: str = ""
    comparison: Mapping[str, Any] | None = None
    clinical: Mapping[str, Any] | None = None
    distilled: DistilledSet | None = None
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    evolution: Sequence[tuple[int, Tensor]] = ()
    quarantine: Sequence[tuple[str, str]] = ()
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    roc: RocInput | None = None
    bundle: str = ""

    @property
    def may_show_images(self) -> bool:
        """Whether the distilled images can be shown: only those known to have started from noise."""
        return self.distilled is not None and self.distilled.recipe.get("init") == "noise"
