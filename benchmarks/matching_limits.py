"""How close matching can come, and how much of that any weights could change: covid-cxr at 32 x 32.

    python -m benchmarks.matching_limits --data $MEDIDISTILL_DATA/covid-cxr --work work/limits

A stopped command goes on: experts, continuations and the distilled set lie in the work folder. It reads training images
alone; no split is scored. The result is benchmarks/results/matching_limits.json.

**Targets.** From a snapshot theta_i of an expert, networks are trained on from rest on the same real images in orders
of their own. For each kind of target, three figures, each a share of the squared distance from theta_i to the target:

- `real`: the matching loss of training on the *real* images for as long, in an order that the target has not seen;
- `real_best_length`: the same where the length of the movement is free, 1 - cos^2 of both movements;
- `order`: the variance of the target itself over orders. No set can lower it, whatever its size.

**Weights.** A set of MTT is made on pool A. On segments of pools A and B the student's squared residual is split into
the part that is noise of the target (`order`) and the rest (`benchmarks.noise_shares`). Weights can only choose among
parameters: reported is the noise share of the loss that is left when the least noisy parameters are kept which hold
together a part of the loss, chosen in hindsight on B and chosen on A and scored on B. `gradient` is the noise share of
the squared gradient of the images, at w = 1 and with the inverse variance measured on pool A as w^2.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import data as benchmark_data
from benchmarks.matching_limits_page import targets_table, weights_table
from benchmarks.noise_shares import (
    Residual,
    by_tensor,
    coverage_share,
    left_over,
    left_over_at_best_length,
    rank_correlation,
    residual,
    total_variance,
)
from medidistill.config import (
    AugmentConfig,
    DistillConfig,
    ExpertConfig,
    ImportanceConfig,
    IngestConfig,
    NetworkConfig,
    TrainingConfig,
    as_dict,
)
from medidistill.distillation import (
    DistillProblem,
    Experts,
    InnerStep,
    adjoint_gradient,
    distill,
    draw_plan,
    train_experts,
)
from medidistill.distillation.experts import train_further
from medidistill.distillation.inverse_variance import InverseVarianceWeights
from medidistill.distilled_set import DistilledSet
from medidistill.files import load_tensors, read_json, save_tensors, write_json
from medidistill.networks import ParameterLayout, raise_malloc_thresholds
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions
from medidistill.seeding import stream

RESULT = Path(__file__).parent / "results" / "matching_limits.json"
CLASSES = ("COVID-19", "Normal", "Pneumonia")
COVERAGE = (0.875, 0.75, 0.5, 0.25)
_MILD = AugmentConfig(shift=0.05, scale=0.1, rotate=5, brightness=0.1, contrast=0.1)


@dataclasses.dataclass(frozen=True)
class Pool:
    """Experts and how far their segments go.

    Args:
        training: of the experts.
        length: K, epochs from start to target.
        starts: i, in epochs.
        orders: R, how many networks are trained on from each start.
        seed: of the experts.
    """

    training: ExpertConfig
    length: int
    starts: tuple[int, ...]
    orders: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of the whole measurement: pools A and B of plain experts, pool G on whole batches, and the set."""

    side: int
    network: NetworkConfig
    pools: Mapping[str, Pool]
    distill: DistillConfig


_PLAIN = ExpertConfig(count=4, epochs=10, batch_size=64, lr=0.02, augment=_MILD)
_WHOLE = ExpertConfig(count=4, epochs=12, batch_size=100_000, lr=0.1, momentum=0.9, augment=_MILD)
_SET = DistillConfig(
    ipc=10,
    outer_steps=200,
    inner_steps=10,
    expert_epochs=2,
    max_start=4,
    importance=ImportanceConfig(enabled=False),
    alpha=0.05,
    validate_every=0,
    checkpoint_every=50,
)


def _fewer(training: ExpertConfig, epochs: int) -> ExpertConfig:
    return dataclasses.replace(training, count=2, epochs=epochs)


FULL = Scale(
    32,
    NetworkConfig(width=32, depth=3),
    {
        "A": Pool(_PLAIN, 2, (0, 1, 3, 7), 4, 0),
        "B": Pool(_PLAIN, 2, (0, 1, 3), 4, 1),
        "G": Pool(_WHOLE, 4, (0, 2, 6), 2, 0),
    },
    _SET,
)
SMALL = Scale(  # a quarter of the work
    32,
    FULL.network,
    {
        "A": Pool(_fewer(_PLAIN, 10), 2, (0, 1, 3, 7), 4, 0),
        "B": Pool(_fewer(_PLAIN, 5), 2, (0, 3), 4, 1),
        "G": Pool(_fewer(_WHOLE, 8), 4, (0, 4), 2, 0),
    },
    dataclasses.replace(_SET, outer_steps=100),
)
SCALES = {"small": SMALL, "full": FULL}


