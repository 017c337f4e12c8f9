"""The IADD core: expert trajectories, exact meta-gradient, importance weights, outer loop. Needs torch alone."""

from __future__ import annotations

from medidistill.distill.coarse import at_coarse_side
from medidistill.distill.expert_labels import expert_labels
from medidistill.distill.experts import finished_experts, train_experts
from medidistill.distill.importance import ImportanceWeights
from medidistill.distill.loop import DistillResult, distill
from medidistill.distill.ranks import Ranks, join_ranks
from medidistill.distill.trajectory import Architecture, Expert, Experts, expert_file
from medidistill.distill.unroll import InnerPlan, InnerStep, MetaGradient, adjoint_gradient, draw_plan, stored_gradient

__all__ = [
    "Architecture",
    "DistillResult",
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
