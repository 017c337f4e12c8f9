"""What a distillation refuses before it begins, and what its checkpoints are of."""

from __future__ import annotations

from medidistill.config import DistillConfig, digest, without_later_defaults
from medidistill.distillation.objectives import objective_kind
from medidistill.distillation.problem import DistillProblem
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.trajectory import Experts
from medidistill.errors import ConfigError

__all__ = ["check_problem", "digest_of"]


def check_problem(problem: DistillProblem, config: DistillConfig, experts: Experts, ranks: Ranks) -> None:
    """Refuse settings that do not fit the experts or the ranks. Raises `ConfigError`."""
    ranks.share(config.segments)
    if ranks.count > 1 and config.importance.enabled and config.importance.kind == "progressive":
        raise ConfigError(
            f"distill.importance.kind='progressive' on {ranks.count} ranks: its mask grows with every segment in "
            "turn, and ranks see their own alone; use one process"
        )
    last = config.max_start - 1 + config.expert_epochs
    if objective_kind(config).follows_segments and last > experts.epochs:
        raise ConfigError(
            f"max_start={config.max_start} with expert_epochs={config.expert_epochs} needs snapshot {last}; "
            f"the experts end at epoch {experts.epochs}"
        )
    classes = experts.architecture.num_classes
    if len(problem.class_names) != classes:
        raise ConfigError(f"{len(problem.class_names)} class names for experts of {classes} classes")


def digest_of(problem: DistillProblem, config: DistillConfig, experts: Experts) -> str:
    """Return the digest that a checkpoint must have to be gone on from."""
    # steps that may be added later, and how often to write, do not change what a step computes
    free = ("outer_steps", "checkpoint_every") if config.steps_may_grow else ("checkpoint_every",)
    plain = {k: v for k, v in without_later_defaults(config).items() if k not in free}
    plain["importance"] = plain["importance"] if config.importance.enabled else None
    origins = [member.header["digest"] + str(member.header["expert"]) for member in experts.members]
    return digest(plain, origins, problem.seed, list(problem.class_names), problem.training, problem.normalisation)