class Measurement:
    """The measurement in a work folder.

    Args:
        scale: sizes.
        data: the images; training images alone are used.
        work: folder of all files.
    """

    def __init__(self, scale: Scale, data: PreparedData, work: Path) -> None:
        self.scale, self.data, self.work = scale, data, work
        self.images, self.labels = data.training_tensors()

    def experts(self, name: str) -> Experts:
        """Train a pool, or open it."""
        pool, count = self.scale.pools[name], len(self.data.train.class_names)
        files = train_experts(
            self.images,
            self.labels,
            num_classes=count,
            network=self.scale.network,
            config=pool.training,
            seed=pool.seed,
            folder=self.work / f"experts-{name}",
        )
        return Experts(files)

    def ends(self, name: str, experts: Experts, number: int, start: int) -> dict[str, Tensor]:
        """Return ends of training on: `short` (R, P) after K epochs, and of the first order `far` (P,) at the last."""
        path = self.work / f"ends-{name}" / f"{number}-{start}.safetensors"
        if path.is_file():
            return load_tensors(path)[0]
        pool, begin = self.scale.pools[name], experts.members[number].snapshot(start)
        network = experts.architecture.make_network(stream(0, "layout"))
        short, far = [], begin
        for order in range(pool.orders):
            epochs = pool.training.epochs - start if name == "A" and order == 0 else pool.length
            drawn = [stream(pool.seed, "limits", name, number, start, order)]
            training = train_further(self.images, self.labels, network, pool.training, begin[None], epochs, drawn)
            for epoch, (theta, _) in enumerate(training, start=1):
                if epoch == pool.length:
                    short.append(theta[0].clone())
                far = theta[0].clone() if order == 0 else far
        found = {"short": torch.stack(short), "far": far}
        save_tensors(path, found, {"kind": "limits"}, mode=0o600)
        return found

    def targets(self, name: str) -> list[dict[str, Any]]:
        """Return a row for each kind of target, expert and start of a pool."""
        experts, pool, rows = self.experts(name), self.scale.pools[name], []
        for number in range(len(experts)):
            for start in pool.starts:
                begin, own = experts.segment(number, start, pool.length)
                last = experts.members[number].snapshot(experts.epochs)
                ends = self.ends(name, experts, number, start)
                found = _targets_of(name, pool, start, begin, own, last, ends)
                rows += [{"expert": number, "start": start, **row} for row in found]
                print(f"targets {name} {number} {start}", flush=True)
        return rows

    def distilled(self) -> DistilledSet:
        """Return the set of MTT on pool A."""
        folder, scale = self.work / "mtt", self.scale
        if not (folder / "distilled.safetensors").is_file():
            problem = DistillProblem(
                [member.path for member in self.experts("A").members],
                class_names=self.data.train.class_names,
                normalisation=self.data.normalisation,
                training=TrainingConfig(),
                seed=0,
            )
            result = distill(problem, scale.distill, folder=folder, resume=True)
            write_json(folder / "losses.json", [entry["loss"] for entry in result.history])
        return DistilledSet.load(folder / "distilled.safetensors")

    def students(self, name: str, distilled: DistilledSet) -> list[tuple[int, Residual, Any]]:
        """Return, for each segment of a pool, its start, the residual, and gradients of the images by W and target."""
        experts, pool, settings = self.experts(name), self.scale.pools[name], self.scale.distill
        network = experts.architecture.make_network(stream(0, "layout"))
        step, images = InnerStep(network), distilled.images
        one_hot = torch.nn.functional.one_hot(distilled.labels).to(images.dtype)
        alpha = torch.tensor(distilled.alpha)
        found = []
        for number in range(len(experts)):
            for start in (one for one in pool.starts if one < settings.max_start):
                begin, own = experts.segment(number, start, pool.length)
                targets = torch.stack([own, *self.ends(name, experts, number, start)["short"]])
                plan = draw_plan(len(images), settings.inner_steps, 0, settings.augment, stream(0, "plan", start))
                movement = (targets - begin).square().sum(1).mean()

                def gradients(square: Tensor, given: Any = (begin, targets, plan, movement)) -> Tensor:
                    theta, aims, steps, scale = given
                    kept: list[Tensor] = []
                    for aim in aims:

                        def end_loss(end: Tensor, aim: Tensor = aim, scale: Tensor = scale) -> tuple[Tensor, Tensor]:
                            difference = end - aim
                            return (square * difference.square()).sum() / scale, 2 * square * difference / scale

                        made = adjoint_gradient(step, theta, images, one_hot, alpha, steps, end_loss)
                        kept.append(made.images.flatten())
                    return torch.stack(kept)

                ends: list[Tensor] = []

                def keep_end(end: Tensor, kept: list[Tensor] = ends) -> tuple[Tensor, Tensor]:
                    kept.append(end)
                    return end.sum() * 0, torch.zeros_like(end)

                adjoint_gradient(step, begin, images, one_hot, alpha, plan, keep_end)
                found.append((start, residual(begin, targets, ends[0]), gradients))
        return found

    def weights(self) -> dict[str, Any]:
        """Return what weights could change, on the set of MTT."""
        distilled = self.distilled()
        experts = self.experts("A")
        layout = ParameterLayout.of(experts.architecture.make_network(stream(0, "layout")))
        group = torch.repeat_interleave(torch.arange(len(layout.sizes)), torch.tensor(layout.sizes))
        parts = {name: self.students(name, distilled) for name in ("A", "B")}
        sums = {name: _summed(found) for name, found in parts.items()}
        inverse = InverseVarianceWeights(layout, ImportanceConfig(kind="inverse_variance"), experts.moving(layout))
        inverse.init_from_variance(sums["A"].noise)
        kinds = {"ones": torch.ones(len(layout)), "inverse_variance": inverse.vector().square().float()}
        gradient = {kind: _gradient_share(parts["B"], square) for kind, square in kinds.items()}
        starts = sorted({start for start, _, _ in parts["B"]})
        rows = [
            {
                "keep": keep,
                "by": by,
                "hindsight": coverage_share(sums["B"], sums["B"], keep, places),
                "beforehand": coverage_share(sums["A"], sums["B"], keep, places),
            }
            for by, places in (("parameter", None), ("tensor", group))
            for keep in COVERAGE
        ]
        halves = [_summed(parts["B"][offset::2]) for offset in (0, 1)]
        return {
            "losses": read_json(self.work / "mtt" / "losses.json"),
            "alpha": distilled.alpha,
            "pools": {name: {"loss": one.loss, "noise_share": one.share} for name, one in sums.items()},
            "starts": [
                {"start": start, "loss": one.loss, "noise_share": one.share}
                for start in starts
                for one in [_summed([part for part in parts["B"] if part[0] == start])]
            ],
            "coverage": rows,
            "gradient": gradient,
            "effective_share": inverse.effective_share(),
            "agreement": rank_correlation(halves[0], halves[1]),
            "tensors": by_tensor(sums["B"], dict(layout.slices())),
        }


