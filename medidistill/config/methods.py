"""The distillation methods: one registry of what each is, what it needs, and what it changes in the shared settings.

All run on the same experts, the same engine and the same evaluation. A new method is an entry here, and a line in
`docs/methods.md`; where it lowers something new, an objective in `medidistill.distillation.objectives` as well. Where a
published method does more than its entry says, `docs/methods.md` names the difference.

The registry is on the floor of the configuration, which checks names and settings against it and loads no torch.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from medidistill.config.distillation import STORED_PLAINLY
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # settings of a method, by its name

__all__ = ["DEFAULT_METHOD", "METHODS", "Method", "RealData", "preferred_method"]


class RealData(enum.StrEnum):
    """What a method reads of real training images while it distills, beside what its experts were trained on."""

    NOTHING = "nothing"
    ONCE = "once, for labels, targets or weights"
    MOMENTS = "once, for class means and a covariance"
    GROUP_MOMENTS = "once, for means and covariances of groups of patients"
    ONCE_A_SNAPSHOT = "once for each snapshot"
    BATCHES = "batches, in every outer step"
    ONCE_WITH_NOISE = "once, by the Gaussian mechanism"


@dataclass(frozen=True)
class Method:
    """One distillation method.

    Args:
        name: on the command line, in `evaluate.arms` and in files.
        title: what it is called in full, for cards and pages; reads on from "distilled by".
        settings: what it changes in `distill`; a run's `methods` section may change more.
        citation: of the work it follows; empty where it is ours.
        reads: what it reads of real training images while it distills.
        summary: a shorter title for the report; empty: the title.
        flat_experts: its experts are trained with sharpness-aware steps (`experts.flat_rho`).
        needs_dp: needs `experts.dp`, whose epsilon and delta it keeps to.
        needs_weights: needs `distill.importance.enabled`; without W it is another method.
        twin_without_augmentation: the method that it is where nothing is augmented.
        preferred: delivered before all others where no score may choose.
    """

    name: str
    title: str
    settings: ReadOnlyJsonObject = field(default_factory=dict, hash=False)
    citation: str = ""
    reads: RealData = RealData.NOTHING
    summary: str = ""
    flat_experts: bool = False
    needs_dp: bool = False
    needs_weights: bool = False
    twin_without_augmentation: str = ""
    preferred: bool = False


_NO_W = {"importance": {"enabled": False}}
_NO_AUGMENTATION = {
    **dict.fromkeys(("shift", "scale", "rotate", "brightness", "contrast", "cutout"), 0.0),
    "flip": False,
}
_GROWTH: JsonObject = {"start_growth": 0.5, "label_init": "expert", "soft_labels": True}
_AVERAGE = {"ema": 0.9995}
_KERNEL = {**_NO_W, "objective": "kernel", "lr_schedule": "cosine", "soft_labels": True}
_DRAWN = {**_NO_W, "objective": "snapshots", "outer_steps": 0, "expert_labels": True}
_PRUNE = {"enabled": True, "kind": "prune"}

_MTT_PAPER, _IADD_PAPER, _BPTT_PAPER, _PP_PAPER = (
    f"arXiv {i}" for i in ["2203.11932", "2401.15863", "2310.04189", "2209.14609"]
)
_MTT = f"matching training trajectories (MTT; {_MTT_PAPER})"
_IADD = f"importance-aware adaptive dataset distillation (IADD; a reconstruction of {_IADD_PAPER})"
_BPTT = f"truncated back-propagation through a student's training (as RaT-BPTT; {_BPTT_PAPER})"

_ALL = (
    Method(
        "dp_stats",
        "matching of moments of features that were released once with noise",
        {**_NO_W, "objective": "statistics", **STORED_PLAINLY},
        citation="after arXiv 2002.11603",
        reads=RealData.ONCE_WITH_NOISE,
        needs_dp=True,
    ),
    # gradients of real and distilled images at one point, without and with shared augmentation
    Method(
        "dc",
        "matching of gradients (DC; arXiv 2006.05929)",
        {**_NO_W, "objective": "gradient", "augment": _NO_AUGMENTATION},
        citation="arXiv 2006.05929",
        reads=RealData.BATCHES,
    ),
    Method(
        "dsa",
        "matching of gradients under shared augmentation (DSA; arXiv 2102.08259)",
        {**_NO_W, "objective": "gradient"},
        citation="arXiv 2102.08259",
        reads=RealData.BATCHES,
        twin_without_augmentation="dc",
    ),
    Method(
        "dm",
        "matching of mean features (DM; arXiv 2110.04181)",
        {**_NO_W, "objective": "distribution"},
        citation="arXiv 2110.04181",
        reads=RealData.BATCHES,
    ),
    # no distance is lowered: images are drawn, and the experts label them
    Method(
        "gaussian",
        "draws of a Gaussian for each class, labelled by the experts",
        {**_DRAWN, "init": "gaussian"},
        reads=RealData.MOMENTS,
        summary="class Gaussians labelled by experts",
    ),
    Method(
        "mixture",
        "draws of a Gaussian for each group of alike patients, labelled by the experts",
        {**_DRAWN, "init": "mixture"},
        reads=RealData.GROUP_MOMENTS,
        summary="Gaussians of groups of patients, labelled by experts",
    ),
    # with a class constraint from later snapshots
    Method(
        "snapshots",
        "matching of mean features at expert snapshots (as TGDD; arXiv 2512.02469)",
        {**_NO_W, "objective": "snapshots", "lr_schedule": "cosine", "expert_labels": True},
        citation="arXiv 2512.02469",
        reads=RealData.ONCE_A_SNAPSHOT,
        summary="matching features at expert snapshots",
    ),
    # the real images' loss of a ridge regression
    Method(
        "kernel",
        "ridge regression on features of networks trained on the set (as FRePo; arXiv 2206.00719)",
        _KERNEL,
        citation="arXiv 2206.00719",
        reads=RealData.BATCHES,
        summary="kernel regression",
    ),
    # the same, and the experts label the images in the end
    Method(
        "kernel_warm",
        "ridge regression on features (as FRePo and RCIG) from a set matched at snapshots",
        {**_KERNEL, "expert_labels": True, "start_from": "snapshots"},
        citation="arXiv 2206.00719",
        reads=RealData.BATCHES,
        summary="feature matching, then kernel regression",
    ),
    # where the student ends against where an expert went
    # preferred: no rule for W was above it at equal wall time (docs/weight-trial.md)
    Method("mtt", _MTT, _NO_W, citation=_MTT_PAPER, summary="trajectory matching (MTT)", preferred=True),
    Method(
        "mtt_warm", f"{_MTT} from a set matched at snapshots", {**_NO_W, "start_from": "snapshots"}, citation=_MTT_PAPER
    ),
    Method("mtt_soft", f"{_MTT} with soft labels", {**_NO_W, "soft_labels": True}, citation=_MTT_PAPER),
    Method(
        "ftd",
        f"{_MTT} on flat experts (as FTD; arXiv 2211.11004)",
        {**_NO_W, **_AVERAGE},
        citation="arXiv 2211.11004",
        flat_experts=True,
    ),
    Method(
        "datm",
        f"{_MTT} from growing start epochs with soft labels (as DATM; arXiv 2310.05773)",
        {**_NO_W, **_GROWTH, **_AVERAGE},
        citation="arXiv 2310.05773",
        reads=RealData.ONCE,
        flat_experts=True,
    ),
    # MTT with parameters left out, or weighted at random
    Method(
        "pp",
        f"{_MTT} without the parameters of the largest residual (as PP; {_PP_PAPER})",
        {"importance": {**_PRUNE, "prune_by": "residual"}},
        citation=_PP_PAPER,
    ),
    Method(
        "pp_movement",
        f"{_MTT} without the parameters of the smallest movement (as PP; {_PP_PAPER})",
        {"importance": {**_PRUNE, "prune_by": "movement"}},
        citation=_PP_PAPER,
    ),
    Method(
        "progressive",
        f"{_MTT} under a mask that grows (as HoP-TM; arXiv 2509.24177)",
        {"importance": {"enabled": True, "kind": "progressive"}},
        citation="arXiv 2509.24177",
    ),
    Method(
        "residual_drop",
        f"{_MTT} without the parameters of the smallest residual (as EDF; arXiv 2410.17193)",
        {"importance": {"enabled": True, "kind": "residual_drop"}},
        citation="arXiv 2410.17193",
    ),
    Method("random_w", f"{_MTT} under random weights, a control", {"importance": {"enabled": True, "kind": "random"}}),
    Method(
        "fisher_w",
        f"{_MTT} under the experts' Fisher information, frozen",
        {"importance": {"enabled": True, "kind": "learned", "start": "fisher", "lr": 0.0}},
        reads=RealData.ONCE,
    ),
    Method(
        "shuffled_w",
        f"{_MTT} under learned weights that act on other parameters, a control",
        {"importance": {"enabled": True, "kind": "shuffled", "granularity": "element"}},
    ),
    Method(
        "variance_w",
        f"{_MTT} under the inverse variance of the experts' continuations, frozen",
        {"importance": {"enabled": True, "kind": "inverse_variance"}},
        reads=RealData.ONCE,
    ),
    # other targets than the expert's snapshot
    Method(
        "mtt_mean",
        f"{_MTT}, the mean of several continuations of an expert as the target",
        {**_NO_W, "target": "mean_continuation"},
        reads=RealData.ONCE,
    ),
    Method(
        "mtt_line",
        f"{_MTT} on a straight path (as MCT; arXiv 2406.19827)",
        {**_NO_W, "target": "line"},
        citation="arXiv 2406.19827",
    ),
    # the real-data loss of a student trained on the set
    Method("bptt", _BPTT, {**_NO_W, "objective": "student_loss"}, citation=_BPTT_PAPER, reads=RealData.BATCHES),
    Method(
        "bptt_soft",
        f"{_BPTT} with soft labels",
        {**_NO_W, "objective": "student_loss", "soft_labels": True},
        citation=_BPTT_PAPER,
        reads=RealData.BATCHES,
    ),
    # learned weights, alone and with what the others bring
    Method(
        "iadd_literal",
        f"{_IADD}, W unbounded",
        {"importance": {"constraint": "none", "direction": "descend", "keep_scale": False}},
        citation=_IADD_PAPER,
        needs_weights=True,
    ),
    Method(
        "iadd_balanced",
        f"{_IADD}, W balancing the shares of the loss",
        {"importance": {"constraint": "balanced", "direction": "descend"}},
        citation=_IADD_PAPER,
        needs_weights=True,
    ),
    Method(
        "iadd_entropic",
        f"{_IADD}, W under a pull to uniform",
        {"importance": {"constraint": "entropic", "direction": "descend"}},
        citation=_IADD_PAPER,
        needs_weights=True,
    ),
    Method(
        "iadd_scale_free",
        f"{_IADD}, W on the expert's movement too",
        {"importance": {"kind": "scale_free"}},
        citation=_IADD_PAPER,
        needs_weights=True,
    ),
    Method(
        "iadd_hypergradient",
        f"{_IADD}, W learned on the loss of real images",
        {"importance": {"kind": "hypergradient"}},
        citation=_IADD_PAPER,
        reads=RealData.BATCHES,
        needs_weights=True,
    ),
    Method(
        "iadd_fisher",
        f"{_IADD}, W beginning at the experts' Fisher information",
        {"importance": {"start": "fisher"}},
        citation=_IADD_PAPER,
        reads=RealData.ONCE,
        needs_weights=True,
    ),
    Method("iadd_soft", f"{_IADD} with soft labels", {"soft_labels": True}, citation=_IADD_PAPER, needs_weights=True),
    Method(
        "iadd_warm",
        f"{_IADD} from a set matched at snapshots",
        {"start_from": "snapshots"},
        citation=_IADD_PAPER,
        needs_weights=True,
    ),
    Method(
        "iadd_flat",
        f"{_IADD} on flat experts",
        _AVERAGE,
        citation=_IADD_PAPER,
        flat_experts=True,
        needs_weights=True,
    ),
    Method(
        "iadd_datm",
        f"{_IADD} on flat experts, from growing start epochs with soft labels",
        {**_GROWTH, **_AVERAGE},
        citation=_IADD_PAPER,
        reads=RealData.ONCE,
        flat_experts=True,
        needs_weights=True,
    ),
    Method(
        "iadd",
        _IADD,
        citation=_IADD_PAPER,
        summary="trajectory matching under learned importance weights (IADD)",
        needs_weights=True,
    ),
)

# In the order of tables; a method that begins with another's set comes after it.
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}
DEFAULT_METHOD = next(method.name for method in _ALL if method.preferred)


def preferred_method(names: Iterable[str]) -> str:
    """Return the method that is delivered where no score may choose: the preferred one, else the last of `names`."""
    given = tuple(names)
    return next((name for name in given if METHODS[name].preferred), given[-1])
