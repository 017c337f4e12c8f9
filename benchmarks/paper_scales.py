"""What the tables of the papers are about, and how much of a recipe each scale does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CPU_ONLY", "SCALES", "SMALL_SIDE", "TABLES", "Scale", "Table"]


@dataclass(frozen=True)
class Table:
    """What a table is about.

    Args:
        data: the set, see `benchmarks.data`.
        recipes: a configuration for each number of images per class.
        architectures: what is trained; sets are distilled with the first.
        arms: what is compared where `--methods` does not say; empty: everything.
    """

    data: str
    recipes: Mapping[int, str]
    architectures: tuple[str, ...] = ("convnet",)
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """How much of a recipe is done.

    Args:
        seeds: how many, paired over all methods.
        train_images: real images that are used; 0: all.
        eval_images: images of validation and of test that are used, where a set is no clinical one; 0: all.
        classes: first classes that are used; 0: all.
        ipc: numbers of images per class; empty: all that the table has.
        start: where methods begin, other than those that are shown from both.
        overrides: settings, as `--set` takes them, over the recipe.
    """

    seeds: int
    train_images: int = 0
    eval_images: int = 0
    classes: int = 0
    ipc: tuple[int, ...] = ()
    start: str = "real"
    overrides: tuple[str, ...] = ()


_CROSS = ("convnet", "alexnet", "vgg11", "resnet18", "vit", "densenet121")
_CROSS_ARMS = ("full", "random", "kmeans", "dm", "mtt", "bptt", "iadd", "iadd_balanced")
TABLES = {
    "cifar10": Table("cifar10", {ipc: f"paper/cifar10-ipc{ipc}" for ipc in (1, 10, 50)}),
    "cifar100": Table("cifar100", {ipc: f"paper/cifar100-ipc{ipc}" for ipc in (1, 10, 50)}),
    "tinyimagenet": Table("tinyimagenet", {ipc: f"paper/tinyimagenet-ipc{ipc}" for ipc in (1, 10, 50)}),
    "covid": Table("covid-cxr", {ipc: f"paper/covid-ipc{ipc}" for ipc in (1, 5, 10, 50)}),
    "cross_arch": Table("covid-cxr", {ipc: f"paper/covid-ipc{ipc}" for ipc in (1, 10)}, _CROSS, _CROSS_ARMS),
}
# rates that suit few steps: Adam on cosine amplitudes of images that begin as noise of deviation 0.2; chosen on
# covid-cxr's validation split for MTT (pipelines/configs/covid-cxr.yaml) and used for every method and every set
_SHORT = (
    "methods={}",
    "distill.image_optimizer=adam",
    "distill.basis=cosine",
    "distill.lr_images=0.05",
    "distill.init_std=0.2",
    "distill.init=noise",
    "distill.alpha=0.05",
    "distill.lr_alpha=0.01",
    "distill.batch_size=20",
    "distill.min_start=0",
)
SCALES = {
    "smoke": Scale(
        seeds=1,
        train_images=200,
        eval_images=100,
        classes=3,
        ipc=(1, 5, 10),
        start="noise",
        overrides=(
            *_SHORT,
            "network.width=4",
            "experts.count=1",
            "experts.epochs=3",
            "experts.batch_size=32",
            "distill.outer_steps=3",
            "distill.inner_steps=2",
            "distill.warmup_steps=2",
            "distill.real_batch=12",
            "distill.alpha=0.01",  # an epoch is two steps here: a faster student leaves the segment far behind
            "distill.max_start=2",
            "distill.expert_epochs=1",
            "distill.validate_every=0",
            "distill.importance.growth_every=1",
            "evaluate.num_networks=1",
            "evaluate.full_epochs=1",
            "evaluate.small_set_training.steps=5",
            "evaluate.adaptive.steps=5",
        ),
    ),
    "cpu": Scale(
        seeds=5,
        train_images=3000,
        eval_images=500,
        classes=20,
        ipc=(1, 10),
        start="noise",
        overrides=(
            *_SHORT,
            "ingest.normalisation=per_image",  # a ZCA map of 3000 images would say little
            "network.width=8",
            "experts.count=4",
            "experts.epochs=4",
            "experts.batch_size=64",
            "experts.lr=0.02",
            "distill.outer_steps=60",
            "distill.inner_steps=5",
            "distill.max_start=4",
            "distill.expert_epochs=1",
            "distill.validate_every=0",
            "distill.checkpoint_every=60",
            "distill.warmup_steps=15",
            "distill.real_batch=60",
            "evaluate.num_networks=3",
            "evaluate.full_epochs=4",
            "evaluate.small_set_training.steps=40",
            "evaluate.small_set_training.batch_size=64",
            "evaluate.small_set_training.lr=0.005",
        ),
    ),
    "full": Scale(seeds=5),
}
SMALL_SIDE = {"covid": 32, "cross_arch": 32}  # pixels, where a recipe's 112 are too many for a CPU
_FEWER_STEPS = ("distill.outer_steps=30", "distill.checkpoint_every=30")  # many classes make them long
CPU_ONLY = dict.fromkeys(("cifar10", "cifar100", "tinyimagenet"), _FEWER_STEPS)  # over the scale `cpu`
