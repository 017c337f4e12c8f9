"""Learning curves of a final comparison of weightings: accuracy on validation over the wall time of the outer steps.

    python -m benchmarks.weight_curves --data $MEDIDISTILL_DATA --work work/plateau

Makes the sets of the first pool and seed of the comparison `plateau` once more, with as many outer steps, and scores
the images that were kept on the way as that comparison scores sets, on validation alone. Writes
benchmarks/results/weight_curves.json.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trained import trained
from benchmarks.weight_final import COMPARISONS, trial
from benchmarks.weight_trial import Cell
from medidistill.config import RunConfig, as_dict
from medidistill.distillation import DistillResult
from medidistill.errors import DivergedError
from medidistill.evaluate import Arm
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "weight_curves.json"


def curve(
    result: DistillResult, config: RunConfig, data: PreparedData, seed: int, *, compile: bool = True
) -> list[dict[str, float | None]]:
    """Return step, seconds, loss and score of the images that were kept on the way; no score where networks diverged.

    The loss is the mean over the outer steps since the images that were kept before.
    """
    seconds = np.cumsum([float(entry["seconds"]) for entry in result.history])
    losses = [float(entry["loss"]) for entry in result.history]
    rows: list[dict[str, float | None]] = []
    before = 0
    for step, images in result.evolution:
        arm = Arm("set", images, result.distilled.labels, (config.evaluate.adaptive.plain_training(),))
        score: float | None
        try:
            networks = config.evaluate.num_networks
            score = trained(arm, config.network, data, networks, seed, compile=compile).val_score
        except DivergedError:
            score = None
        rows.append(
            {
                "step": step,
                "seconds": float(seconds[step - 1]) if step else 0.0,
                "loss": float(np.mean(losses[before:step])) if step else None,
                "validation": score,
            }
        )
        before = step
    return rows


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: a row for each kept set."""
    lines = [
        "| images per class | weighting | outer step | seconds | matching loss | validation balanced accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for one in result["curves"]:
        for row in one["curve"]:
            loss = "" if row["loss"] is None else f"{row['loss']:.3f}"
            score = "diverged" if row["validation"] is None else f"{row['validation']:.3f}"
            lines.append(
                f"| {one['ipc']} | {one['weighting']} | {row['step']} | {row['seconds']:.0f} | {loss} | {score} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Make the sets, score what was kept on the way, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets of images")
    parser.add_argument("--work", type=Path, required=True, help="folder of the comparison `plateau`")
    parser.add_argument("--ipc", default="1", help="images per class, by commas")
    options = parser.parse_args()
    raise_malloc_thresholds()
    comparison = COMPARISONS["plateau"]
    config, data = comparison.config, comparison.prepared(options.data, options.work)
    steps, curves = read_json(options.work / "steps.json"), []
    for ipc in map(int, options.ipc.split(",")):
        again = trial(config, data, options.work, comparison.pool_seed, steps[str(ipc)])
        again.keeps_sets = False
        for arm in comparison.arms[ipc]:
            cell = Cell(0, ipc, arm, comparison.seeds[ipc][0])
            result, _ = again.distilled(cell)
            curves.append({"ipc": ipc, "weighting": arm, "curve": curve(result, config, data, cell.seed)})
    found = {
        "curves": curves,
        "config": as_dict(config),
        "command": shlex.join(["python", "-m", "benchmarks.weight_curves", "--data", "DATA", "--work", "WORK"]),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(RESULT, found)
    print(table(found))


if __name__ == "__main__":
    main()
