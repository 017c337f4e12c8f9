"""The IADD core: expert trajectories, exact meta-gradient, importance weights, outer loop. Needs torch alone."""

from __future__ import annotations

from medidistill.distillation.coarse import at_coarse_side
from medidistill.distillation.expert_labels import expert_labels
from medidistill.distillation.experts import finished_experts, train_experts
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.loop import distill
from medidistill.distillation.problem import Callbacks, DistillProblem, DistillResult, DistillStatus
from medidistill.distillation.ranks import Ranks, join_ranks
from medidistill.distillation.trajectory import Architecture, Expert, Experts, expert_file
from medidistill.distillation.unroll import (
    InnerPlan,
    InnerStep,
    MetaGradient,
    adjoint_gradient,
    draw_plan,
    stored_gradient,
)

__all__ = [
    "Architecture",
    "Callbacks",
    "DistillProblem",
    "DistillResult",
    "DistillStatus",
    "Expert",
    "Experts",
    "ImportanceWeights",
    "InnerPlan",
    "InnerStep",
    "MetaGradient",
    "Ranks",
    "adjoint_gradient",
    "at_coarse_side",
    "distill",
    "draw_plan",
    "expert_file",
    "expert_labels",
    "finished_experts",
    "join_ranks",
    "stored_gradient",
    "train_experts",
]
