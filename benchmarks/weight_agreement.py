"""Whether learned weights are a property of the task: how far W agrees between seeds, and between pools of experts.

    python -m benchmarks.weight_agreement --data $MEDIDISTILL_DATA/covid-cxr --work work/weight-trial

Makes the sets of `hypergradient` that are missing (two pools, two seeds; `benchmarks.weight_trial` freezes the W of the
first seed) and writes benchmarks/results/weight_agreement.json: Spearman's correlation of w over all parameters, its
median within tensors, and that of the tensors' mean log w, for sets of the same experts and of others. Experts of one
pool start from different weights too, so that a place in the vector is the same unit for none of them.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

from benchmarks.matching_limits import prepared
from benchmarks.weight_trial import CONFIG, Cell, Trial
from benchmarks.weightings import FAMILIES
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import load_config
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "weight_agreement.json"
_WORDS = {"same experts": "the same experts, other images", "other experts": "other experts and images"}


def agreement(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, float]:
    """Return Spearman's correlations of two W by parameter name: over all, within tensors, and of tensors' means.

    A tensor with fewer than three elements, or of equal ones, is left out of the median within tensors.
    """
    pairs = [(one[name].double().flatten().numpy(), other[name].double().flatten().numpy()) for name in sorted(one)]
    inside = [_rho(a, b) for a, b in pairs if len(a) > 2 and a.std() > 0 and b.std() > 0]
    means = [[float(np.log(part).mean()) for part in pair] for pair in pairs]
    return {
        "all": _rho(*(np.concatenate(part) for part in zip(*pairs, strict=True))),
        "within_tensors": float(np.median(inside)),
        "between_tensors": _rho(*np.asarray(means).T),
    }


def _rho(a: Any, b: Any) -> float:
    return float(stats.spearmanr(a, b).statistic)


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result."""
    lines = [
        "| two W of | pairs | all parameters | within tensors, median | between tensors |",
        "|---|---|---|---|---|",
    ]
    for kind, words in _WORDS.items():
        found = [pair for pair in result["pairs"] if pair["kind"] == kind]
        cells = [
            f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for values in ([pair[name] for pair in found] for name in ("all", "within_tensors", "between_tensors"))
        ]
        lines.append(f"| {words} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Make the sets, compare their W, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of covid-cxr")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trial")
    parser.add_argument("--ipc", type=int, default=1, help="images per class")
    options = parser.parse_args()
    raise_malloc_thresholds()
    config = load_config(CONFIG)
    data = prepared(options.data, options.work, config.ingest.image_size)
    trial = Trial(config, data, options.work, FAMILIES["parameters"])
    sets = {
        (pool, further): trial.donor(Cell(pool, options.ipc, "frozen_same_pool", 0), further)
        for pool, further in itertools.product(range(2), range(2))
    }
    pairs = [
        {
            "kind": "same experts" if a[0] == b[0] else "other experts",
            "sets": [list(a), list(b)],
            **agreement(sets[a].importance, sets[b].importance),
        }
        for a, b in itertools.combinations(sorted(sets), 2)
    ]
    result = {
        "ipc": options.ipc,
        "pairs": pairs,
        "command": shlex.join(["python", "-m", "benchmarks.weight_agreement", "--data", "DATA", "--work", "WORK"]),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(RESULT, result)
    print(table(read_json(RESULT)))


if __name__ == "__main__":
    main()
