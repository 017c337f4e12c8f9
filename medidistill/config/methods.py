"""The distillation methods by name: what each changes in the settings that all of them share.

All run on the same experts, the same engine and the same evaluation; a name here is one flag on the command line.
Where a published method does more than its line says, `docs/methods.md` names the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FLAT_EXPERTS", "METHODS", "METHOD_TITLES"]

_PLAIN = {"importance": {"enabled": False}}
_NO_AUGMENTATION = {
    **dict.fromkeys(("shift", "scale", "rotate", "brightness", "contrast", "cutout"), 0.0),
    "flip": False,
}
_GROWTH: dict[str, Any] = {"start_growth": 0.5, "label_init": "expert", "soft_labels": True}

# What each method changes in `distill`; a run's `methods` section may change more.
METHODS: Mapping[str, Mapping[str, Any]] = {
    # moments of features, released once with noise; no expert
    "dp_stats": {**_PLAIN, "objective": "statistics"},
    # gradients of real and distilled images at one point, without and with shared augmentation
    "dc": {**_PLAIN, "objective": "gradient", "augment": _NO_AUGMENTATION},
    "dsa": {**_PLAIN, "objective": "gradient"},
    # mean features of random networks
    "dm": {**_PLAIN, "objective": "distribution"},
    # mean features at snapshots of experts, with a class constraint from later ones
    "snapshots": {**_PLAIN, "objective": "snapshots", "lr_schedule": "cosine", "expert_labels": True},
    # the real images' loss of a ridge regression on features of networks that train on the set
    "kernel": {**_PLAIN, "objective": "kernel", "lr_schedule": "cosine", "soft_labels": True},
    # the same from the set of `snapshots`, whose experts label the images in the end
    "kernel_warm": {
        **_PLAIN,
        "objective": "kernel",
        "lr_schedule": "cosine",
        "soft_labels": True,
        "expert_labels": True,
        "start_from": "snapshots",
    },
    # where the student ends against where an expert went
    "mtt": _PLAIN,
    "mtt_warm": {**_PLAIN, "start_from": "snapshots"},
    "mtt_soft": {**_PLAIN, "soft_labels": True},
    "ftd": {**_PLAIN, "ema": 0.9995},
    "datm": {**_PLAIN, **_GROWTH, "ema": 0.9995},
    # MTT with parameters left out, or weighted at random
    "pp": {"importance": {"enabled": True, "kind": "prune", "prune_by": "residual"}},
    "pp_movement": {"importance": {"enabled": True, "kind": "prune", "prune_by": "movement"}},
    "progressive": {"importance": {"enabled": True, "kind": "progressive"}},
    "random_w": {"importance": {"enabled": True, "kind": "random"}},
    "fisher_w": {"importance": {"enabled": True, "kind": "learned", "start": "fisher", "lr": 0.0}},
    # the real-data loss of a student trained on the set
    "bptt": {**_PLAIN, "objective": "student_loss"},
    "bptt_soft": {**_PLAIN, "objective": "student_loss", "soft_labels": True},
    # learned weights, alone and with what the others bring
    "iadd_literal": {"importance": {"constraint": "none", "direction": "descend", "keep_scale": False}},
    "iadd_balanced": {"importance": {"constraint": "balanced", "direction": "descend"}},
    "iadd_entropic": {"importance": {"constraint": "entropic", "direction": "descend"}},
    "iadd_fisher": {"importance": {"start": "fisher"}},
    "iadd_soft": {"soft_labels": True},
    "iadd_warm": {"start_from": "snapshots"},
    "iadd_flat": {"ema": 0.9995},
    "iadd_datm": {**_GROWTH, "ema": 0.9995},
    "iadd": {},
}

# Methods that match flat trajectories: their experts are trained with sharpness-aware steps (`experts.flat_rho`).
FLAT_EXPERTS = frozenset({"ftd", "datm", "iadd_flat", "iadd_datm"})

_IADD = "importance-aware adaptive dataset distillation (IADD; a reconstruction of arXiv 2401.15863)"
_MTT = "matching training trajectories (MTT; arXiv 2203.11932)"

_BPTT = "truncated back-propagation through a student's training (as RaT-BPTT; arXiv 2310.04189)"

# What each method is called in full, for people.
METHOD_TITLES: Mapping[str, str] = {
    "dp_stats": "matching of moments of features that were released once with noise",
    "dc": "matching of gradients (DC; arXiv 2006.05929)",
    "dsa": "matching of gradients under shared augmentation (DSA; arXiv 2102.08259)",
    "dm": "matching of mean features (DM; arXiv 2110.04181)",
    "snapshots": "matching of mean features at expert snapshots (as TGDD; arXiv 2512.02469)",
    "kernel": "ridge regression on features of networks trained on the set (as FRePo; arXiv 2206.00719)",
    "kernel_warm": "ridge regression on features (as FRePo and RCIG) from a set matched at snapshots",
    "mtt": _MTT,
    "mtt_warm": f"{_MTT} from a set matched at snapshots",
    "mtt_soft": f"{_MTT} with soft labels",
    "ftd": f"{_MTT} on flat experts (as FTD; arXiv 2211.11004)",
    "datm": f"{_MTT} from growing start epochs with soft labels (as DATM; arXiv 2310.05773)",
    "pp": f"{_MTT} without the parameters of the largest residual (as PP; arXiv 2209.14609)",
    "pp_movement": f"{_MTT} without the parameters of the smallest movement (as PP; arXiv 2209.14609)",
    "progressive": f"{_MTT} under a mask that grows (as HoP-TM; arXiv 2509.24177)",
    "random_w": f"{_MTT} under random weights, a control",
    "fisher_w": f"{_MTT} under the experts' Fisher information, frozen",
    "bptt": _BPTT,
    "bptt_soft": f"{_BPTT} with soft labels",
    "iadd_literal": f"{_IADD}, W unbounded",
    "iadd_balanced": f"{_IADD}, W balancing the shares of the loss",
    "iadd_entropic": f"{_IADD}, W under a pull to uniform",
    "iadd_fisher": f"{_IADD}, W beginning at the experts' Fisher information",
    "iadd_soft": f"{_IADD} with soft labels",
    "iadd_warm": f"{_IADD} from a set matched at snapshots",
    "iadd_flat": f"{_IADD} on flat experts",
    "iadd_datm": f"{_IADD} on flat experts, from growing start epochs with soft labels",
    "iadd": _IADD,
}
