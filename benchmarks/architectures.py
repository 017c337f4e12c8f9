"""One set on several architectures: who is trained on it, at what rate, what is kept of each, and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trained import trained
from benchmarks.weight_final import scored
from medidistill.config import NetworkConfig, RunConfig
from medidistill.errors import ConfigError, DivergedError
from medidistill.evaluate import Arm
from medidistill.pipeline.prepared import PreparedData

ARCHITECTURES = ("convnet", "resnet18", "vgg11", "alexnet", "densenet121", "vit")
RATE = 7e-4  # of AdamW, a third of what small ConvNets get


def keep_predictions(
    file: Path, arm: Callable[[], Arm], architecture: str, config: RunConfig, data: PreparedData, seed: int
) -> None:
    """Train one network on an arm and keep in `file` what it says of validation and test; no label of test is read.

    Nothing is done where the file is there, or the note beside it that the network diverged.
    """
    failed = file.with_suffix(".diverged")
    if file.is_file() or failed.is_file():
        return
    network = config.network if architecture == ARCHITECTURES[0] else NetworkConfig(name=architecture)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        trained(arm(), network, data, 1, seed, predict_test=True).save(file)
    except DivergedError:
        failed.touch()


def opened(file: Path, data: PreparedData) -> dict[str, float]:
    """Return balanced accuracy on validation and test of what a network predicted; chance for one that diverged.

    Raises:
        ConfigError: the network was not trained.
    """
    if not file.is_file() and not file.with_suffix(".diverged").is_file():
        raise ConfigError(f"{file}: missing; run all of them before the test split is opened")
    return scored(data.test.labels.numpy(), file)


def rows(found: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each arm and number of images the mean by architecture, and its fall from the ConvNet.

    Args:
        found: one mapping for each network: ipc, arm, architecture, test.
        order: of the arms.
    """
    groups: dict[tuple[int, str], dict[str, list[float]]] = {}
    for one in found:
        groups.setdefault((one["ipc"], one["arm"]), {}).setdefault(one["architecture"], []).append(one["test"])
    table = []
    for (ipc, arm), scores in sorted(groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        means = {name: float(np.mean(scores[name])) for name in ARCHITECTURES}
        others = float(np.mean([means[name] for name in ARCHITECTURES[1:]]))
        table.append(
            {
                "ipc": ipc,
                "arm": arm,
                "runs": len(scores[ARCHITECTURES[0]]),
                "means": means,
                "others": others,
                "fall": means[ARCHITECTURES[0]] - others,
            }
        )
    return table


def table(rows: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> str:
    """Return the Markdown of `rows`, whose arms a reader calls as `words` says."""
    lines = [
        "| images per class | trained on | runs | " + " | ".join(ARCHITECTURES) + " | mean of the others | fall |",
        "|---" * (5 + len(ARCHITECTURES)) + "|",
    ]
    for row in rows:
        scores = " | ".join(f"{row['means'][name]:.3f}" for name in ARCHITECTURES)
        lines.append(
            f"| {row['ipc']} | {words[row['arm']]} | {row['runs']} | {scores} | {row['others']:.3f} "
            f"| {row['fall']:.3f} |"
        )
    return "\n".join(lines)
