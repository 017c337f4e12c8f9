"""The comparison, and a whole run."""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.config.data import IngestConfig
from medidistill.config.distillation import DistillConfig
from medidistill.config.fields import Validated, names, number, part, text
from medidistill.config.training import ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.errors import ConfigError

__all__ = ["EvaluateConfig", "RunConfig"]


@dataclass(frozen=True)
class EvaluateConfig(Validated):
    """The comparison: fresh networks on each arm, choices on validation, the test split once."""

    arms: tuple[str, ...] = names(
        ("full", "random", "kmeans", "mtt", "iadd"),
        "what to compare",
        "full",
        "random",
        "kmeans",
        "mtt",
        "iadd",
    )
    architectures: tuple[str, ...] = names(
        ("convnet",), "architectures to train", "convnet", "resnet18", "vgg11", "alexnet", "densenet121"
    )
    networks: int = number(5, "fresh networks for each arm and architecture", 1, 1000)
    full_epochs: int = number(20, "epochs of the networks trained on all real data", 1, 10_000)
    small: TrainingConfig = part(TrainingConfig, "training on a small set (random, k-means, distilled)")
    bootstrap: int = number(1000, "patient-level bootstrap resamples", 100, 1_000_000)
    confidence: float = number(0.95, "confidence level of intervals", 0.5, 0.999)


@dataclass(frozen=True)
class RunConfig(Validated):
    """A whole run, from files to report."""

    name: str = text("medidistill run", "title of the report")
    notice: str = text("", "a caution shown beside every figure, for example a known confounder")
    seed: int = number(0, "seed of every random decision", 0)
    threads: int = number(0, "CPU threads; 0: leave to torch", 0, 4096)
    ingest: IngestConfig = part(IngestConfig, "reading, splitting, normalising")
    network: NetworkConfig = part(NetworkConfig, "network of experts and students")
    experts: ExpertConfig = part(ExpertConfig, "expert trajectories")
    distill: DistillConfig = part(DistillConfig, "distillation")
    evaluate: EvaluateConfig = part(EvaluateConfig, "comparison of diagnostic models")

    def __post_init__(self) -> None:
        super().__post_init__()
        last = self.distill.max_start - 1 + self.distill.expert_epochs
        if last > self.experts.epochs:
            raise ConfigError(
                f"distill.max_start={self.distill.max_start} with expert_epochs={self.distill.expert_epochs} needs "
                f"snapshot {last}, experts.epochs={self.experts.epochs} ends before; raise epochs or lower max_start"
            )
