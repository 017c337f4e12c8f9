"""The comparison: its arms, the training of its networks, and its statistics."""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.config.fields import Validated, choice, flag, names, number, part, text
from medidistill.config.methods import METHODS
from medidistill.config.training import CUSTOM_PREFIX, AdaptiveTraining, TrainingConfig

__all__ = ["ClinicalConfig", "EvaluateConfig", "SaliencyConfig"]


@dataclass(frozen=True)
class ClinicalConfig(Validated):
    """Settings of the clinical statistics; fix them before the test split is opened."""

    reference: str = text("", "arm that the others are compared with; empty: `full` where it runs, else the first")
    margin: float = number(0.05, "non-inferiority margin on the AUROC difference", 1e-6, 0.5)
    margin_balanced_accuracy: float = number(
        0.05, "non-inferiority margin on the difference of balanced accuracies, for the verdict", 1e-6, 0.5
    )
    margin_sensitivity: float = number(
        0.1,
        "non-inferiority margin on the difference of sensitivities at target_specificity, for the verdict",
        1e-6,
        0.5,
    )
    verdict_patients: int = number(30, "fewest test patients of each class for a green verdict", 2, 100_000)
    target_specificity: float = number(0.9, "specificity that the threshold reaches on validation", 0.01, 0.999)
    bins: int = number(10, "bins of the calibration curves", 2, 100)
    min_patients: int = number(20, "smallest group of patients that a table shows", 2, 100_000)
    min_positives: int = number(10, "fewest patients of a class in a group whose figures a table shows", 2, 100_000)


@dataclass(frozen=True)
class SaliencyConfig(Validated):
    """Grad-CAM of real-trained and distilled-trained networks on the same test images.

    These images show patients: a report that holds them is marked and must not be shared.
    """

    cases: int = number(0, "test images of each outcome in the report; 0: none, the report may be shared", 0, 10)
    arms: tuple[str, ...] = names((), "arms to explain; empty: the reference arm and the distilled ones")


@dataclass(frozen=True)
class EvaluateConfig(Validated):
    """The comparison: fresh networks on each arm, choices on validation, the test split once."""

    arms: tuple[str, ...] = names(
        ("full", "packed", "random", "kmeans", "mtt", "iadd"),
        "arms to compare",
        "full",
        "random",
        "packed",
        "kmeans",
        "herding",
        *METHODS,
    )
    bundles: tuple[str, ...] = names((), "folders of bundles from elsewhere, each verified and compared as an arm")
    external: str = text("", "folder of labelled X-rays from elsewhere: a second test set, never split or trained on")
    architectures: tuple[str, ...] = names(
        ("convnet",),
        "architectures to train",
        "convnet",
        "resnet18",
        "vgg11",
        "alexnet",
        "densenet121",
        "vit",
        prefix=CUSTOM_PREFIX,
    )
    networks: int = number(5, "fresh networks for each arm and architecture", 1, 1000)
    full_epochs: int = number(
        20, "epochs of the networks trained on all real data; twice as many are tried too, on validation", 1, 10_000
    )
    full_lr: float = number(0.01, "learning rate of the networks trained on all real data", 0.0, 100.0)
    small: TrainingConfig = part(TrainingConfig, "training on a small set by SGD (random, k-means, distilled)")
    adaptive: AdaptiveTraining = part(
        AdaptiveTraining, "training by AdamW, tried beside SGD for every arm alike; validation chooses"
    )
    expert_labels: bool = flag(
        True,
        "also try the experts' predictions as labels of the real subsets, as distilled images may have them; selected "
        "on validation",
    )
    compile: str = choice(
        "auto", "torch.compile of the training step; auto: where a cell is long enough to repay it", "auto", "on", "off"
    )
    bootstrap: int = number(1000, "patient-level bootstrap resamples", 100, 1_000_000)
    confidence: float = number(0.95, "confidence level of intervals", 0.5, 0.999)
    clinical: ClinicalConfig = part(ClinicalConfig, "clinical statistics")
    saliency: SaliencyConfig = part(SaliencyConfig, "Grad-CAM on test images; shows patients")
