"""The comparison: its arms, the training of its networks, and its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from medidistill.config.fields import Formerly, Help, OneOf, Range, Section, Validated
from medidistill.config.methods import METHODS
from medidistill.config.training import AdaptiveTraining, CompileMode, NetworkName, TrainingConfig

__all__ = ["ClinicalConfig", "EvaluateConfig", "SaliencyConfig"]


@dataclass(frozen=True)
class ClinicalConfig(Validated):
    """Settings of the clinical statistics; fix them before the test split is opened."""

    reference: Annotated[
        str, Help("arm that the others are compared with; empty: `full` where it runs, else the first")
    ] = ""
    margin: Annotated[float, Range(1e-6, 0.5), Help("non-inferiority margin on the AUROC difference")] = 0.05
    margin_balanced_accuracy: Annotated[
        float,
        Range(1e-6, 0.5),
        Help("non-inferiority margin on the difference of balanced accuracies, for the verdict"),
    ] = 0.05
    margin_sensitivity: Annotated[
        float,
        Range(1e-6, 0.5),
        Help("non-inferiority margin on the difference of sensitivities at target_specificity, for the verdict"),
    ] = 0.1
    verdict_patients: Annotated[
        int, Range(2, 100_000), Help("fewest test patients of each class for a green verdict")
    ] = 30
    target_specificity: Annotated[
        float, Range(0.01, 0.999), Help("specificity that the threshold reaches on validation")
    ] = 0.9
    bins: Annotated[int, Range(2, 100), Help("bins of the calibration curves")] = 10
    min_patients: Annotated[int, Range(2, 100_000), Help("smallest group of patients that a table shows")] = 20
    min_positives: Annotated[
        int, Range(2, 100_000), Help("fewest patients of a class in a group whose figures a table shows")
    ] = 10


@dataclass(frozen=True)
class SaliencyConfig(Validated):
    """Grad-CAM of real-trained and distilled-trained networks on the same test images.

    These images show patients: a report that holds them is marked and must not be shared.
    """

    cases: Annotated[
        int, Range(0, 10), Help("test images of each outcome in the report; 0: none, the report may be shared")
    ] = 0
    arms: Annotated[tuple[str, ...], Help("arms to explain; empty: the reference arm and the distilled ones")] = ()


@dataclass(frozen=True)
class EvaluateConfig(Validated):
    """The comparison: fresh networks on each arm, choices on validation, the test split once."""

    arms: Annotated[
        tuple[Annotated[str, OneOf("full", "random", "packed", "kmeans", "herding", *METHODS)], ...],
        Help("arms to compare"),
    ] = ("full", "packed", "random", "kmeans", "mtt", "iadd")
    bundles: Annotated[
        tuple[str, ...], Help("folders of bundles from elsewhere, each verified and compared as an arm")
    ] = ()
    external: Annotated[
        str, Help("folder of labelled X-rays from elsewhere: a second test set, never split or trained on")
    ] = ""
    architectures: Annotated[
        tuple[
            NetworkName,
            ...,
        ],
        Help("architectures to train"),
    ] = ("convnet",)
    num_networks: Annotated[
        int, Range(1, 1000), Formerly("networks"), Help("fresh networks for each arm and architecture")
    ] = 5
    full_epochs: Annotated[
        int,
        Range(1, 10_000),
        Help("epochs of the networks trained on all real data; twice as many are tried too, on validation"),
    ] = 20
    full_lr: Annotated[float, Range(0.0, 100.0), Help("learning rate of the networks trained on all real data")] = 0.01
    small_set_training: Annotated[
        TrainingConfig, Formerly("small"), Section("training on a small set by SGD (random, k-means, distilled)")
    ] = TrainingConfig()
    adaptive: Annotated[
        AdaptiveTraining, Section("training by AdamW, tried beside SGD for every arm alike; validation chooses")
    ] = AdaptiveTraining()
    expert_labels: Annotated[
        bool,
        Help(
            "also try the experts' predictions as labels of the real subsets, as distilled images may have them; "
            "selected on validation"
        ),
    ] = True
    compile: Annotated[
        CompileMode,
        Help("torch.compile of the training step; auto: where a cell is long enough to repay it"),
    ] = "auto"
    bootstrap: Annotated[int, Range(100, 1_000_000), Help("patient-level bootstrap resamples")] = 1000
    confidence: Annotated[float, Range(0.5, 0.999), Help("confidence level of intervals")] = 0.95
    clinical: Annotated[ClinicalConfig, Section("clinical statistics")] = ClinicalConfig()
    saliency: Annotated[SaliencyConfig, Section("Grad-CAM on test images; shows patients")] = SaliencyConfig()
