"""What the tables of the papers are about, and how much of a recipe each scale does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SCALES", "SMALL_SIDE", "TABLES", "Scale", "Table"]


@dataclass(frozen=True)
class Table:
    """What a table is about: a data set, a recipe for each ipc, and the architectures that are trained."""

    data: str
    recipes: Mapping[int, str]
    architectures: tuple[str, ...] = ("convnet",)


@dataclass(frozen=True)
class Scale:
    """How much of a recipe is done.

    Args:
        seeds: how many, paired over all methods.
        train_images: real images that are used; 0: all.
        classes: first classes that are used; 0: all.
        most_ipc: larger numbers of images per class are left out.
        start: where methods begin, other than those that are shown from both.
        overrides: settings, as `--set` takes them, over the recipe.
    """

    seeds: int
    train_images: int = 0
    classes: int = 0
    most_ipc: int = 1_000_000
    start: str = "real"
    overrides: tuple[str, ...] = ()


_CROSS = ("convnet", "resnet18", "vgg11", "alexnet", "densenet121", "vit")
TABLES = {
    "cifar10": Table("cifar10", {ipc: f"paper/cifar10-ipc{ipc}" for ipc in (1, 10, 50)}),
    "cifar100": Table("cifar100", {ipc: f"paper/cifar100-ipc{ipc}" for ipc in (1, 10, 50)}),
    "tinyimagenet": Table("tinyimagenet", {ipc: f"paper/tinyimagenet-ipc{ipc}" for ipc in (1, 10, 50)}),
    "covid": Table("covid-cxr", {ipc: f"paper/covid-ipc{ipc}" for ipc in (1, 5, 10, 50)}),
    "cross_arch": Table("covid-cxr", {10: "paper/covid-ipc10"}, _CROSS),
}
# rates that suit few steps: Adam on images that begin as noise of deviation 0.2
_SHORT = (
    "methods={}",
    "distill.image_optimizer=adam",
    "distill.lr_images=0.05",
    "distill.noise=0.2",
    "distill.init=noise",
    "distill.alpha=0.05",
    "distill.lr_alpha=0.01",
    "distill.batch_size=20",
)
SCALES = {
    "smoke": Scale(
        seeds=1,
        train_images=200,
        classes=3,
        most_ipc=10,
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
            "distill.min_start=0",
            "distill.max_start=2",
            "distill.expert_epochs=1",
            "distill.validate_every=0",
            "distill.importance.growth_every=1",
            "evaluate.networks=1",
            "evaluate.full_epochs=1",
            "evaluate.small.steps=5",
        ),
    ),
    "cpu": Scale(
        seeds=3,
        train_images=5000,
        classes=20,
        most_ipc=10,
        start="noise",
        overrides=(
            *_SHORT,
            "network.width=32",
            "experts.count=6",
            "experts.epochs=10",
            "experts.batch_size=64",
            "experts.lr=0.02",
            "distill.outer_steps=100",
            "distill.inner_steps=10",
            "distill.min_start=0",
            "distill.max_start=6",
            "distill.expert_epochs=2",
            "distill.validate_every=25",
            "evaluate.networks=3",
            "evaluate.full_epochs=15",
            "evaluate.small.steps=200",
            "evaluate.small.batch_size=64",
        ),
    ),
    "full": Scale(seeds=5),
}
SMALL_SIDE = {"covid": 64, "cross_arch": 64}  # pixels, where a recipe's 112 are too many for a CPU
