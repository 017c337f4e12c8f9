"""What is compared, how each arm may be trained, and the score that distillation is steered by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from medidistill.config import (
    DEFAULT_METHOD,
    FIXED_NETWORK_OBJECTIVES,
    METHODS,
    DistillConfig,
    RunConfig,
    TrainingConfig,
    preferred_method,
)
from medidistill.distillation import Experts
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, did_you_mean
from medidistill.evaluate import Arm, ArmRun, herding_subset, kmeans_subset, random_subset, run_arm
from medidistill.networks import Workers
from medidistill.pipeline.comparison.controls import PACKED, Packing, labelled_by_experts, packed_images, packings
from medidistill.pipeline.comparison.private_rival import NAME as DP_FULL
from medidistill.pipeline.comparison.private_rival import private_rival
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.seeding import derive_seed, stream

__all__ = [
    "FULL",
    "Delivery",
    "candidate_methods",
    "cell_file",
    "compared",
    "delivery",
    "first_init",
    "make_arm",
    "method_config",
    "methods",
    "training_of",
    "validation_score",
]

SCORING_NETWORKS = 2
FULL = "full"  # all real images, whatever the number of distilled ones
_RATES = (1.0, 3.0)


def methods(config: RunConfig) -> tuple[str, ...]:
    """Return the distillation methods that this run needs."""
    wanted = tuple(method for method in METHODS if method in config.evaluate.arms) or (DEFAULT_METHOD,)
    weighted = [method for method in wanted if METHODS[method].needs_weights]
    if weighted and not config.distill.importance.enabled:
        raise ConfigError(
            f"distill.importance.enabled=False: {weighted[0]!r} without W is trajectory matching with w = 1; set it to "
            f"true, or take {', '.join(weighted)} out of evaluate.arms and leave mtt in"
        )
    for method in wanted:
        start = config.distill_by(method).start_from
        if start and (start not in wanted or list(METHODS).index(start) >= list(METHODS).index(method)):
            earlier = ", ".join(list(METHODS)[: list(METHODS).index(method)])
            raise ConfigError(
                f"{method} begins with the set of {start!r} (distill.start_from), which must be compared too and be "
                f"one of {earlier}; add it to evaluate.arms"
            )
    for method in wanted:
        twin = METHODS[method].twin_without_augmentation
        if twin and config.distill_by(method).augment == config.distill_by(twin).augment:
            raise ConfigError(
                f"evaluate.arms: {method!r} without distill.augment is {twin!r}; set some augmentation or take one out"
            )
    return wanted


@dataclass(frozen=True)
class Delivery:
    """Which method's set is handed over, and why.

    Args:
        method: the method.
        scores: mean balanced accuracy on validation of every method that was compared for it; empty where the
            configuration names the method, where there is only one, or where nothing was evaluated yet.
    """

    method: str
    scores: Mapping[str, float]


def delivery(config: RunConfig, folder: RunFolder) -> Delivery:
    """Return the method whose set is audited and exported, by the rule of `deliver`.

    `auto` takes the best mean balanced accuracy on validation of the first architecture, the earlier method on a tie.
    Before the evaluation, and where experts are private (a choice on patients would be a touch without a mechanism),
    it takes the preferred method of the registry where that is compared, else the last one.
    """
    wanted = candidate_methods(config)
    if config.deliver != "auto":
        return Delivery(config.deliver, {})
    cells = {method: cell_file(folder, method, config.evaluate.architectures[0]) for method in wanted}
    chosen_by_rule = len(wanted) == 1 or config.experts.dp.enabled
    if chosen_by_rule or not all(cell.is_file() for cell in cells.values()):
        return Delivery(preferred_method(wanted), {})
    scores = {method: ArmRun.load(cell).val_score for method, cell in cells.items()}
    return Delivery(max(scores, key=lambda method: scores[method]), scores)


def candidate_methods(config: RunConfig) -> tuple[str, ...]:
    """Return the methods one of which is delivered, as far as that is known without an evaluation."""
    return methods(config) if config.deliver == "auto" else (config.deliver,)


def cell_file(folder: RunFolder, arm: str, architecture: str) -> Path:
    """Return the file of one cell of the comparison."""
    return folder.evaluate / "cells" / f"{arm}-{architecture}.safetensors"


def compared(config: RunConfig) -> tuple[str, ...]:
    """Return the arms in the order of the table: where experts are private, with `dp_full` after `full`.

    It has the ConvNet alone, which treats every image by itself; most other networks do not.
    """
    arms = config.evaluate.arms
    if not config.experts.dp.enabled or "convnet" not in config.evaluate.architectures:
        return arms
    place = arms.index("full") + 1 if "full" in arms else 0
    return (*arms[:place], DP_FULL, *arms[place:])


def method_config(config: RunConfig, method: str) -> DistillConfig:
    """Return the distillation settings of `method`. Raises `ConfigError` for an unknown one."""
    if method not in METHODS:
        raise ConfigError(f"--method {method}: must be one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}")
    return config.distill_by(method)


def first_init(config: RunConfig, method: str) -> str:
    """Return what the images of `method` began as, through every set that was begun with (`distill.start_from`).

    Args:
        config: the run; a `start_from` that `methods` would refuse ends the way.
        method: whose set it is.
    """
    passed, settings = {method}, config.distill_by(method)
    while settings.start_from in METHODS and settings.start_from not in passed:
        passed.add(settings.start_from)
        settings = config.distill_by(settings.start_from)
    return settings.init


def training_of(config: RunConfig, method: str) -> TrainingConfig:
    """Return the training that a set of `method` carries, one of those that the comparison tries.

    It is plain SGD at a constant rate, which becomes alpha, as a student's is; AdamW where the set has no alpha.
    """
    rules = config.evaluate
    if not method_config(config, method).learns_alpha:
        return rules.adaptive.plain_training()
    return dataclasses.replace(rules.small_set_training, momentum=0.0, schedule="constant")


def candidates(base: TrainingConfig, rate: float, adaptive: TrainingConfig) -> tuple[TrainingConfig, ...]:
    """Return the trainings that validation may choose from.

    Plain SGD at a constant rate, which is how a student is trained while images are distilled, and `base` with its
    momentum m and schedule; each at `rate` and at three times `rate`. A rate r with momentum moves as far as
    r / (1 - m) without, so `base` gets (1 - m) times the rate. Then `adaptive` at its rate and at a third of it. Real
    and distilled arms get the same number of choices, so that neither is favoured by tuning.
    """
    by_sgd = (
        choice
        for factor in _RATES
        for choice in (
            dataclasses.replace(base, lr=rate * factor, momentum=0.0, schedule="constant"),
            dataclasses.replace(base, lr=rate * factor * (1 - base.momentum)),
        )
    )
    return (*by_sgd, *(dataclasses.replace(adaptive, lr=adaptive.lr / factor) for factor in _RATES))


def _full_trainings(config: RunConfig, images: int) -> tuple[TrainingConfig, ...]:
    """Return how networks may be trained on all real images: by SGD, and by AdamW for one or two times the epochs."""
    rules, size = config.evaluate, min(config.experts.batch_size, images)
    steps = rules.full_epochs * math.ceil(images / size)
    by_sgd = dataclasses.replace(
        rules.small_set_training, steps=steps, batch_size=size, lr=rules.full_lr, augment=config.experts.augment
    )
    adaptive = dataclasses.replace(rules.adaptive.plain_training(), batch_size=size)
    return (by_sgd, *(dataclasses.replace(adaptive, steps=times * steps) for times in (1, 2)))


def make_arm(
    name: str,
    config: RunConfig,
    data: PreparedData,
    distilled: Mapping[str, DistilledSet],
    experts: Experts | None = None,
) -> Arm:
    """Return the arm `name` of the comparison, its images normalised.

    A few real images get a second form, labelled by the experts as a distilled set may be; validation chooses.

    Args:
        name: `full`, `dp_full`, `random`, `packed`, `kmeans`, `herding`, or a key of `distilled`.
        config: the run.
        data: prepared real images; only the training split is used here.
        distilled: the distilled set of each method, and of each bundle from elsewhere.
        experts: a pool that may label real images; None: real images have their class alone.
    """
    small, ipc, train = config.evaluate.small_set_training, config.distill.ipc, data.train
    adaptive = config.evaluate.adaptive.plain_training()
    if name in distilled:
        chosen = distilled[name]
        info = {"ipc": len(chosen) // chosen.num_classes}
        rate = chosen.alpha if _has_alpha(chosen) else small.lr / (1 - small.momentum)
        trainings = candidates(small, rate, adaptive)
        if config.experts.dp.enabled and name in METHODS:  # no choice on patients: it is trained as it is shipped
            trainings = (chosen.training,)
        return Arm(name, chosen.images, chosen.targets, trainings, info)
    if name == DP_FULL:
        return private_rival(config, data, methods(config))
    images = data.normalised(train.images)
    if name == FULL:
        trainings = _full_trainings(config, len(train))
        return Arm(name, images, train.labels, trainings, {"epochs": config.evaluate.full_epochs})
    if name == PACKED:
        return packed_images(config, images, train, experts, control_packings(config, images.shape[-1]))
    if name == "random":
        index = random_subset(train.labels, ipc, stream(config.seed, "arm", "random"), train.class_names)
    elif name == "herding":
        index = herding_subset(images, train.labels, ipc, train.class_names)
    else:
        index = kmeans_subset(images, train.labels, ipc, config.seed, train.class_names)
    trainings = candidates(small, small.lr / (1 - small.momentum), adaptive)
    arm = Arm(name, images[index], train.labels[index], trainings, {"ipc": ipc})
    by_experts = labelled_by_experts(arm, experts, train, adaptive)
    return dataclasses.replace(arm, forms=by_experts)


def control_packings(config: RunConfig, side: int) -> list[Packing]:
    """Return how the control of packed real images may be stored, by how the sets of the run are."""
    return packings(config.distill, [method_config(config, method) for method in methods(config)], side)


def _has_alpha(distilled: DistilledSet) -> bool:
    """Return whether alpha of a set is a rate that belongs to its images.

    A set that was matched at fixed networks has none of its own. The objective says so: the training in a bundle is
    what validation chose, whatever the set was distilled for. A set that states no objective is asked for its training.
    """
    made = distilled.recipe.get("distill")
    if isinstance(made, Mapping) and "objective" in made:
        return str(made["objective"]) not in FIXED_NETWORK_OBJECTIVES
    return distilled.training.optimizer == "sgd"


def validation_score(
    config: RunConfig,
    data: PreparedData,
    *,
    compile: bool = False,
    device: torch.device | str = "cpu",
    workers: Workers | None = None,
) -> Callable[[DistilledSet], float]:
    """Return the score that picks the best outer step: mean balanced accuracy on validation.

    Two small networks are trained on the candidate set with the recipe it carries, from the same weights and
    batches at every step and for every method, so that scores differ by the set alone. They are none of the
    networks that the comparison counts.

    Args:
        config: the run.
        data: its images; validation alone is read.
        compile: compile the networks' loss.
        device: where they are trained.
        workers: processes that train one network each; None: this process.
    """
    val_images = data.normalised(data.val.images).to(device)

    def score(candidate: DistilledSet) -> float:
        run = run_arm(
            Arm("score", candidate.images, candidate.targets, (candidate.training,)).to(device),
            network=config.network,
            val_images=val_images,
            val_labels=data.val.labels,
            test_images=None,
            num_classes=data.train.num_classes,
            networks=SCORING_NETWORKS,
            seed=derive_seed(config.seed, "score"),
            compile=compile,
            workers=workers,
        )
        return run.val_score

    return score
