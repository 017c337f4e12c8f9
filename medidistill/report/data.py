"""What a report is made of: results, so that the page knows nothing of the stages that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medidistill.distilled_set import DistilledSet
from medidistill.patient_units import PatientUnits
from medidistill.record import RunRecord
from medidistill.results.clinical import ClinicalComparison
from medidistill.results.comparison import Comparison
from medidistill.results.history import HistoryEntry
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.verdict import Verdict
from medidistill.words import start_words

__all__ = ["ExplainedCase", "Explanations", "ExternalResults", "ReportData"]


@dataclass(frozen=True)
class ExternalResults:
    """The comparison on a second test set.

    Args:
        comparison: of all arms on it.
        clinical: the clinical figures on it.
    """

    comparison: Comparison
    clinical: ClinicalComparison


@dataclass(frozen=True)
class ExplainedCase:
    """One test image and what networks looked at. It shows a patient.

    Args:
        outcome: how the case was chosen, for example `only full is right`.
        truth: its class.
        image: (H, W) in [0, 1].
        maps: arm -> (H, W) in [0, 1], Grad-CAM of the class that the network calls.
        called: arm -> the class that the network calls, with its probability.
        original: (S, S) in [0, 1], the same picture at the resolution of its file; None where that is gone.
    """

    outcome: str
    truth: str
    image: npt.NDArray[np.floating[Any]]
    maps: Mapping[str, npt.NDArray[np.floating[Any]]]
    called: Mapping[str, tuple[str, float]]
    original: npt.NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True)
class Explanations:
    """Grad-CAM side by side. `outcomes`: number of test images of each outcome; `rule`: how cases were drawn."""

    architecture: str
    rule: str
    outcomes: Mapping[str, int]
    cases: Sequence[ExplainedCase]


@dataclass(frozen=True)
class ReportData:
    """Everything on the page; what is absent is left out of it. Holds no real image, but for `explanations`.

    Args:
        title: heading of the page.
        class_names: names in label order.
        record: configuration, versions, hardware, stages, openings of the test split.
        notice: a caution shown at the top and under every figure of results, for example a known confounder.
        comparison: of all arms.
        clinical: the clinical figures, drawn class by class.
        verdict: of the delivered set, at the top.
        distilled: the distilled set; pictured only where its recipe says that it started from noise.
        histories: run of distillation -> its history entries.
        evolution: (outer step, images like `distilled.images`), pictured under the same condition.
        quarantine: (key, reason) of each file set aside; keys are shown as hashes only.
        splits: class -> split -> number of images.
        patient_units: what stands for a patient.
        data_notes: what was made of the input folder, in sentences.
        sites: site -> class (and `all`) -> number of images, `hidden` where it is too small to show.
        confounded: a sentence for each class that shares no site with another.
        external: the comparison on a second test set.
        explanations: Grad-CAM on test images. These show patients: the page is marked as not to be shared.
        privacy: the privacy section of the bundle.
        explained: whether such a page lies among the patients' pixels of the run.
        bundle: path of the exported bundle.
    """

    title: str
    class_names: tuple[str, ...]
    record: RunRecord
    notice: str = ""
    comparison: Comparison | None = None
    clinical: ClinicalComparison | None = None
    verdict: Verdict | None = None
    distilled: DistilledSet | None = None
    histories: Mapping[str, Sequence[HistoryEntry]] = field(default_factory=dict)
    evolution: Sequence[tuple[int, Tensor]] = ()
    quarantine: Sequence[tuple[str, str]] = ()
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    patient_units: PatientUnits = field(default_factory=PatientUnits)
    data_notes: Sequence[str] = ()
    sites: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    confounded: Sequence[str] = ()
    external: ExternalResults | None = None
    explanations: Explanations | None = None
    privacy: PrivacySection | None = None
    explained: bool = False
    bundle: str = ""

    @property
    def may_show_images(self) -> bool:
        """Whether the distilled images can be shown: only those known not to have started as real ones."""
        return self.distilled is not None and start_words(str(self.distilled.recipe.get("init"))) is not None
