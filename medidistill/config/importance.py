"""Importance weights of a distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from medidistill.config.fields import ADDED_LATER, Help, Range, Validated
from medidistill.errors import ConfigError

__all__ = ["ImportanceConfig"]


@dataclass(frozen=True)
class ImportanceConfig(Validated):
    """Weights W on network parameters in the matching loss: learned, w = exp(s), or a mask or control instead."""

    enabled: Annotated[bool, Help("use W (IADD where it is learned); false keeps w = 1, which is MTT")] = True
    kind: Annotated[
        Literal[
            "learned",
            "scale_free",
            "hypergradient",
            "prune",
            "residual_drop",
            "progressive",
            "inverse_variance",
            "random",
            "shuffled",
        ],
        Help(
            "learned: w = exp(s) (IADD); scale_free: the same with W on the expert's movement too; "
            "hypergradient: learned on the real images' loss at the student's end (reads real training images in every "
            "outer step); prune: 0 for the "
            "hardest parameters of each step, 1 otherwise (PP); residual_drop: 0 for the easiest ones (EDF); "
            "progressive: 0 until a parameter has been matched once (HoP-TM's mask); inverse_variance: frozen, high "
            "where networks that are trained on from a start agree (reads real training images); random: drawn once "
            "and frozen, a control; shuffled: learned, but acting on other parameters, a control"
        ),
    ] = "learned"
    granularity: Annotated[
        Literal["element", "tensor"], Help("one weight for each parameter, or one for each tensor")
    ] = "element"
    constraint: Annotated[
        Literal["unit_mean_square", "balanced", "entropic", "none"],
        Help(
            "unit_mean_square: hold mean(w^2) = 1 within [w_min, w_max]; balanced: that, and every group ends with an "
            "equal share of the loss; entropic: that, with w^2 regularised towards uniform; none: unconstrained"
        ),
    ] = "unit_mean_square"
    direction: Annotated[
        Literal["ascend", "descend"],
        Help("ascend: raise the weight of parameters that are hard to match; descend: lower it"),
    ] = "ascend"
    start: Annotated[
        Literal["ones", "fisher"],
        Help(
            "learned: initial W. ones: uniform; fisher: w^2 proportional to the experts' Fisher information on real "
            "images, so that parameters that determine predictions weigh most (reads real training images once)"
        ),
    ] = "ones"
    lr: Annotated[float, Range(0.0, 1e6), Help("learning rate of s; 0: W keeps its initial values")] = 0.01
    w_min: Annotated[float, Range(1e-6, 1.0), Help("smallest weight")] = 0.1
    w_max: Annotated[float, Range(1.0, 1e6), Help("largest weight")] = 10.0
    tau: Annotated[
        float,
        Range(1e-6, 1e6),
        Help("entropic: strength of the entropic regularisation; w^2 converges to exp(-P d^2 / (tau Z))"),
    ] = 1.0
    prune_by: Annotated[
        Literal["residual", "movement"],
        Help("prune: which parameters are pruned, those of largest residual d^2 or of smallest movement"),
    ] = "residual"
    prune_share: Annotated[float, Range(0.0, 0.99), Help("prune: share of the moving parameters that is pruned")] = 0.1
    drop_share: Annotated[
        float, Range(0.0, 0.99), Help("residual_drop: share of the moving parameters that is left out"), ADDED_LATER
    ] = 0.125
    variance_floor: Annotated[
        float,
        Range(1e-9, 1e9),
        Help("inverse_variance: w^2 is proportional to 1 / (variance + this many mean variances)"),
        ADDED_LATER,
    ] = 0.1
    hypergradient_every: Annotated[
        int,
        Range(1, 10_000),
        Help("hypergradient: outer steps from one update of W to the next, each of which costs about two more steps"),
        ADDED_LATER,
    ] = 1
    threshold: Annotated[
        float,
        Range(1e-9, 1e9),
        Help("progressive: d^2 below this many mean squared movements counts as matched, initially"),
    ] = 0.1
    growth: Annotated[float, Range(1.0, 1e3), Help("progressive: the threshold is multiplied by this ...")] = 2.0
    growth_every: Annotated[int, Range(1, 1_000_000), Help("progressive: ... each time after so many outer steps")] = 20
    spread: Annotated[
        float, Range(0.0, 10.0), Help("random: standard deviation of log w before it is rescaled to mean(w^2) = 1")
    ] = 0.5
    keep_scale: Annotated[bool, Help("divide the loss for images and alpha by sum(w^2 d^2) / sum(d^2), detached")] = (
        True
    )

    @property
    def starts_at_fisher(self) -> bool:
        """Whether W is initialised from the Fisher information of real images."""
        return self.enabled and self.kind == "learned" and self.start == "fisher"

    @property
    def continues_experts(self) -> bool:
        """Whether W follows from networks that are trained on from the experts' snapshots on real images."""
        return self.enabled and self.kind == "inverse_variance"

    @property
    def descends_real_loss(self) -> bool:
        """Whether W is fitted to the loss of batches of real images."""
        return self.enabled and self.kind == "hypergradient" and self.lr > 0

    @property
    def ascends(self) -> bool:
        """Whether W is learned and moves to what is hard to match."""
        learned = self.enabled and self.kind in ("learned", "scale_free", "shuffled") and self.lr > 0
        return learned and self.direction == "ascend"

    @property
    def requires_real(self) -> bool:
        """Whether W is initialised from real images."""
        return self.starts_at_fisher or self.continues_experts or self.descends_real_loss

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind in ("scale_free", "hypergradient") and self.constraint == "balanced":
            raise ConfigError(
                f"ImportanceConfig.constraint='balanced' with kind={self.kind!r}: its terms have both signs and no "
                "shares; use constraint='unit_mean_square'"
            )
        if self.kind == "shuffled" and self.granularity == "tensor":
            raise ConfigError(
                "ImportanceConfig.granularity='tensor' with kind='shuffled': must be element; tensors of different "
                "sizes cannot swap weights and keep mean(w^2) = 1"
            )
        if self.constraint == "balanced" and self.direction == "ascend":
            raise ConfigError(
                "ImportanceConfig.constraint='balanced' with direction='ascend': ascent moves away from "
                "equal shares; use direction='descend'"
            )
        if self.constraint == "entropic" and 4 * self.lr * self.tau > 1:
            raise ConfigError(
                f"ImportanceConfig.tau={self.tau:g} with lr={self.lr:g}: lr * tau must be <= 0.25, or the steps of W "
                "overshoot; lower lr"
            )
        if self.constraint == "none" and self.direction == "ascend" and self.lr > 0 and self.enabled:
            raise ConfigError(
                "ImportanceConfig.constraint='none' with direction='ascend': W grows without bound; "
                "use direction='descend' or constraint='unit_mean_square'"
            )