def _targets_of(
    name: str, pool: Pool, start: int, begin: Tensor, own: Tensor, last: Tensor, ends: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """Return the rows of one segment."""
    short = ends["short"]

    def row(kind: str, target: Tensor, others: Tensor, variance: float) -> dict[str, Any]:
        scale = float((target - begin).double().square().sum())
        pairs = [(fn(begin, target, one)) for fn in (left_over, left_over_at_best_length) for one in others]
        half = len(others)
        return {
            "target": kind,
            "real": sum(pairs[:half]) / half,
            "real_best_length": sum(pairs[half:]) / half,
            "order": variance / scale,
        }

    if name == "G":  # a velocity that the snapshot does not hold is missing in what was trained on
        return [row("whole_batches", own, short, total_variance(short))]
    rows = [
        row("expert", own, short, total_variance(torch.cat([own[None], short]))),
        row("mean_continuation", short.mean(0), own[None], total_variance(short) / len(short)),
    ]
    if name == "A":
        part = pool.length / (pool.training.epochs - start)
        lines = torch.stack([begin + part * (far - begin) for far in (last, ends["far"])])
        rows.append(row("line", lines[0], short[1:], total_variance(lines)))
    return rows


def _summed(found: Any) -> Residual:
    total: Residual = found[0][1]
    for _, one, _ in found[1:]:
        total = total + one
    return total


def _gradient_share(found: Any, square: Tensor) -> float:
    """Return the noise share of the squared gradient of the images, over segments."""
    gradients = [function(square).double() for _, _, function in found]
    noise = sum(float(one.var(0, correction=1).sum()) for one in gradients)
    return noise / sum(float(one.square().sum(1).mean()) for one in gradients)


def collect(scale: Scale, data: PreparedData, work: Path) -> dict[str, Any]:
    """Measure what is not there yet, and return all of it."""
    measurement = Measurement(scale, data, work)
    rows = [{"pool": name, **row} for name in scale.pools for row in measurement.targets(name)]
    return {"targets": rows, "weights": measurement.weights(), "images": len(data.train)}


def prepared(root: Path, work: Path, side: int, classes: tuple[str, ...] = CLASSES) -> PreparedData:
    """Return the images at `side`, kept below the work folder."""
    config = IngestConfig(image_size=side, classes=classes)
    return benchmark_data.prepared(work / "ingest", "covid-cxr", root, config)


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of covid-cxr")
    parser.add_argument("--work", type=Path, required=True, help="folder of experts, continuations and the set")
    parser.add_argument(
        "--scale", choices=SCALES, default="full", help="small: two experts a pool, a quarter of the work"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    raise_malloc_thresholds()
    scale = SCALES[options.scale]
    found = collect(scale, prepared(options.data, options.work, scale.side), options.work)
    pools = {
        name: {**dataclasses.asdict(pool), "training": as_dict(pool.training)} for name, pool in scale.pools.items()
    }
    found |= {
        "scale": options.scale,
        "side": scale.side,
        "network": as_dict(scale.network),
        "pools": pools,
        "distill": as_dict(scale.distill),
        "command": shlex.join(
            ["python", "-m", "benchmarks.matching_limits", "--scale", options.scale, "--data", "DATA", "--work", "WORK"]
        ),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(options.output, found)
    print(targets_table(found), weights_table(found), sep="\n\n")


if __name__ == "__main__":
    main()
