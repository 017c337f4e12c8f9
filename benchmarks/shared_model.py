"""What a hospital would share with a trained network instead of a set: its bytes, and its accuracy in few bits.

    python -m benchmarks.shared_model WORK/side32-ipc10-seed0 WORK/side32-ipc10-seed1

Takes the experts of runs of `benchmarks.value`. Each parameter tensor is rounded to 2^b - 1 equal steps around 0, from
its largest value; the class frequencies of the training images are divided out of the predictions, as they are out of
the labels of a set. Balanced accuracy on validation, mean over the experts of a run. Writes
benchmarks/results/shared_model.json.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from medidistill.distillation import Experts
from medidistill.files import read_json, write_json
from medidistill.networks import ParameterLayout
from medidistill.pipeline import RunFolder
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions
from medidistill.seeding import stream

RESULT = Path(__file__).parent / "results" / "shared_model.json"
BITS = (32, 8, 4)


def rounded(value: Tensor, bits: int) -> Tensor:
    """Return a tensor in steps of its largest value over 2^(bits - 1) - 1; 32: as it is."""
    if bits == 32:
        return value
    step: Tensor = value.abs().max().clamp_min(torch.finfo(value.dtype).tiny) / (2 ** (bits - 1) - 1)
    levels: Tensor = (value / step).round()
    return levels * step


@torch.no_grad()
def measured(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each number of bits in one run."""
    run = RunFolder(folder)
    data = PreparedData.read(run.ingest)
    experts = Experts(sorted(run.experts.glob("expert-*.safetensors")))
    network = experts.architecture.make_network(stream(0, "layout"))
    layout = ParameterLayout.of(network)
    images, prior = data.normalised(data.val.images), torch.bincount(data.train.labels).log()
    rows = []
    for bits in BITS:
        scores = []
        for member in experts.members:
            layout.load(network, member.snapshot(experts.epochs))
            for parameter in network.parameters():
                parameter.copy_(rounded(parameter, bits))
            scores.append(balanced_accuracy_score(data.val.labels, (network(images) - prior).argmax(1)))
        rows.append(
            {
                "run": folder.name,
                "side": images.shape[-1],
                "bits": bits,
                "bytes": sum(parameter.numel() for parameter in network.parameters()) * bits // 8,
                "validation": float(np.mean(scores)),
            }
        )
    return rows


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown: a row for each side and number of bits, one score a run."""
    lines = ["| side | bits a parameter | bytes | validation balanced accuracy, by run |", "|---" * 4 + "|"]
    for side, bits in dict.fromkeys((row["side"], row["bits"]) for row in result["rows"]):
        rows = [row for row in result["rows"] if (row["side"], row["bits"]) == (side, bits)]
        scores = ", ".join(f"{row['validation']:.3f}" for row in rows)
        lines.append(f"| {side} | {bits} | {rows[0]['bytes']:,} | {scores} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the experts of the runs that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of `benchmarks.value`, with experts")
    options = parser.parse_args()
    rows = [row for folder in options.runs for row in measured(folder)]
    command = shlex.join(
        ["python", "-m", "benchmarks.shared_model", *(f"WORK/{folder.name}" for folder in options.runs)]
    )
    write_json(RESULT, {"rows": rows, "command": command, "hardware": hardware(), "versions": versions()})
    print(table(read_json(RESULT)))


if __name__ == "__main__":
    main()
